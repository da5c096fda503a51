package storetest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"github.com/cloister-os/cloister/store"
)

var _ store.Store = (*Follower)(nil)

// Follower shows a store as one of several nodes sees it: one that may lag, and
// that may be cut off from the others. Tests of rooms use several over one Model
// to be several nodes.
//
// While it is held, Local views and watches stand still; its own transactions and
// Fresh views bring it up to where they happened, as they do on a real node.
// While it is cut off, whatever needs the others fails.
type Follower struct {
	inner store.Store

	mu      sync.Mutex // guards all below
	held    bool
	cut     bool
	reached store.Version // while held
	moved   chan struct{} // closed and replaced at each change
}

// NewFollower returns a node over the store that is neither held nor cut off.
func NewFollower(st store.Store) *Follower {
	return &Follower{inner: st, moved: make(chan struct{})}
}

// Hold stops what arrives from the others. Something must have been applied.
func (f *Follower) Hold() { f.set(func() { f.held, f.reached = true, f.inner.Applied() }) }

// Release lets everything arrive.
func (f *Follower) Release() { f.set(func() { f.held = false }) }

// Cut cuts the node off; Join ends it.
func (f *Follower) Cut() { f.set(func() { f.held, f.cut, f.reached = true, true, f.inner.Applied() }) }

// Join ends Cut.
func (f *Follower) Join() { f.set(func() { f.held, f.cut = false, false }) }

func (f *Follower) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
	close(f.moved)
	f.moved = make(chan struct{})
}

func (f *Follower) away() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cut {
		return fmt.Errorf("%w: this node knows no leader", store.ErrBusy)
	}
	return nil
}

// reach says that this node has applied a version.
func (f *Follower) reach(v store.Version) {
	f.set(func() { f.reached = max(f.reached, v) })
}

// Apply implements store.Store.
func (f *Follower) Apply(ctx context.Context, tx *store.Tx) (store.Result, error) {
	if err := f.away(); err != nil {
		tx.Done(store.Result{}, err)
		return store.Result{}, err
	}
	tx.After(func(res store.Result, err error) {
		if err == nil {
			f.reach(res.Version)
		}
	})
	return f.inner.Apply(ctx, tx)
}

// Submit implements store.Store.
func (f *Follower) Submit(ctx context.Context, tx *store.Tx, _ store.Class) store.Future {
	res, err := f.Apply(ctx, tx)
	return done{res, err}
}

// Update implements store.Store.
func (f *Follower) Update(ctx context.Context, change func(*store.Update) error) (store.Result, error) {
	for range 100 {
		tx := store.NewTx()
		err := f.View(ctx, store.Local, func(s store.Snapshot) error { return change(&store.Update{Snapshot: s, Tx: tx}) })
		if err != nil {
			return store.Result{}, err
		}
		res, err := f.Apply(ctx, tx)
		if !errors.Is(err, store.ErrConflict) {
			return res, err
		}
		f.reach(f.inner.Applied()) // a node that lost catches up before it tries again
	}
	return store.Result{}, store.ErrBusy
}

// View implements store.Store.
func (f *Follower) View(ctx context.Context, at store.ReadAt, look func(store.Snapshot) error) error {
	switch {
	case at == store.Fresh:
		if err := f.away(); err != nil {
			return err
		}
		f.reach(f.inner.Applied())
		return f.inner.View(ctx, at, look)
	case at > 0:
		for f.Applied() < store.Version(at) {
			if err := f.wait(ctx, store.Version(at)); err != nil {
				return err
			}
		}
		return f.inner.View(ctx, at, look)
	}
	if v := f.Applied(); v > 0 {
		at = store.At(v)
	}
	return f.inner.View(ctx, at, look)
}

// wait returns when the node may have reached the version, or the context ends.
func (f *Follower) wait(ctx context.Context, v store.Version) error {
	f.mu.Lock()
	moved, held := f.moved, f.held
	f.mu.Unlock()
	if !held {
		return f.inner.View(ctx, store.At(v), func(store.Snapshot) error { return nil })
	}
	select {
	case <-moved:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Watch implements store.Store.
func (f *Follower) Watch(ctx context.Context, prefix store.Key, from store.Version) iter.Seq2[store.Change, error] {
	return func(yield func(store.Change, error) bool) {
		for c, err := range f.inner.Watch(ctx, prefix, from) {
			for err == nil && f.Applied() < c.Version {
				err = f.wait(ctx, c.Version)
			}
			if !yield(c, err) || err != nil {
				return
			}
		}
	}
}

// Applied implements store.Store.
func (f *Follower) Applied() store.Version {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.held {
		return f.reached
	}
	return f.inner.Applied()
}
