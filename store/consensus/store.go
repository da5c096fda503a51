package consensus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"

	"github.com/hashicorp/raft"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/machine"
)

const (
	maxUpdates = 100 // how often Update runs its function before it gives up
	// politeUpdates is after how many lost attempts an Update waits its turn, so
	// that those of one node do not starve each other over a key.
	politeUpdates = 3
)

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
		return n.former.pend(tx, class).refuse(n.closed())
	default:
		return n.former.submit(ctx, tx, min(class, store.Bulk))
	}
}

// Update implements store.Store.
func (n *Node) Update(ctx context.Context, f func(*store.Update) error) (store.Result, error) {
	for i := range maxUpdates {
		if i == politeUpdates {
			n.turn.Lock()
			defer n.turn.Unlock()
		}
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

// Stage writes everything that is kept, at the newest version, which it returns:
// every version of every key, and the deletes. What was written counts only when
// there is no error.
func (n *Node) Stage(ctx context.Context, w io.Writer) (store.Version, error) {
	if err := n.waitReady(ctx); err != nil {
		return 0, err
	}
	return n.machine.Stage(ctx, w)
}

// Restore replaces everything by what Stage wrote, of size bytes, on every node.
// Versions go on growing: the restored past keeps its versions and what follows
// gets higher ones than either. Transactions under way end with
// store.ErrUnknown. A failure after the first byte was taken over is fatal.
func (n *Node) Restore(ctx context.Context, r io.Reader, size int64) error {
	if err := n.waitReady(ctx); err != nil {
		return err
	}
	if p, _ := n.Leader(); !n.Leads() {
		return fmt.Errorf("%w: a backup is restored by the node that leads, which is %q", store.ErrInvalid, p.ID)
	}
	head, r, err := machine.Peek(r)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	meta := &raft.SnapshotMeta{Version: raft.SnapshotVersionMax, Index: uint64(head), Size: size}
	if err := n.raft.Restore(meta, r, 0); errors.Is(err, raft.ErrLeadershipLost) {
		return fmt.Errorf("%w: leadership was lost while the other nodes got the backup; look at what is there, and restore it again if need be", store.ErrUnknown)
	} else if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	n.nudge()
	return nil
}

// restore is Restore on each node, on raft's goroutine.
func (n *Node) restore(r io.Reader, index uint64) error {
	if err := n.install(r, index); err != nil {
		return err
	}
	return n.rebirth()
}

// install replaces the databases by a staged snapshot. It may hold a version
// above the index of raft's snapshot: what raft applies in between is then there.
func (n *Node) install(r io.Reader, index uint64) error {
	head, r, err := machine.Peek(r)
	if err != nil {
		return err
	}
	at := max(head, store.Version(index))
	if err := n.machine.Restore(r, at); err != nil {
		return err
	}
	n.chains.reset()
	n.progress.set(uint64(at))
	return nil
}

// rebirth is outrank after the databases were replaced. What was under way ends
// as unknown.
func (n *Node) rebirth() error {
	before := n.origin.boot.Load()
	if err := n.outrank(); err != nil || n.origin.boot.Load() == before {
		return err
	}
	n.origin.end(errors.New("the store was replaced by a backup"))
	return nil
}

// outrank gives the node's life a number above any that the databases know it by;
// under a lower one all that it proposes is refused for ever. They know a higher
// one when the node was made anew under the name of a node whose clock was ahead
// of this one's. What is under way was then refused under the old number, and is
// sent again under the new one. That one is drawn: what this node knows may end
// before the life of another that was made anew under the name, and outranked the
// same number. Two lives of one number would take each other's outcomes for theirs.
func (n *Node) outrank() error {
	known := n.machine.Boot(n.cfg.NodeID)
	if known <= n.origin.boot.Load() {
		return nil
	}
	above := known + 1 + rand.Uint64N(outrankBy)
	if err := n.logs.setBoot(above); err != nil {
		return err
	}
	n.origin.boot.Store(above)
	return nil
}

// outrankBy is by how much a life that outranks another is at most above it.
const outrankBy = 1 << 40
