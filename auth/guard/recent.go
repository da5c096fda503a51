package guard

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloister-os/cloister/store"
)

// recentFor is how old at most what a node knows of rights, keys, sessions and
// limits may be when it acts on it: a right that was taken away through one node
// counts on every other after that time at the latest. A node that cannot prove
// it, because it does not reach the others, decides nothing.
const recentFor = time.Second

// proofWithin bounds one proof.
const proofWithin = 5 * time.Second

// recency proves now and then that this node has not fallen behind. A proof is
// one Fresh view, shared by all who wait for it; between proofs it costs a look
// at the clock.
type recency struct {
	proven atomic.Pointer[time.Time] // when the newest proof that succeeded began

	mu    sync.Mutex // guards what follows
	proof *proof     // under way, or nil
}

type proof struct {
	began time.Time
	done  chan struct{}
	err   error // set before done is closed
}

// Recent returns once everything that this node knows is as it stood recentFor
// ago or later, so that Local views and decisions may be acted on. Its error
// matches store.ErrBusy when the node is cut off from the others.
func (g *Guard) Recent(ctx context.Context) error {
	now := time.Now()
	if at := g.recent.proven.Load(); at != nil {
		switch age := gone(*at, now); {
		case age < recentFor/2:
			return nil
		case age < recentFor:
			g.prove(now) // so that nobody has to wait for it
			return nil
		}
	}
	p := g.prove(now.Add(-recentFor))
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// gone is how long ago something was, by whichever clock says longer: the
// monotonic one stands still with a machine that was suspended.
func gone(at, now time.Time) time.Duration {
	wall := now.Round(0).Sub(at.Round(0))
	if wall < 0 {
		return recentFor
	}
	return max(wall, now.Sub(at))
}

// prove returns a proof that began after a time: the one under way or a new one.
func (g *Guard) prove(after time.Time) *proof {
	g.recent.mu.Lock()
	defer g.recent.mu.Unlock()
	if p := g.recent.proof; p != nil && p.began.After(after) {
		return p
	}
	p := &proof{began: time.Now(), done: make(chan struct{})}
	g.recent.proof = p
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), proofWithin)
		defer cancel()
		p.err = g.catchUp(ctx)
		g.recent.mu.Lock()
		if g.recent.proof == p {
			g.recent.proof = nil
		}
		if last := g.recent.proven.Load(); p.err == nil && (last == nil || last.Before(p.began)) {
			g.recent.proven.Store(&p.began)
		}
		g.recent.mu.Unlock()
		close(p.done)
	}()
	return p
}

// catchUp brings this node to what is acknowledged anywhere: the store's Local
// view, and the policies and limits that follow it.
func (g *Guard) catchUp(ctx context.Context) error {
	var policies, limits store.Version
	err := g.store.View(ctx, store.Fresh, func(s store.Snapshot) (err error) {
		if policies, err = g.policies.Changed(s); err == nil {
			limits, err = g.ledger.Changed(s)
		}
		return err
	})
	if err == nil {
		err = g.policies.CatchUp(ctx, policies)
	}
	if err == nil {
		err = g.ledger.CatchUp(ctx, limits)
	}
	switch {
	case err == nil || errors.Is(err, store.ErrClosed) || errors.Is(err, store.ErrBusy):
		return err
	default:
		return fmt.Errorf("this node cannot say what is permitted now, for it does not reach the others: %w (%w)", store.ErrBusy, err)
	}
}
