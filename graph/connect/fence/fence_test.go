package fence_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/cloister-os/cloister/graph/connect/fence"
)

// TestWhatIsClosedIsClosedUnderEveryName reaches for a closed folder by links and
// by folders around it.
func TestWhatIsClosedIsClosedUnderEveryName(t *testing.T) {
	dir := t.TempDir()
	data, beside := filepath.Join(dir, "data"), filepath.Join(dir, "beside")
	for _, d := range []string{filepath.Join(data, "seal"), filepath.Join(data, "gen", "deep", "er"), beside} {
		must(t, os.MkdirAll(d, 0o700))
	}
	must(t, os.WriteFile(filepath.Join(data, "seal", "root.key"), []byte("secret"), 0o600))
	must(t, os.WriteFile(filepath.Join(beside, "open.txt"), []byte("open"), 0o600))
	must(t, os.Link(filepath.Join(data, "seal", "root.key"), filepath.Join(beside, "hard.txt")))
	must(t, os.Symlink(filepath.Join(data, "gen", "deep"), filepath.Join(beside, "soft")))
	line, err := fence.New(data, filepath.Join(data, "seal"), filepath.Join(dir, "absent")).Look()
	must(t, err)

	for path, closed := range map[string]bool{
		data:                                           true,
		filepath.Join(data, "seal"):                    true,
		filepath.Join(data, "gen"):                     true,
		filepath.Join(data, "gen", "deep"):             true,
		filepath.Join(data, "gen", "deep", "er"):       true,
		filepath.Join(beside, "soft"):                  true,
		filepath.Join(beside, "..", "data", "seal"):    true,
		filepath.Join(beside, "soft", "..", "..") + "": true,
		beside: false,
		dir:    false, // it holds what is closed; the walk meets that by Closes
		"/":    false,
	} {
		f, err := os.Open(path)
		must(t, err)
		if err := line.Outside(f); errors.Is(err, fence.ErrClosed) != closed || !closed && err != nil {
			t.Errorf("%s: %v, closed: %v", path, err, closed)
		}
		f.Close()
	}
	for name, closed := range map[string]bool{"data": true, "data/seal": true, "data/seal/root.key": true, "beside/hard.txt": true, "beside": false, "beside/open.txt": false} {
		info, err := os.Stat(filepath.Join(dir, name))
		must(t, err)
		if line.Closes(info) != closed {
			t.Errorf("%s: closed is %v", name, !closed)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
