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
	dir := filepath.Dir(n.file("docs/a.md", "# A\n\nThe depot opens at seven.\n"))
	n.ok("source", "add", "files", "docs", "--path", dir)
	n.ok("source", "sync", "docs", "--wait")
	key := n.key("before", "--scope", "ask", "--source", "docs")

	for _, left := range []int64{32 << 20, 0} {
		ballast := fill(t, disk, left)
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
		out := n.ok("status")
		if !strings.Contains(out, "read-only") || !strings.Contains(out, "free some space") {
			t.Errorf("%s the status does not say so: %s", full, out)
		}
		if s := n.run("", []string{"CLOISTER_TOKEN=" + key}, "status"); s.code != 0 {
			t.Errorf("%s a key cannot sign in: %s", full, s.err)
		}
		n.send("POST", "/api/v1/ask", strings.NewReader(`{"question":"x"}`), bearer(n.token())...).isProblem(t, "a question "+full, 507, "free")
		n.run(password+"\n", nil, "login", "--user", "ada", "--password-stdin").isWrong(t, "free some space")
		// Whoever stops it now can start it again.
		n.kill()
		n.start()
		if out := n.ok("source", "list"); !strings.Contains(out, "docs") {
			t.Errorf("%s the sources are lost: %s", full, out)
		}
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
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

// fill writes a file until so many bytes are left on a disk.
func fill(t *testing.T, disk string, left int64) string {
	t.Helper()
	path := filepath.Join(disk, "ballast")
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
