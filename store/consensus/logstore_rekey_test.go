package consensus

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cloister-os/cloister/store"
)

// swapRing is a keyring whose keys change while it is used.
type swapRing struct {
	mu sync.Mutex
	ring
}

func (r *swapRing) Active() (uint32, []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ring.Active()
}

func (r *swapRing) Key(id uint32) ([]byte, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ring.Key(id)
}

func openAlone(t *testing.T, dir string, r *swapRing) *Node {
	t.Helper()
	n, err := Open(t.Context(), Config{Dir: dir, NodeID: "n1", ReserveBytes: -1, Ring: r, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	select {
	case <-n.Ready():
	case <-time.After(time.Minute):
		t.Fatal("never ready")
	}
	return n
}

// TestKeysChangeUnderLoad changes the key twice while writers write, drops the old
// one each time, and opens what is left with the new one alone.
func TestKeysChangeUnderLoad(t *testing.T) {
	dir := t.TempDir()
	r := &swapRing{ring: *newRing(1, 2, 3)}
	r.active = 1
	n := openAlone(t, dir, r)
	ctx, cancel := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	var counts [4]int
	for w := range counts {
		writers.Go(func() {
			for ; ctx.Err() == nil; counts[w]++ {
				tx := store.NewTx()
				tx.Put(store.Key(fmt.Sprintf("H/test/%d/%d", w, counts[w])), []byte(logCanary))
				if _, err := n.Apply(context.WithoutCancel(ctx), tx); err != nil {
					t.Errorf("a write while the key changes: %v", err)
					return
				}
			}
		})
	}
	for _, id := range []uint32{2, 3} {
		r.mu.Lock()
		r.active = id
		r.mu.Unlock()
		if err := n.Rekey(t.Context()); err != nil {
			t.Fatal(err)
		}
		ids, err := n.Keys(t.Context())
		if err != nil || !slices.Equal(ids, []uint32{id}) {
			t.Fatalf("after the change to key %d it needs %v, %v", id, ids, err)
		}
		r.mu.Lock()
		delete(r.keys, id-1)
		r.mu.Unlock()
	}
	cancel()
	writers.Wait()
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n = openAlone(t, dir, r)
	for w, count := range counts {
		for i := range count {
			key := store.Key(fmt.Sprintf("H/test/%d/%d", w, i))
			err := n.View(t.Context(), store.Local, func(s store.Snapshot) error { _, err := s.Get(key); return err })
			if err != nil {
				t.Fatalf("%s of %d: %v", key, count, err)
			}
		}
	}
	if holds(t, dir, logCanary) {
		t.Error("the folder holds plaintext")
	}
}

func TestAnIdleNodesKeyChanges(t *testing.T) {
	r := &swapRing{ring: *newRing(1, 2)}
	r.active = 1
	n := openAlone(t, t.TempDir(), r)
	if ids, err := n.Keys(t.Context()); err != nil || !slices.Equal(ids, []uint32{1}) {
		t.Errorf("%v %v", ids, err)
	}
	r.mu.Lock()
	r.active = 2
	r.mu.Unlock()
	for range 2 { // the second has nothing to do
		if err := n.Rekey(t.Context()); err != nil {
			t.Fatal(err)
		}
		if ids, err := n.Keys(t.Context()); err != nil || !slices.Equal(ids, []uint32{2}) {
			t.Errorf("%v %v", ids, err)
		}
	}
}
