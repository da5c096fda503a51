package powercut_test

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/cloister-os/cloister/store/storetest/powercut"
)

// The file system is worth its name only if it catches those who do not sync.
func TestCutForgetsWhatWasNotSynced(t *testing.T) {
	powercut.Need(t)
	disk, dir := powercut.New(), t.TempDir()
	m := disk.Mount(t, dir)
	path := func(name string) string { return filepath.Join(dir, name) }
	old, synced := bytes.Repeat([]byte("old "), 3000), bytes.Repeat([]byte("new "), 3000)

	create(t, path("kept"), old, true)
	create(t, path("unsynced"), old, true)
	create(t, path("renamed.tmp"), old, true)
	create(t, path("removed"), old, true)
	create(t, path("mapped"), make([]byte, 8192), true)
	syncPath(t, dir)

	create(t, path("kept"), synced, true)
	create(t, path("unsynced"), synced, false)
	create(t, path("unnamed"), synced, true) // its folder is never synced again
	must(t, os.Rename(path("renamed.tmp"), path("renamed")))
	must(t, os.Remove(path("removed")))
	mapped, err := os.OpenFile(path("mapped"), os.O_RDWR, 0)
	must(t, err)
	mem, err := syscall.Mmap(int(mapped.Fd()), 0, 8192, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	must(t, err)
	copy(mem, "synced")
	must(t, mapped.Sync())
	copy(mem[4096:], "not synced")
	must(t, m.Flush())
	must(t, m.Cut(rand.New(rand.NewPCG(1, 1)), 0))
	if err := os.WriteFile(path("late"), synced, 0o600); err == nil {
		t.Error("a write after the cut succeeded")
	}
	must(t, syscall.Munmap(mem))
	mapped.Close()
	must(t, m.Unmount())

	disk.Mount(t, dir)
	want(t, path("kept"), synced)
	want(t, path("unsynced"), old)
	want(t, path("renamed.tmp"), old)
	want(t, path("removed"), old)
	for _, gone := range []string{"unnamed", "renamed", "late"} {
		if _, err := os.Stat(path(gone)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", gone, err)
		}
	}
	b, err := os.ReadFile(path("mapped"))
	must(t, err)
	if !bytes.HasPrefix(b, []byte("synced")) || !bytes.Equal(b[4096:], make([]byte, 4096)) {
		t.Errorf("the mapped file holds %q and %q", b[:10], b[4096:4110])
	}
}

func TestLuckyCutKeepsSomeSectors(t *testing.T) {
	powercut.Need(t)
	disk, dir := powercut.New(), t.TempDir()
	m := disk.Mount(t, dir)
	path := filepath.Join(dir, "f")
	create(t, path, make([]byte, 64<<10), true)
	syncPath(t, dir)
	create(t, path, bytes.Repeat([]byte{1}, 64<<10), false)
	must(t, m.Cut(rand.New(rand.NewPCG(1, 2)), 0.5))
	must(t, m.Unmount())
	disk.Mount(t, dir)
	b, err := os.ReadFile(path)
	must(t, err)
	ones := 0
	for at := 0; at+512 <= len(b); at += 512 {
		if n := bytes.Count(b[at:at+512], []byte{1}); n == 512 {
			ones++
		} else if n != 0 {
			t.Fatalf("the sector at %d is torn", at)
		}
	}
	if ones == 0 || ones == len(b)/512 {
		t.Errorf("%d of %d sectors survived", ones, len(b)/512)
	}
}

// create writes a file without cutting it short first.
func create(t *testing.T, path string, data []byte, sync bool) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	must(t, err)
	defer f.Close()
	_, err = f.WriteAt(data, 0)
	must(t, err)
	if sync {
		must(t, f.Sync())
	}
}

func syncPath(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	must(t, f.Sync())
}

func want(t *testing.T, path string, data []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	must(t, err)
	if !bytes.Equal(got, data) {
		t.Errorf("%s holds %d bytes: %.20q", path, len(got), got)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
