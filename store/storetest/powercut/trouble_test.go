package powercut_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/cloister-os/cloister/store/storetest/powercut"
)

// TestFullAndCopied: a full disk takes nothing more and can be written again with
// room; a copy is the past, whatever the disk becomes.
func TestFullAndCopied(t *testing.T) {
	powercut.Need(t)
	disk, dir := powercut.New(), t.TempDir()
	m := disk.Mount(t, dir)
	name := filepath.Join(dir, "sub", "file")
	must(t, os.Mkdir(filepath.Dir(name), 0o700))
	create(t, name, []byte("monday"), true)
	must(t, m.Flush())
	monday := disk.Copy()

	disk.Fill(true)
	var s syscall.Statfs_t
	must(t, syscall.Statfs(dir, &s))
	if s.Bavail != 0 {
		t.Errorf("a full disk says that it has %d blocks free", s.Bavail)
	}
	if err := os.WriteFile(filepath.Join(dir, "more"), []byte("x"), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a file was made on a full disk: %v", err)
	}
	if err := writeAt(name, 1<<20); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a file grew on a full disk: %v", err)
	}
	must(t, writeAt(name, 0))
	disk.Fill(false)
	must(t, writeAt(name, 1<<20))
	must(t, m.Unmount())

	monday.Mount(t, dir)
	want(t, name, []byte("monday"))
}

func writeAt(name string, off int64) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte("tuesday"), off)
	return errors.Join(err, f.Sync(), f.Close())
}
