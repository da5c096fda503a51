package seal

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func ringAt(t *testing.T, k *Keys, node string) *Keyring {
	t.Helper()
	r, err := k.Keyring(node, true)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAKeyringKeepsItsKeysOverARestart(t *testing.T) {
	dir := t.TempDir()
	r := ringAt(t, openAt(t, dir), "node-1")
	id, first := r.Active()
	if id != 1 || len(first) != 32 {
		t.Fatal(id, len(first))
	}
	if _, err := r.Add(); err != nil {
		t.Fatal(err)
	}
	_, second := r.Active()
	again := ringAt(t, openAt(t, dir), "node-1")
	if id, key := again.Active(); id != 2 || !bytes.Equal(key, second) || bytes.Equal(key, first) {
		t.Error("the active key changed over a restart")
	}
	if key, ok := again.Key(1); !ok || !bytes.Equal(key, first) {
		t.Error("the old key is gone")
	}
	if err := again.Drop(1, 2); err != nil {
		t.Fatal(err)
	}
	last := ringAt(t, openAt(t, dir), "node-1")
	if _, ok := last.Key(1); ok || len(last.Keys()) != 1 || last.Keys()[0].ID != 2 {
		t.Errorf("after the drop: %v", last.Keys())
	}
	b, err := os.ReadFile(filepath.Join(dir, ringFile))
	if err != nil || bytes.Contains(b, second) {
		t.Error("the file holds a key in clear", err)
	}
	if info, err := os.Stat(filepath.Join(dir, ringFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info.Mode(), err)
	}
}

func TestAWrongKeyringIsRefusedWithASentence(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	keys := openAt(t, dir)
	ringAt(t, keys, "node-1")
	ringAt(t, openAt(t, other), "node-1")
	path := filepath.Join(dir, ringFile)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := os.ReadFile(filepath.Join(other, ringFile))
	if err != nil {
		t.Fatal(err)
	}
	refused := func(name, node, says string, content []byte) {
		t.Helper()
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := openAt(t, dir).Keyring(node, true)
		if !errors.Is(err, ErrSeal) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", name, err)
		}
		if left, _ := os.ReadFile(path); !bytes.Equal(left, content) {
			t.Errorf("%s: the file was overwritten", name)
		}
	}
	refused("of another root key", "node-1", "root key", foreign)
	refused("of another node", "node-2", `belongs to node "node-1"`, good)
	refused("empty", "node-1", "damaged", nil)
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if strings.TrimSpace(string(bad)) == strings.TrimSpace(string(good)) || bad[i] == ' ' || good[i] == ' ' || good[i] == '\n' {
			continue
		}
		refused("a changed byte", "node-1", "", bad)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := openAt(t, dir).Keyring("node-1", false); !errors.Is(err, ErrSeal) || !strings.Contains(err.Error(), "put it back") {
		t.Errorf("lost: %v", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("a lost keyring was replaced over data")
	}
}

// shelf is a holder that keeps what it holds in memory, sealed with keys by id.
type shelf struct {
	ring *Keyring

	mu    sync.Mutex
	items []uint32
	fail  int // so many times
}

func (s *shelf) Rekey(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail > 0 {
		s.fail--
		return errors.New("the disk is full")
	}
	for i := range s.items {
		s.items[i], _ = s.ring.Active()
	}
	return nil
}

func (s *shelf) Keys(context.Context) ([]uint32, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]uint32(nil), s.items...), nil
}

func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestARotationDropsTheOldKeyWhenNothingNeedsIt(t *testing.T) {
	dir := t.TempDir()
	r := ringAt(t, openAt(t, dir), "n")
	a, b := &shelf{ring: r, items: []uint32{1, 1}}, &shelf{ring: r, items: []uint32{1}, fail: 2}
	rot := NewRotation(r, slog.New(slog.DiscardHandler), Named{"papers", a}, Named{"books", b})
	if s := rot.Status(); s.Rotating || s.Active.ID != 1 {
		t.Errorf("%+v", s)
	}
	if _, err := rot.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := rot.Start(); !errors.Is(err, ErrRotating) {
		t.Errorf("a second one: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- rot.Run(ctx) }()
	until(t, "a problem is told", func() bool { return strings.Contains(rot.Status().Problem, "books") })
	until(t, "the old key is dropped", func() bool { return !rot.Status().Rotating })
	if s := rot.Status(); s.Active.ID != 2 || len(s.Old) != 0 || s.Problem != "" {
		t.Errorf("%+v", s)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestARotationGoesOnWhereItWas leaves the keyring as a kill would, with a key
// that something needs and one that nothing needs.
func TestARotationGoesOnWhereItWas(t *testing.T) {
	dir := t.TempDir()
	r := ringAt(t, openAt(t, dir), "n")
	for range 2 {
		if _, err := r.Add(); err != nil {
			t.Fatal(err)
		}
	}
	r = ringAt(t, openAt(t, dir), "n")
	stuck := &stubborn{shelf{ring: r, items: []uint32{2, 3}}}
	rot := NewRotation(r, slog.New(slog.DiscardHandler), Named{"papers", stuck})
	if err := rot.round(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := rot.Status(); len(s.Old) != 1 || s.Old[0].ID != 2 || len(s.Waiting) != 1 {
		t.Errorf("%+v", s)
	}
	stuck.items = []uint32{3}
	if err := rot.round(t.Context()); err != nil || rot.Status().Rotating {
		t.Errorf("%v %+v", err, rot.Status())
	}
}

// stubborn says that it has sealed anew, and has not.
type stubborn struct{ shelf }

func (s *stubborn) Rekey(context.Context) error { return nil }
