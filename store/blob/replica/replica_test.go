package replica_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/blob"
	"github.com/cloister-os/cloister/store/blob/exchange"
)

const large = blob.ChunkBytes + 1234

func TestWhatIsNamedIsOnTwoNodesThenAndOnAllSoon(t *testing.T) {
	c := newCluster(t, 3, short())
	for i, size := range []int{10, 100_000, large} {
		h := c.write(0, fmt.Sprint(i), random(size, uint64(i)))
		if n := c.holders(h); n < 2 {
			t.Errorf("%d bytes were named while %d node held them", size, n)
		}
		soon(t, "all nodes hold it", func() bool { return c.holders(h) == 3 })
	}
	soon(t, "all nodes say so", func() bool {
		n := 0
		_ = c.store.View(t.Context(), store.Local, func(s store.Snapshot) error {
			for range s.Scan(blob.SpaceHeld.Prefix(), "") {
				n++
			}
			return nil
		})
		return n == 9
	})
	if s := c.nodes[2].Status(); s.Missing != 0 || s.MissingBytes != 0 {
		t.Errorf("node 3 still misses %+v", s)
	}
}

func TestWithoutASecondNodeNothingIsNamed(t *testing.T) {
	c := newCluster(t, 3, short())
	c.nodes[1].Down(true)
	c.nodes[2].Down(true)
	h, err := c.nodes[0].Blobs.PutBytes(t.Context(), []byte("alone"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := c.nodes[0].Blobs.Secure(ctx, h); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it is secure: %v", err)
	}
	c.nodes[2].Down(false)
	if h := c.write(0, "later", []byte("alone")); c.holders(h) < 2 {
		t.Error("it was named on one node")
	}
}

func TestOneOfThreeMayBeAway(t *testing.T) {
	c := newCluster(t, 3, short())
	c.nodes[1].Down(true)
	var hashes []blob.Hash
	for i := range 50 {
		hashes = append(hashes, c.write(0, fmt.Sprint(i), random(1000+i, uint64(i))))
	}
	c.nodes[1].Down(false)
	soon(t, "the one that was away has all", func() bool {
		for _, h := range hashes {
			if !c.nodes[1].Blobs.Has(h) {
				return false
			}
		}
		return true
	})
}

func TestARemovedNodeHoldsNothing(t *testing.T) {
	c := newCluster(t, 3, short())
	h := c.write(0, "x", []byte("hello"))
	says := func(node string) bool {
		return c.store.View(t.Context(), store.Local, func(s store.Snapshot) error {
			_, err := s.Get(blob.HeldKey(h, node))
			return err
		}) == nil
	}
	soon(t, "all say that they hold it", func() bool { return says("node-1") && says("node-2") && says("node-3") })
	c.nodes[2].stop()
	c.net.Remove("node-3")
	soon(t, "node 3 is forgotten", func() bool { return !says("node-3") })
	if !says("node-1") || !says("node-2") {
		t.Error("the others are forgotten too")
	}
}

// A hung node is not waited for: another one takes the blob.
func TestAHungNodeDoesNotHoldUpTheOthers(t *testing.T) {
	c := newCluster(t, 3, short())
	hung := make(chan struct{})
	defer close(hung)
	c.nodes[1].Misbehave(func(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
		select {
		case <-hung:
		case <-r.Context().Done():
		}
	})
	h := c.write(0, "x", []byte("hello"))
	if !c.nodes[2].Blobs.Has(h) {
		t.Error("node 3 does not hold it")
	}
}

func TestALostFolderIsFilledAgain(t *testing.T) {
	c := newCluster(t, 3, short())
	var hashes []blob.Hash
	for i := range 40 {
		hashes = append(hashes, c.write(i%3, fmt.Sprint(i), random(500*i, uint64(i))))
	}
	hashes = append(hashes, c.write(0, "large", random(large, 99)))
	for _, h := range hashes {
		soon(t, "all nodes hold it", func() bool { return c.holders(h) == 3 })
	}
	c.nodes[2].stop()
	if err := os.RemoveAll(c.nodes[2].dir); err != nil {
		t.Fatal(err)
	}
	n := c.start(2, short())
	if b, err := n.Blobs.Read(hashes[7], 1<<20); err != nil || len(b) != 500*7 { // before its turn
		t.Errorf("read while it is filled: %d bytes, %v", len(b), err)
	}
	for _, h := range hashes {
		soon(t, "the lost disk is filled", func() bool { return n.Blobs.Has(h) })
	}
	soon(t, "nothing is missing", func() bool { return n.Status().Missing == 0 })
}

func TestADamagedByteIsRepairedWhenItIsRead(t *testing.T) {
	c := newCluster(t, 3, short())
	for i, size := range []int{1000, large} {
		b := random(size, uint64(i))
		h := c.write(0, fmt.Sprint(i), b)
		soon(t, "all nodes hold it", func() bool { return c.holders(h) == 3 })
		damage(t, c.nodes[0], h)
		got, err := c.nodes[0].Blobs.ReadRange(h, 0, int64(size))
		if err != nil || !bytes.Equal(got, b) {
			t.Errorf("read: %v", err)
		}
		if s := c.nodes[0].Status(); s.Damaged != int64(i+1) || s.Repaired != int64(i+1) {
			t.Errorf("%+v", s)
		}
	}
	if !c.log.has("repaired") {
		t.Error("the log does not say so")
	}
}

func TestTheScrubFindsDamage(t *testing.T) {
	c := newCluster(t, 2, short())
	var hashes []blob.Hash
	for i := range 20 {
		hashes = append(hashes, c.write(0, fmt.Sprint(i), random(5000, uint64(i))))
	}
	for _, h := range hashes[3:6] {
		damage(t, c.nodes[0], h)
	}
	if err := c.nodes[0].Scrub(t.Context(), blob.Hash{}); err != nil {
		t.Fatal(err)
	}
	if s := c.nodes[0].Status(); s.Damaged != 3 || s.Repaired != 3 {
		t.Errorf("%+v", s)
	}
	for _, h := range hashes {
		if _, err := c.nodes[0].Blobs.Verify(h, nil); err != nil {
			t.Error(err)
		}
	}
}

func TestANodeAloneAsksNobody(t *testing.T) {
	c := newCluster(t, 1, short())
	h := c.write(0, "x", []byte("alone"))
	damage(t, c.nodes[0], h)
	_, err := c.nodes[0].Blobs.Read(h, 100)
	if !errors.Is(err, blob.ErrCorrupt) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v", err)
	}
	if _, err := c.nodes[0].Blobs.Read(blob.Hash{3}, 100); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("%v", err)
	}
}

func damage(t *testing.T, n *node, h blob.Hash) {
	t.Helper()
	path := filepath.Join(n.dir, h.String()[:2], h.String())
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 4
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestGarbageGoesWhenNobodyCanReadIt(t *testing.T) {
	cfg := short()
	cfg.Lease = time.Minute
	c := newCluster(t, 3, cfg)
	kept, gone := c.write(0, "kept", []byte("kept")), c.write(0, "gone", []byte("gone"))
	for _, h := range []blob.Hash{kept, gone} {
		soon(t, "all nodes hold it", func() bool { return c.holders(h) == 3 })
	}
	c.age(kept)
	c.age(gone)
	c.forget("gone")
	collect := func() {
		t.Helper()
		time.Sleep(2 * time.Millisecond) // the grace period
		if err := c.nodes[0].Collect(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	collect()
	collect()
	collect()
	if c.holders(gone) != 3 {
		t.Fatal("a blob went that a reader of the past may ask for")
	}
	c.floor()
	collect()
	soon(t, "the garbage is gone", func() bool { return c.holders(gone) == 0 })
	soon(t, "and forgotten", func() bool {
		collect()
		err := c.store.View(t.Context(), store.Local, func(s store.Snapshot) error {
			_, err := s.Get(blob.NameKey(gone))
			return err
		})
		return errors.Is(err, store.ErrNotFound)
	})
	if c.holders(kept) != 3 {
		t.Error("a blob went that is referred to")
	}
}

// age makes a blob look as if it had been put long ago.
func (c *cluster) age(h blob.Hash) {
	old := time.Now().Add(-time.Hour)
	for _, n := range c.nodes {
		_ = os.Chtimes(filepath.Join(n.dir, h.String()[:2], h.String()), old, old) // where it is
	}
}

func TestWhatWasNeverNamedGoesAfterItsLease(t *testing.T) {
	cfg := short()
	cfg.Lease = time.Minute
	c := newCluster(t, 2, cfg)
	young, old := []byte("young"), []byte("old")
	hy, err := c.nodes[0].Blobs.PutBytes(t.Context(), young)
	if err != nil {
		t.Fatal(err)
	}
	ho, err := c.nodes[0].Blobs.PutBytes(t.Context(), old)
	if err != nil {
		t.Fatal(err)
	}
	c.age(ho)
	soon(t, "the old one is gone", func() bool { c.age(ho); return c.holders(ho) == 0 })
	if !c.nodes[0].Blobs.Has(hy) {
		t.Error("the young one went")
	}
}

func TestWhatIsReferredToWithoutAnEntryStays(t *testing.T) {
	c := newCluster(t, 2, short())
	h, err := c.nodes[0].Blobs.PutBytes(t.Context(), []byte("from before there were entries"))
	if err != nil {
		t.Fatal(err)
	}
	tx := store.NewTx()
	tx.Put(notes.Key("x"), h[:])
	if _, err := c.store.Apply(t.Context(), tx); err != nil {
		t.Fatal(err)
	}
	c.nodes[0].stop()
	c.age(h)
	cfg := short()
	cfg.Lease = time.Minute
	c.start(0, cfg)
	soon(t, "it has an entry", func() bool {
		return c.store.View(t.Context(), store.Local, func(s store.Snapshot) error {
			_, err := s.Get(blob.NameKey(h))
			return err
		}) == nil
	})
	if !c.nodes[0].Blobs.Has(h) {
		t.Error("it went")
	}
}

func TestAValueNobodyUnderstandsStopsTheCollection(t *testing.T) {
	c := newCluster(t, 1, short())
	tx := store.NewTx()
	tx.Put(notes.Key("odd"), []byte("from a newer program"))
	if _, err := c.store.Apply(t.Context(), tx); err != nil {
		t.Fatal(err)
	}
	if err := c.nodes[0].Collect(t.Context()); err == nil {
		t.Error("it went on")
	}
}

// Writers name and forget the same few blobs, over and over, while the leader
// collects as fast as it can and every file that may be old is made old right
// before it is put again. Whatever is named can be read.
func TestNothingGoesThatAWriterIsAboutToName(t *testing.T) {
	cfg := short()
	cfg.Lease, cfg.Every, cfg.Grace = 30*time.Second, 20*time.Millisecond, time.Nanosecond
	c := newCluster(t, 3, cfg)
	var stopped atomic.Bool
	var collectors, writers sync.WaitGroup
	collectors.Go(func() {
		for !stopped.Load() {
			if err := c.nodes[0].Collect(context.Background()); err != nil {
				t.Error(err)
			}
			c.floor()
		}
	})
	rounds := 40
	for w := range 3 {
		writers.Go(func() {
			for round := range rounds {
				b := fmt.Appendf(nil, "blob %d of writer %d", round%3, w)
				note := fmt.Sprint(w)
				c.age(blob.Hash(exchange.Sum(b)))
				h, err := c.tryWrite((w+round)%3, note, b)
				if err != nil {
					t.Error(err)
					return
				}
				for _, n := range c.nodes {
					if got, err := n.Blobs.Read(h, 100); err != nil || !bytes.Equal(got, b) {
						t.Errorf("named in round %d and not to be read at %s: %v", round, n.Name, err)
					}
				}
				c.forget(note)
			}
		})
	}
	writers.Wait()
	stopped.Store(true)
	collectors.Wait()
	deleted := int64(0)
	for _, n := range c.nodes {
		deleted += n.Status().Deleted
	}
	t.Logf("%d copies were deleted on the way", deleted)
	if deleted == 0 {
		t.Error("nothing was ever deleted: this test proves nothing")
	}
}
