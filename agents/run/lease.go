package run

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloister-os/cloister/store"
	leasing "github.com/cloister-os/cloister/store/lease"
)

// A lease makes one worker at a time of all the nodes' processes (package
// store/lease says how); one that comes back from a long pause cannot commit, since
// every commit checks it.
const (
	renewals = 4 // in a lease's life
	looks    = 6 // for leases to take over, in a lease's life
)

// errLost ends the work of who cannot be sure to be the only worker any more.
var errLost = errors.New("another worker may have taken the run over")

func (e *Engine) newLease(epoch uint64) lease {
	return lease{V: recordVersion, Node: e.cfg.Node, Boot: e.boot, Epoch: epoch, TTL: e.cfg.Lease}
}

// keeper keeps a worker's lease while it does a step.
type keeper struct {
	w     *worker
	end   context.CancelCauseFunc // ends the step
	lapse *time.Timer
	lost  atomic.Bool
	stop  context.CancelFunc
	work  sync.WaitGroup
}

// keep renews the lease until release is called, which waits for a renewal under
// way. The step's context ends when the lease is lost, or may be.
func (w *worker) keep(ctx context.Context) (context.Context, *keeper) {
	k := &keeper{w: w}
	ctx, k.end = context.WithCancelCause(ctx)
	k.lapse = time.AfterFunc(leasing.Sure(w.h.lease.TTL)-time.Since(w.h.since), k.lose)
	var life context.Context
	life, k.stop = context.WithCancel(w.e.ctx)
	k.work.Go(func() { k.renew(life) })
	return ctx, k
}

func (k *keeper) lose() {
	k.lost.Store(true)
	k.end(errLost)
}

func (k *keeper) release() {
	k.stop()
	k.work.Wait()
	k.lapse.Stop()
	k.end(nil)
}

func (k *keeper) renew(ctx context.Context) {
	tick := time.NewTicker(k.w.h.lease.TTL / renewals)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		sent := time.Now()
		switch at, err := k.w.rewrite(k.w.h.lease); {
		case err == nil:
			k.w.h.leaseAt, k.w.h.since = at, sent
			k.lapse.Reset(leasing.Sure(k.w.h.lease.TTL) - time.Since(sent))
		case errors.Is(err, store.ErrBusy):
			// it was not written; there is time for another try
		default:
			k.lose()
			return
		}
	}
}

// rewrite writes the lease in place of the one that the worker holds. It does
// not return before the outcome is known, or the engine stops.
func (w *worker) rewrite(l lease) (store.Version, error) {
	value, err := encode(l)
	if err != nil {
		return 0, err
	}
	tx := store.NewTx()
	key := leases.Key(string(w.h.rec.ID))
	tx.Check(key, w.h.leaseAt)
	tx.Put(key, value)
	res, err := leasing.Insist(w.e.ctx, w.e.cfg.Store, tx)
	return res.Version, err
}

// giveBack lets another node go on at once with a run that this one, which is
// stopping, leaves.
func (w *worker) giveBack() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	l := w.h.lease
	l.TTL = 0
	value, err := encode(l)
	if err != nil {
		return
	}
	tx := store.NewTx()
	key := leases.Key(string(w.h.rec.ID))
	tx.Check(key, w.h.leaseAt)
	tx.Put(key, value)
	if _, err := w.e.cfg.Store.Apply(ctx, tx); err != nil {
		w.e.cfg.Logger.Debug("a run could not be handed over", "run", w.h.rec.ID, "err", err)
	}
}

// followLeases stops workers of this process as soon as their lease is somebody
// else's, or gone: a run that was stopped through another node stops here.
func (e *Engine) followLeases(ctx context.Context) error {
	from := e.cfg.Store.Applied()
	for ctx.Err() == nil {
		for change, err := range e.cfg.Store.Watch(ctx, leases.Prefix(), from) {
			if errors.Is(err, store.ErrCompacted) {
				break // a renewal, or a commit, will find out
			}
			if err != nil {
				return err
			}
			from = change.Version
			for _, w := range change.Writes {
				e.seeLease(w)
			}
		}
		from = e.cfg.Store.Applied()
	}
	return ctx.Err()
}

func (e *Engine) seeLease(write store.Write) {
	parts, ok := leases.Parts(write.Key)
	if !ok || len(parts) != 1 {
		return
	}
	var l lease
	if !write.Deleted && decode(write.Value, &l) != nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	w := e.active[ID(parts[0])]
	if w == nil || w.stop == nil {
		return
	}
	if ours := l.Node == e.cfg.Node && l.Boot == e.boot; write.Deleted || l.Epoch > w.epoch || l.Epoch == w.epoch && !ours {
		w.stop(fmt.Errorf("%w: epoch %d", errLost, l.Epoch))
	}
}
