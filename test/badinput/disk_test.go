//go:build linux

package badinput

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestAFullDiskStopsWritesAndNothingElse runs a node on a disk of its own, which
// others then fill: up to the reserve, and up to the last byte.
func TestAFullDiskStopsWritesAndNothingElse(t *testing.T) {
	t.Parallel()
	n := onSmallDisk(t)
	disk := filepath.Dir(n.data)
	dir := filepath.Dir(n.file("docs/a.md", "# A\n\nThe depot opens at seven.\n"))
	n.ok("source", "add", "files", "docs", "--path", dir)
	n.ok("source", "sync", "docs", "--wait")
	key := n.key("before", "--scope", "ask", "--source", "docs")

	for _, left := range []int64{32 << 20, 0} {
		ballast := fill(t, disk, "ballast", left)
		full := fmt.Sprintf("with %d MiB left", left>>20)
		eventually(t, "writes stop "+full, func() error {
			if s := n.run("", nil, "key", "create", "late", "--scope", "ask"); s.code == 0 {
				return errors.New("a key was made")
			}
			return nil
		})
		n.wrong([]string{"key", "create", "late", "--scope", "ask"}, "MiB free", "reserve", "free some space")
		n.wrong([]string{"source", "add", "files", "more", "--path", dir}, "free some space")
		n.wrong([]string{"model", "import", n.file("x.gguf", "GGUF")}, "free")
		n.wrong([]string{"ask", "When does the depot open?"}, "free some space") // every question is on record first
		n.wrong([]string{"status"}, "read-only", "free some space")              // and so is whoever looks
		if s := n.run("", []string{"CLOISTER_TOKEN=" + key}, "source", "list"); s.code != 0 || !strings.Contains(s.out, "docs") {
			t.Errorf("%s a key cannot sign in and read the list: %s", full, s.err)
		}
		if a := n.send("GET", "/sources", nil, "Cookie", "__Host-cloister="+n.token()); a.status != 200 || !strings.Contains(a.body, "docs") {
			t.Errorf("%s the page of the sources is answered with %d", full, a.status)
		}
		n.send("POST", "/api/v1/ask", strings.NewReader(`{"question":"x"}`), bearer(n.token())...).isProblem(t, "a question "+full, 503, "free")
		n.run(password+"\n", nil, "login", "--user", "ada", "--password-stdin").isWrong(t, "free some space")
		// Whoever stops it now can start it again, as long as a byte is left.
		n.kill()
		if left == 0 {
			more := fill(t, disk, "more", 0) // of what the node let go
			n.run("", nil, "serve", "--data", n.data, "--listen", "localhost:0").isWrong(t, "the disk is full", "free some space")
			if err := os.Remove(more); err != nil {
				t.Fatal(err)
			}
		} else {
			n.start()
			if out := n.ok("source", "list"); !strings.Contains(out, "docs") {
				t.Errorf("%s the sources are lost: %s", full, out)
			}
		}
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		if left == 0 {
			n.start()
		}
		n.eventually("writing goes on by itself", func() error {
			if s := n.run("", nil, "key", "create", "after", "--scope", "ask"); s.code != 0 {
				return &failed{s}
			}
			return nil
		})
		if out := n.ok("ask", "When does the depot open?"); !strings.Contains(out, "seven") {
			t.Errorf("after the disk was full %s: %s", full, out)
		}
	}
	if strings.Contains(n.ok("key", "list"), "late") {
		t.Error("a key that was refused is there")
	}
	n.file("docs/b.md", "# B\n\nThe gate closes at nine.\n")
	n.ok("source", "sync", "docs", "--wait")
	if out := n.ok("ask", "When does the gate close?"); !strings.Contains(out, "nine") {
		t.Errorf("what came after the full disk is not found: %s", out)
	}
}

// onSmallDisk is a node whose data lies on a disk of its own, of 768 MiB, of which
// it keeps 64 in reserve.
func onSmallDisk(t *testing.T) *node {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root may mount the small disk that this test fills")
	}
	n := newNode(t, "--disk-reserve", "64MiB")
	disk := filepath.Join(filepath.Dir(n.home), "disk")
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=768m"); err != nil {
		t.Skipf("this machine mounts no tmpfs: %v", err)
	}
	t.Cleanup(func() {
		n.kill()
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	n.data = filepath.Join(disk, "data")
	n.start()
	n.setUp()
	return n
}

// fill writes a file until so many bytes are left on a disk.
func fill(t *testing.T, disk, name string, left int64) string {
	t.Helper()
	path := filepath.Join(disk, name)
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var st syscall.Statfs_t
	if err := syscall.Statfs(disk, &st); err != nil {
		t.Fatal(err)
	}
	size := int64(st.Bavail)*st.Bsize - left
	if size <= 0 {
		return path
	}
	for step := int64(1 << 20); step > 0; step /= 2 { // the node writes meanwhile
		err = syscall.Fallocate(int(f.Fd()), 0, 0, max(size, 1))
		if err == nil || left > 0 {
			break
		}
		size -= step
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestASyncThatFillsTheDisk stops at the reserve, and goes on when there is room.
func TestASyncThatFillsTheDisk(t *testing.T) {
	t.Parallel()
	n := onSmallDisk(t)
	const files = 24
	for i := range files {
		var b strings.Builder
		fmt.Fprintf(&b, "# Part %02d\n\nPart number %02d weighs %d grams.\n\n", i, i, i*7+1)
		for line := 0; b.Len() < 1<<20; line++ {
			fmt.Fprintf(&b, "Line %d of part %02d says that the sea is wide and the boat is small.\n", line, i)
		}
		n.file(fmt.Sprintf("docs/part%02d.txt", i), b.String())
	}
	ballast := fill(t, filepath.Dir(n.data), "ballast", 80<<20)
	n.ok("source", "add", "files", "docs", "--path", filepath.Join(filepath.Dir(n.home), "docs"))
	n.eventually("the sync has stopped", func() error {
		if out := n.ok("source", "list", "--json"); strings.Contains(out, `"running":true`) {
			return errors.New(out)
		}
		return nil
	})
	if out := n.ok("source", "list"); !strings.Contains(out, "failed") || !strings.Contains(out, "free some space") {
		t.Errorf("a sync that met the reserve ends with: %s", out)
	}
	var st syscall.Statfs_t
	if err := syscall.Statfs(n.data, &st); err != nil {
		t.Fatal(err)
	}
	if left := int64(st.Bavail) * st.Bsize >> 20; left < 32 {
		t.Errorf("the sync has left %d MiB of the reserve of 64", left)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	n.eventually("the sync goes on", func() error {
		if s := n.run("", nil, "source", "sync", "docs", "--wait"); s.code != 0 {
			return &failed{s}
		}
		return nil
	})
	if out := n.ok("ask", "How much does part number 07 weigh?"); !strings.Contains(out, "50 grams") {
		t.Errorf("a part is lost: %.500s", out)
	}
}
