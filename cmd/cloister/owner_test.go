package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestWhatRootWroteBelongsToTheFoldersOwner shows what is given away, and that a
// file which has a name elsewhere is not.
func TestWhatRootWroteBelongsToTheFoldersOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("giving files away needs root")
	}
	const service = 65534
	top := t.TempDir()
	dir, elsewhere := filepath.Join(top, "data"), filepath.Join(top, "elsewhere")
	for _, d := range []string{dir, filepath.Join(dir, "seal")} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(dir, service, service); err != nil {
		t.Fatal(err)
	}
	mine := filepath.Join(dir, "seal", "key")
	for _, f := range []string{mine, elsewhere} {
		if err := os.WriteFile(f, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(elsewhere, filepath.Join(dir, "planted")); err != nil {
		t.Fatal(err)
	}
	if err := giveToOwner(dir); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]uint32{mine: service, filepath.Dir(mine): service, elsewhere: 0} {
		var s syscall.Stat_t
		if err := syscall.Stat(path, &s); err != nil || s.Uid != want {
			t.Errorf("%s belongs to %d, wanted %d (%v)", path, s.Uid, want, err)
		}
	}
	if err := giveToOwner(filepath.Join(top, "none")); err != nil {
		t.Error(err)
	}
}
