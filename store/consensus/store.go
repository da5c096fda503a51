package consensus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/cloister-os/cloister/store"
)

// maxUpdates is how often Update runs its function before it gives up.
const maxUpdates = 100

// Apply implements store.Store.
func (n *Node) Apply(ctx context.Context, tx *store.Tx) (store.Result, error) {
	return n.submit(ctx, tx, store.Interactive).await(ctx)
}

// Submit implements store.Store.
func (n *Node) Submit(ctx context.Context, tx *store.Tx, class store.Class) store.Future {
	return n.submit(ctx, tx, class)
}

func (n *Node) submit(ctx context.Context, tx *store.Tx, class store.Class) *pending {
	select {
	case <-n.dead:
		p := &pending{node: n, tx: tx, done: make(chan struct{})}
		return p.end(store.Result{}, n.closed())
	default:
		return n.former.submit(ctx, tx, min(class, store.Bulk))
	}
}

// Update implements store.Store.
func (n *Node) Update(ctx context.Context, f func(*store.Update) error) (store.Result, error) {
	for range maxUpdates {
		tx := store.NewTx()
		err := n.View(ctx, store.Local, func(s store.Snapshot) error {
			return f(&store.Update{Snapshot: s, Tx: tx})
		})
		if err != nil {
			return store.Result{}, err
		}
		res, err := n.Apply(ctx, tx)
		if !errors.Is(err, store.ErrConflict) {
			return res, err
		}
	}
	return store.Result{}, fmt.Errorf("%w: %d attempts to change the same keys lost to others", store.ErrBusy, maxUpdates)
}

// View implements store.Store.
func (n *Node) View(ctx context.Context, at store.ReadAt, f func(store.Snapshot) error) error {
	if err := n.waitReady(ctx); err != nil {
		return err
	}
	var v store.Version
	switch {
	case at == store.Fresh:
		if err := n.fresh(ctx); err != nil {
			return err
		}
	case at > 0:
		v = store.Version(at)
		if err := n.reach(ctx, v); err != nil {
			return err
		}
	case at != store.Local:
		return fmt.Errorf("%w: a view at %d", store.ErrInvalid, at)
	}
	return n.machine.View(v, f)
}

// fresh makes a Local view linearizable. A node that is the only voter has
// applied whatever was acknowledged anywhere. With peers the view rides an empty
// group: what was acknowledged before lies below it. raft's VerifyLeader would
// not do, since it counts answers to requests sent before the read began.
func (n *Node) fresh(ctx context.Context) error {
	c := n.raft.GetConfiguration()
	if err := c.Error(); err != nil {
		return fmt.Errorf("%w: %w", store.ErrClosed, err)
	}
	if len(c.Configuration().Servers) == 1 {
		return nil
	}
	_, err := n.Apply(ctx, store.NewTx())
	return err
}

// reach waits until a version has been applied here.
func (n *Node) reach(ctx context.Context, v store.Version) error {
	for {
		have, changed := n.machine.Changed()
		if have >= v {
			return nil
		}
		select {
		case <-changed:
		case <-n.dead:
			return n.closed()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Watch implements store.Store.
func (n *Node) Watch(ctx context.Context, prefix store.Key, from store.Version) iter.Seq2[store.Change, error] {
	return func(yield func(store.Change, error) bool) {
		if err := n.waitReady(ctx); err != nil {
			yield(store.Change{}, err)
			return
		}
		n.machine.Watch(ctx, prefix, from)(yield)
	}
}

// Applied implements store.Store.
func (n *Node) Applied() store.Version { return n.machine.Applied() }

// restore replaces the databases by a staged snapshot.
func (n *Node) restore(r io.Reader, index uint64) error {
	return n.machine.Restore(r, store.Version(index))
}
