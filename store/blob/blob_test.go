package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

func openIn(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func put(t testing.TB, s *Store, text string) Hash {
	t.Helper()
	h, n, err := s.Put(t.Context(), strings.NewReader(text))
	if err != nil || n != int64(len(text)) {
		t.Fatalf("put: %d, %v", n, err)
	}
	return h
}

func names(t testing.TB, s *Store) (out []Hash) {
	t.Helper()
	for info, err := range s.List() {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, info.Hash)
	}
	return out
}

func TestWhatIsPutCanBeRead(t *testing.T) {
	dir := t.TempDir()
	s := openIn(t, dir)
	for _, text := range []string{"", "a", strings.Repeat("long ", 100_000)} {
		h := put(t, s, text)
		if h != sha256.Sum256([]byte(text)) {
			t.Errorf("the name is %s", h)
		}
		s = openIn(t, dir)
		got, err := s.Read(h, 1<<20)
		if err != nil || string(got) != text {
			t.Errorf("read %d bytes, %v", len(got), err)
		}
		f, size, err := s.Open(h)
		if err != nil || size != int64(len(text)) {
			t.Fatalf("open: %d, %v", size, err)
		}
		all, err := io.ReadAll(f)
		if err = errors.Join(err, f.Close()); err != nil || string(all) != text {
			t.Errorf("open and read: %d bytes, %v", len(all), err)
		}
	}
	if n := len(names(t, s)); n != 3 {
		t.Errorf("%d blobs", n)
	}
}

func TestRangesAreExactOrRefused(t *testing.T) {
	s := openIn(t, t.TempDir())
	text := "0123456789"
	h := put(t, s, text)
	rapid.Check(t, func(rt *rapid.T) {
		start, end := rapid.Int64Range(-2, 12).Draw(rt, "start"), rapid.Int64Range(-2, 12).Draw(rt, "end")
		got, err := s.ReadRange(h, start, end)
		if start < 0 || end < start || end > 10 {
			if err == nil {
				rt.Fatalf("[%d, %d) gave %q", start, end, got)
			}
			return
		}
		if err != nil || string(got) != text[start:end] {
			rt.Fatalf("[%d, %d) gave %q, %v", start, end, got, err)
		}
	})
}

func TestDamagedBytesAreNotReleased(t *testing.T) {
	dir := t.TempDir()
	h := put(t, openIn(t, dir), "the right bytes")
	path := openIn(t, dir).path(h)
	if err := os.WriteFile(path, []byte("the wrong bytes"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := openIn(t, dir)
	if _, err := s.Read(h, 100); !errors.Is(err, ErrCorrupt) {
		t.Errorf("read: %v", err)
	}
	if err := os.Truncate(path, 3); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ReadRange(h, 0, 1); !errors.Is(err, ErrCorrupt) {
		t.Errorf("read of a cut blob: %v", err)
	}
	if put(t, s, "the right bytes") != h {
		t.Fatal("another name")
	}
	if got, err := s.Read(h, 100); err != nil || string(got) != "the right bytes" {
		t.Errorf("after it was put again: %q, %v", got, err)
	}
}

func TestABlobThatChangesAfterItWasVerifiedIsVerifiedAgain(t *testing.T) {
	s := openIn(t, t.TempDir())
	h := put(t, s, "right")
	if _, err := s.Read(h, 10); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.path(h), []byte("wrong and longer"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(h, 100); !errors.Is(err, ErrCorrupt) {
		t.Errorf("read: %v", err)
	}
}

// failing yields some bytes and then an error.
type failing struct{ left int }

var errBroken = errors.New("broken")

func (f *failing) Read(p []byte) (int, error) {
	if f.left == 0 {
		return 0, errBroken
	}
	n := min(f.left, len(p))
	f.left -= n
	return n, nil
}

func TestAFailedPutLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	s := openIn(t, dir)
	s.maxBytes = 1000
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, try := range map[string]func() error{
		"reader fails": func() error { _, _, err := s.Put(t.Context(), &failing{500}); return err },
		"too large":    func() error { _, _, err := s.Put(t.Context(), bytes.NewReader(make([]byte, 1001))); return err },
		"cancelled":    func() error { _, _, err := s.Put(cancelled, strings.NewReader("x")); return err },
		"other bytes":  func() error { _, err := s.PutHash(t.Context(), Hash{1}, strings.NewReader("x")); return err },
	} {
		if try() == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if n := len(names(t, s)); n != 0 {
		t.Errorf("%d blobs", n)
	}
	left, err := os.ReadDir(s.tmp())
	if err != nil || len(left) != 0 {
		t.Errorf("temporary files: %v, %v", left, err)
	}
	if _, _, err := s.Put(t.Context(), bytes.NewReader(make([]byte, 1000))); err != nil {
		t.Errorf("as large as allowed: %v", err)
	}
}

func TestOpenRemovesWhatACrashLeft(t *testing.T) {
	dir := t.TempDir()
	s := openIn(t, dir)
	h := put(t, s, "kept")
	if err := os.WriteFile(filepath.Join(s.tmp(), "put-123"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = openIn(t, dir)
	if left, err := os.ReadDir(s.tmp()); err != nil || len(left) != 0 {
		t.Errorf("temporary files: %v, %v", left, err)
	}
	if got := names(t, s); !slices.Equal(got, []Hash{h}) {
		t.Errorf("blobs: %v", got)
	}
}

func TestDelete(t *testing.T) {
	s := openIn(t, t.TempDir())
	h := put(t, s, "goes")
	if err := errors.Join(s.Delete(h), s.Delete(h), s.Delete(Hash{9})); err != nil {
		t.Error(err)
	}
	if _, err := s.Read(h, 10); !errors.Is(err, ErrNotFound) || s.Has(h) {
		t.Errorf("after delete: %v", err)
	}
}

func TestManyAtOnce(t *testing.T) {
	s := openIn(t, t.TempDir())
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			text := strings.Repeat("x", i%8)
			h, err := s.PutBytes(t.Context(), []byte(text))
			if err != nil {
				t.Error(err)
				return
			}
			if got, err := s.Read(h, 10); err != nil || string(got) != text {
				t.Errorf("read %q, %v", got, err)
			}
		})
	}
	wg.Wait()
	if n := len(names(t, s)); n != 8 {
		t.Errorf("%d blobs, want 8", n)
	}
}

func TestHashesInText(t *testing.T) {
	h := Hash{1, 2, 0xff}
	var back Hash
	text, err := h.MarshalText()
	if err = errors.Join(err, back.UnmarshalText(text)); err != nil || back != h {
		t.Errorf("%s, %v", back, err)
	}
	for _, bad := range []string{"", "12", strings.Repeat("g", 64), strings.Repeat("a", 66)} {
		if _, err := Parse(bad); err == nil {
			t.Errorf("%q is a hash", bad)
		}
	}
}

func TestABlobLeavesTheReserveFree(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	full := errors.New("the disk is full")
	left := 3
	s.Reserve(func() error {
		if left--; left < 0 {
			return full
		}
		return nil
	})
	if _, _, err := s.Put(t.Context(), bytes.NewReader(make([]byte, 1<<20))); !errors.Is(err, full) {
		t.Errorf("a blob that met the reserve in its middle: %v", err)
	}
	if _, err := s.PutBytes(t.Context(), []byte("x")); !errors.Is(err, full) {
		t.Errorf("a blob on a full disk: %v", err)
	}
	if list, err := os.ReadDir(s.tmp()); err != nil || len(list) > 0 {
		t.Errorf("%d files are left, %v", len(list), err)
	}
	left = 1 << 20
	if _, err := s.PutBytes(t.Context(), []byte("x")); err != nil {
		t.Errorf("a blob when there is room again: %v", err)
	}
}
