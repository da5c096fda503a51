package consensus

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/cloister-os/cloister/store/sealed"
)

// ring is a keyring for tests.
type ring struct {
	active uint32
	keys   map[uint32][]byte
}

func newRing(ids ...uint32) *ring {
	r := &ring{keys: map[uint32][]byte{}}
	for _, id := range ids {
		r.keys[id] = make([]byte, 32)
		rand.Read(r.keys[id])
		r.active = id
	}
	return r
}

func (r *ring) Active() (uint32, []byte)     { return r.active, r.keys[r.active] }
func (r *ring) Key(id uint32) ([]byte, bool) { k, ok := r.keys[id]; return k, ok }

func openLogs(t *testing.T, dir string, r sealed.Ring) *logStore {
	t.Helper()
	l, err := openLogStore(files{dir, r, slog.New(slog.DiscardHandler)}, r, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// holds reports whether any file below dir holds the text.
func holds(t *testing.T, dir, text string) bool {
	t.Helper()
	found := false
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		found = found || bytes.Contains(b, []byte(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

const logCanary = "log-canary-5d1f"

func TestTheLogIsSealed(t *testing.T) {
	for name, r := range map[string]sealed.Ring{"plain": nil, "sealed": newRing(1)} {
		dir := t.TempDir()
		l := openLogs(t, dir, r)
		var given []*raft.Log
		for i := uint64(1); i <= 200; i++ {
			given = append(given, &raft.Log{Index: i, Term: 1 + i/100, Type: raft.LogCommand, Data: []byte(logCanary + string(rune('a'+i%26)))})
		}
		given[7].Data = nil
		for _, part := range [][]*raft.Log{given[:1], given[1:100], given[100:]} {
			if err := l.StoreLogs(part); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Set(votedFor, []byte(logCanary)); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if string(given[3].Data[:len(logCanary)]) != logCanary {
			t.Errorf("%s: raft's own entries were changed", name)
		}
		if got := holds(t, dir, logCanary); got != (r == nil) {
			t.Errorf("%s: the files hold the text: %v", name, got)
		}
		l = openLogs(t, dir, r)
		for i, want := range given {
			var e raft.Log
			if err := l.GetLog(uint64(i+1), &e); err != nil || !bytes.Equal(e.Data, want.Data) || e.Term != want.Term {
				t.Fatalf("%s: entry %d is %+v, %v", name, i+1, e, err)
			}
		}
		if v, err := l.Get(votedFor); err != nil || string(v) != logCanary {
			t.Errorf("%s: %q %v", name, v, err)
		}
		if v, err := l.Get([]byte("never")); err != nil || len(v) != 0 {
			t.Errorf("%s: %q %v", name, v, err)
		}
		if !l.IsMonotonic() {
			t.Errorf("%s: raft must know that the log has no gaps", name)
		}
	}
}

func TestAnEntryOpensOnlyInItsPlace(t *testing.T) {
	r := newRing(1)
	dir := t.TempDir()
	l := openLogs(t, dir, r)
	if err := l.StoreLogs([]*raft.Log{{Index: 1, Term: 1, Data: []byte("a")}, {Index: 2, Term: 1, Data: []byte("b")}}); err != nil {
		t.Fatal(err)
	}
	var first, e raft.Log
	if err := l.Log.GetLog(1, &first); err != nil {
		t.Fatal(err)
	}
	// Whoever can write the disk puts the first entry's bytes in a third place.
	for i, moved := range []raft.Log{
		{Index: 3, Term: 1, Data: first.Data},
		{Index: 4, Term: 2, Data: first.Data},
		{Index: 5, Term: 1, Type: raft.LogNoop, Data: first.Data},
		{Index: 6, Term: 1, Data: []byte("never sealed, and long enough to look as if it had been sealed once")},
		{Index: 7, Term: 1, Data: []byte("short")},
	} {
		if err := l.Log.StoreLogs([]*raft.Log{&moved}); err != nil {
			t.Fatal(err)
		}
		if err := l.GetLog(uint64(3+i), &e); err == nil {
			t.Errorf("entry %d opened as %q", 3+i, e.Data)
		}
	}
	l.Close()
	if err := openLogs(t, dir, newRing(2)).GetLog(1, &e); !errors.Is(err, sealed.ErrUnknownKey) {
		t.Errorf("a key that is not there: %v", err)
	}
}

func BenchmarkStoreLogs(b *testing.B) {
	for _, c := range []struct {
		name string
		ring sealed.Ring
	}{{"plain", nil}, {"sealed", newRing(1)}} {
		b.Run(c.name, func(b *testing.B) {
			l := &logStore{box: sealed.NewBox(c.ring, "log")}
			e := []*raft.Log{{Index: 1, Term: 1, Data: make([]byte, 4096)}}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := l.seal(e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
