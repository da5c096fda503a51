package blob

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cloister-os/cloister/store/sealed"
)

type testRing struct {
	active uint32
	keys   map[uint32][]byte
}

func newRing(ids ...uint32) *testRing {
	r := &testRing{keys: map[uint32][]byte{}}
	for _, id := range ids {
		r.keys[id] = make([]byte, 32)
		rand.Read(r.keys[id])
		r.active = id
	}
	return r
}

func (r *testRing) Active() (uint32, []byte)     { return r.active, r.keys[r.active] }
func (r *testRing) Key(id uint32) ([]byte, bool) { k, ok := r.keys[id]; return k, ok }

func openSealed(t *testing.T, dir string, r sealed.Ring) *Store {
	t.Helper()
	s, err := Open(dir, WithRing(r))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// found reports whether any file below dir holds the text.
func found(t *testing.T, dir, text string) bool {
	t.Helper()
	any := false
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		any = any || bytes.Contains(b, []byte(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return any
}

func TestBlobsAreSealedOnTheDisk(t *testing.T) {
	const canary = "blob-canary-77aa"
	big := bytes.Repeat([]byte(canary+" and more text. "), 20_000)
	var names [2]Hash
	for i, r := range []sealed.Ring{nil, newRing(1)} {
		dir := t.TempDir()
		s := openSealed(t, dir, r)
		h, err := s.PutBytes(t.Context(), big)
		if err != nil {
			t.Fatal(err)
		}
		names[i] = h
		p, err := s.Partial(Hash{1})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Put(0, []byte(canary)); err != nil {
			t.Fatal(err)
		}
		if got := found(t, dir, canary); got != (r == nil) {
			t.Errorf("ring %v: the files hold the text: %v", r != nil, got)
		}
		s = openSealed(t, dir, r)
		for _, at := range []int64{0, 65535, 65536, 200_000, int64(len(big)) - 7} {
			if b, err := s.ReadRange(h, at, at+7); err != nil || !bytes.Equal(b, big[at:at+7]) {
				t.Errorf("at %d: %q %v", at, b, err)
			}
		}
		if n, err := s.Size(h); err != nil || n != int64(len(big)) {
			t.Errorf("size %d %v", n, err)
		}
		if h2, err := s.PutBytes(t.Context(), big); err != nil || h2 != h {
			t.Errorf("put again: %v", err)
		}
	}
	if names[0] != names[1] {
		t.Error("a blob's name depends on how it is stored")
	}
}

func TestADamagedSealedBlobIsCorrupt(t *testing.T) {
	dir := t.TempDir()
	r := newRing(1)
	h, err := openSealed(t, dir, r).PutBytes(t.Context(), bytes.Repeat([]byte("x"), 100_000))
	if err != nil {
		t.Fatal(err)
	}
	s := openSealed(t, dir, r)
	good, err := os.ReadFile(s.path(h))
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{0, 9, 20, 40, 70_000, len(good) - 1} {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		for name, content := range map[string][]byte{"changed": bad, "cut": good[:i]} {
			if err := os.WriteFile(s.path(h), content, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := openSealed(t, dir, r).Read(h, 1<<20)
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, sealed.ErrUnknownKey) {
				t.Errorf("%s at %d: %v", name, i, err)
			}
		}
	}
}

func TestBlobsAreSealedAnew(t *testing.T) {
	dir := t.TempDir()
	r := newRing(1, 2)
	r.active = 1
	s := openSealed(t, dir, r)
	var names []Hash
	for i := range 20 {
		h, err := s.PutBytes(t.Context(), bytes.Repeat([]byte{byte(i)}, 70_000))
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h)
	}
	p, err := s.Partial(Hash{1})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Put(0, []byte("part")); err != nil {
		t.Fatal(err)
	}
	late, err := s.createFile(s.tmp(), "put-") // of a Put under way
	if err != nil {
		t.Fatal(err)
	}
	reader, _, err := s.Open(names[0])
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	r.active = 2
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Rekey(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Rekey(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	keys := func(want ...uint32) {
		t.Helper()
		ids, err := s.Keys(t.Context())
		slices.Sort(ids)
		if err != nil || !slices.Equal(ids, want) {
			t.Errorf("keys %v, want %v: %v", ids, want, err)
		}
	}
	keys(1, 2) // the one that is being written
	if err := late.abort(); err != nil {
		t.Fatal(err)
	}
	keys(2)
	delete(r.keys, 1)
	if b := make([]byte, 10); true {
		if _, err := reader.Read(b); err != nil {
			t.Errorf("a reader from before: %v", err)
		}
	}
	s = openSealed(t, dir, r)
	for i, h := range names {
		if b, err := s.Read(h, 1<<20); err != nil || b[0] != byte(i) {
			t.Errorf("blob %d: %v", i, err)
		}
	}
	if b, err := p.read(0); err != nil || string(b) != "part" {
		t.Errorf("%q %v", b, err)
	}
}
