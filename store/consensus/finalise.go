package consensus

import (
	"context"
	"errors"
	"fmt"

	"github.com/cloister-os/cloister/store"
)

// Format is the format that the cluster works at.
func (n *Node) Format() int { return n.machine.Format() }

// Finalise raises the cluster to the newest format that this program knows, and
// returns from which to which. Every node must run a program that knows it; after
// this an older program is refused for ever. There is no way back.
func (n *Node) Finalise(ctx context.Context) (from, to int, err error) {
	if err := n.waitReady(ctx); err != nil {
		return 0, 0, err
	}
	if err := n.readyFor(ctx, store.Format); err != nil {
		return 0, 0, fmt.Errorf("finalise: %w", err)
	}
	_, err = n.Update(ctx, func(u *store.Update) error {
		if from, err = store.FormatOf(u.Get); err != nil {
			return err
		}
		if from >= store.Format {
			return errNothing
		}
		u.Put(store.ClusterFormat, []byte(store.Number(store.Format)))
		return nil
	})
	if errors.Is(err, errNothing) {
		err = nil
	}
	return from, max(from, store.Format), err
}

// readyFor refuses a format that not every node is known to understand.
func (n *Node) readyFor(ctx context.Context, format int) error {
	members, err := n.Members(ctx)
	if err != nil {
		return err
	}
	for _, m := range members {
		switch {
		case m.Format == 0 || !m.Healthy && !m.Self:
			return fmt.Errorf("%w: node %s does not answer, so nobody knows which program it runs; start it, or remove it from the cluster", store.ErrInvalid, m.ID)
		case m.Format < format:
			return fmt.Errorf("%w: node %s runs %s, which knows formats up to %d and not %d; install the new program on it first", store.ErrInvalid, m.ID, m.Program, m.Format, format)
		}
	}
	return nil
}

// leaderName is what a group that this node forms says of who led: nothing while
// older programs must read it.
func (n *Node) leaderName() string {
	if n.Format() < store.FormatLeader {
		return ""
	}
	return n.cfg.NodeID
}

// Led is the node that led when a version was made, and so whose clock gave its
// time; "" where it was not kept.
func (n *Node) Led(ctx context.Context, v store.Version) (string, error) {
	if err := n.waitReady(ctx); err != nil {
		return "", err
	}
	return n.machine.Led(v)
}
