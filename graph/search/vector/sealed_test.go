package vector

import (
	"bytes"
	"crypto/sha256"
	"os"
	"path/filepath"
	"testing"
)

// fixed is a ring by its active key.
type fixed uint32

func (r fixed) Active() (uint32, []byte) { k, _ := r.Key(uint32(r)); return uint32(r), k }

func (r fixed) Key(id uint32) ([]byte, bool) {
	k := sha256.Sum256([]byte{byte(id)})
	return k[:], id <= uint32(r)
}

const canary = "vector-canary-3e90"

func TestAFileIsSealed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v")
	for _, sealed := range []bool{false, true} { // a plain file begins anew under a ring
		var f *File
		var err error
		if f, err = Open(path, "m", 2, nil); sealed {
			f.Close()
			f, err = Open(path, "m", 2, fixed(1))
		}
		if err != nil || f.Count() != 0 {
			t.Fatal(f.Count(), err)
		}
		if err := f.Put(canary, [][]float32{{1, 0}}, 3); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil || bytes.Contains(b, []byte(canary)) == sealed {
			t.Errorf("sealed %v: the file holds the text: %v %v", sealed, !sealed, err)
		}
	}
}

func TestAFileIsSealedAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v")
	f, err := Open(path, "m", 2, fixed(1))
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range []string{"a", "b"} {
		if err := f.Put(g, [][]float32{{1, 0}}, 7); err != nil {
			t.Fatal(err)
		}
	}
	f.Close()
	if f, err = Open(path, "m", 2, fixed(2)); err != nil {
		t.Fatal(err)
	}
	if !f.keys[1] {
		t.Fatal("it is not known which keys the frames are sealed with")
	}
	if err := f.Rekey(2); err != nil {
		t.Fatal(err)
	}
	if err := f.Put("c", [][]float32{{0, 1}}, 8); err != nil {
		t.Fatal(err)
	}
	if len(f.keys) != 1 || !f.keys[2] {
		t.Errorf("keys %v", f.keys)
	}
	f.Close()
	if f, err = Open(path, "m", 2, fixed(2)); err != nil || f.Count() != 3 || f.Applied() != 8 || f.keys[1] {
		t.Errorf("%d vectors at %d, keys %v: %v", f.Count(), f.Applied(), f.keys, err)
	}
	f.Close()
}

// TestFramesCannotChangePlaces swaps two frames of the same length.
func TestFramesCannotChangePlaces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v")
	f, err := Open(path, "m", 2, fixed(1))
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range []string{"a", "b"} {
		if err := f.Put(g, [][]float32{{1, 0}}, 7); err != nil {
			t.Fatal(err)
		}
	}
	head := len(f.head())
	f.Close()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	half := (len(b) - head) / 2
	swapped := append(append(bytes.Clone(b[:head]), b[head+half:]...), b[head:head+half]...)
	if err := os.WriteFile(path, swapped, 0o600); err != nil {
		t.Fatal(err)
	}
	if f, err = Open(path, "m", 2, fixed(1)); err != nil || f.Count() != 0 {
		t.Errorf("%d vectors of swapped frames, %v", f.Count(), err)
	}
	f.Close()
}
