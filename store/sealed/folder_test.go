package sealed

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestPiecesOpenOnlyWithTheirFile(t *testing.T) {
	ring := newRing(1, 2)
	a, err := NewPieces(ring, "test")
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewPieces(ring, "test")
	if err != nil {
		t.Fatal(err)
	}
	ring.active = 1
	again, err := OpenPieces(ring, "test", a.ID())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, 5000} {
		p := bytesOf(n)
		piece := a.Seal(p)
		if got, err := again.Open(piece); err != nil || !bytes.Equal(got, p) {
			t.Errorf("%d bytes: %v", n, err)
		}
		if _, err := b.Open(piece); !errors.Is(err, ErrDamaged) {
			t.Errorf("in another file: %v", err)
		}
		piece[len(piece)/2] ^= 1
		if _, err := again.Open(piece); !errors.Is(err, ErrDamaged) {
			t.Errorf("changed: %v", err)
		}
	}
	for _, id := range []string{"", "sealed1:", "sealed1:AAAA", "other", a.ID() + "A"} {
		if _, err := OpenPieces(ring, "test", id); !errors.Is(err, ErrNotSealed) {
			t.Errorf("%q: %v", id, err)
		}
	}
	if _, err := OpenPieces(newRing(9), "test", a.ID()); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("unknown key: %v", err)
	}
}

func TestAFoldersKeysFollowTheNodes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "KEYS")
	ring := newRing(1, 2)
	ring.active = 1
	f, err := OpenFolder(path, ring)
	if err != nil {
		t.Fatal(err)
	}
	id, key := f.Active()
	if id != 1 || f.Wrapped() != 1 {
		t.Error(id, f.Wrapped())
	}
	ring.active = 2
	for range 2 { // the second does nothing
		if err := f.Rekey(); err != nil {
			t.Fatal(err)
		}
	}
	delete(ring.keys, 1)
	again, err := OpenFolder(path, ring)
	if err != nil {
		t.Fatal(err)
	}
	if id, fresh := again.Active(); id != 2 || bytes.Equal(key, fresh) || again.Wrapped() != 2 {
		t.Error(id, again.Wrapped())
	}
	if old, ok := again.Key(1); !ok || !bytes.Equal(old, key) {
		t.Error("the old key is gone")
	}
	if _, ok := again.Key(3); ok {
		t.Error("a key that was never made")
	}
	b, err := os.ReadFile(path)
	if err != nil || bytes.Contains(b, key) {
		t.Error("a key lies in clear", err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenFolder(path, ring); !errors.Is(err, ErrDamaged) {
		t.Errorf("a changed byte: %v", err)
	}
}

func TestAFolderRemembersABoundedNumberOfKeys(t *testing.T) {
	ids := make([]uint32, maxFolderKeys+10)
	for i := range ids {
		ids[i] = uint32(i + 1)
	}
	ring := newRing(ids...)
	ring.active = 1
	f, err := OpenFolder(filepath.Join(t.TempDir(), "KEYS"), ring)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		ring.active = id
		if err := f.Rekey(); err != nil {
			t.Fatal(err)
		}
	}
	id, _ := f.Active()
	if _, ok := f.Key(id - maxFolderKeys); ok || id != uint32(len(ids)) {
		t.Error("too many keys", id)
	}
	if _, ok := f.Key(id - maxFolderKeys + 1); !ok {
		t.Error("too few keys")
	}
}
