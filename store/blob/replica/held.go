package replica

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/blob"
)

// Bounds of announcing.
const (
	announceEvery  = 100 * time.Millisecond
	announceAtOnce = 500
	maxAnnounced   = 1 << 17 // beyond it the next look at everything announces the rest
)

// announcer is what this node still has to say of which blobs it holds.
type announcer struct {
	wake chan struct{}
	mu   sync.Mutex
	news map[blob.Hash]bool // held, or no longer
}

func newAnnouncer() *announcer {
	return &announcer{wake: make(chan struct{}, 1), news: map[blob.Hash]bool{}}
}

func (a *announcer) add(h blob.Hash, held bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.news) < maxAnnounced {
		a.news[h] = held
	}
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

func (a *announcer) take() map[blob.Hash]bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := map[blob.Hash]bool{}
	for h, held := range a.news {
		out[h] = held
		delete(a.news, h)
		if len(out) == announceAtOnce {
			break
		}
	}
	return out
}

// runAnnouncer writes what this node holds, many blobs in one transaction.
func (r *Replica) runAnnouncer(ctx context.Context) {
	for {
		select {
		case <-r.held.wake:
		case <-ctx.Done():
			return
		}
		pause(ctx, announceEvery)
		for news := r.held.take(); len(news) > 0 && ctx.Err() == nil; news = r.held.take() {
			if err := r.announce(ctx, news); err != nil && ctx.Err() == nil {
				// The next look at everything says it again.
				r.log.Debug("Which blobs this node holds could not be told.", "error", err)
			}
		}
	}
}

func (r *Replica) announce(ctx context.Context, news map[blob.Hash]bool) error {
	tx := store.NewTx()
	for _, h := range slices.SortedFunc(maps.Keys(news), compare) {
		if news[h] {
			tx.Put(blob.HeldKey(h, r.cfg.Node), nil)
		} else {
			tx.Delete(blob.HeldKey(h, r.cfg.Node))
		}
	}
	_, err := r.cfg.Store.Submit(ctx, tx, store.Bulk).Wait(ctx)
	return err
}

func compare(a, b blob.Hash) int { return slices.Compare(a[:], b[:]) }

// holders are the nodes that say they hold a blob, and before them the one that
// named it.
func (r *Replica) holders(ctx context.Context, h blob.Hash) (nodes []string) {
	err := r.cfg.Store.View(ctx, store.Local, func(s store.Snapshot) error {
		if item, err := s.Get(blob.NameKey(h)); err == nil {
			if e, err := blob.DecodeEntry(item.Value); err == nil && e.Node != "" {
				nodes = append(nodes, e.Node)
			}
		}
		for item, err := range s.Scan(blob.SpaceHeld.Prefix(string(h[:])), "") {
			if err != nil {
				return err
			}
			if _, node, ok := blob.ParseHeldKey(item.Key); ok {
				nodes = append(nodes, node)
			}
		}
		return nil
	})
	if err != nil {
		r.log.Debug("Which nodes hold a blob could not be read.", "blob", h, "error", err)
	}
	return nodes
}
