package run

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/cloister-os/cloister/store"
)

// Resume takes over what earlier processes left, now, and then, until the
// context or the engine ends, whatever other processes leave. A run whose lease
// names this node and another boot is taken over at once, because two
// processes are never one node; another node's when its lease has not changed
// for its whole life, as measured here. Once an hour the node that leads forgets
// old runs.
func (e *Engine) Resume(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.ctx, cancel)()
	tick, hour := time.NewTicker(e.cfg.Lease/looks), time.NewTicker(time.Hour)
	defer tick.Stop()
	defer hour.Stop()
	var following sync.WaitGroup
	defer following.Wait()
	following.Go(func() {
		if err := e.followLeases(ctx); err != nil && ctx.Err() == nil {
			e.cfg.Logger.Warn("leases are not followed any more; workers find out at their next renewal", "err", err)
		}
	})
	for {
		if err := e.sweep(ctx); err != nil && ctx.Err() == nil {
			e.cfg.Logger.Warn("runs could not be resumed", "err", err)
		}
		select {
		case <-tick.C:
		case <-hour.C:
			if !e.cfg.Leads() {
				continue
			}
			if err := e.prune(ctx); err != nil && ctx.Err() == nil {
				e.cfg.Logger.Warn("old runs could not be forgotten", "err", err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// sweep takes over every run that nobody works on.
func (e *Engine) sweep(ctx context.Context) error {
	dead, err := e.dead(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, id := range slices.Sorted(maps.Keys(dead)) { // the oldest first
		select {
		case e.places <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		w, err := e.takeOver(ctx, id, dead[id])
		if w == nil || err != nil {
			e.forget(id)
			e.leave()
			if err != nil && !errors.Is(err, store.ErrConflict) {
				errs = append(errs, fmt.Errorf("run %s: %w", id, err))
			}
			continue
		}
		e.launch(w)
	}
	return errors.Join(errs...)
}

// dead are the runs whose worker is gone, with the version of the lease that it left.
func (e *Engine) dead(ctx context.Context) (map[ID]store.Version, error) {
	dead := map[ID]store.Version{}
	there := map[string]bool{}
	err := e.cfg.Store.View(ctx, store.Local, func(s store.Snapshot) error {
		for item, err := range s.Scan(leases.Prefix(), "") {
			if err != nil {
				return err
			}
			parts, ok := leases.Parts(item.Key)
			if !ok || len(parts) != 1 {
				return fmt.Errorf("lease with a strange key %q", item.Key)
			}
			var l lease
			if err := decode(item.Value, &l); err != nil {
				return fmt.Errorf("lease %q: %w", item.Key, err)
			}
			id := ID(parts[0])
			there[parts[0]] = true
			if e.gone(id, l, item.Version) {
				dead[id] = item.Version
			}
		}
		return nil
	})
	if err == nil {
		e.seen.Keep(there)
	}
	return dead, err
}

func (e *Engine) gone(id ID, l lease, v store.Version) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if l.Node == e.cfg.Node {
		_, working := e.active[id]
		return l.Boot != e.boot || !working
	}
	if l.TTL == 0 {
		return true // given back
	}
	return e.seen.Dead(string(id), v, l.TTL)
}

// takeOver makes this process the run's worker, or ends the run when it cannot
// go on. A nil worker means that there is nothing left to do. The lease must still be
// the one that was found dead: another node may have taken the run over since.
func (e *Engine) takeOver(ctx context.Context, id ID, lease store.Version) (*worker, error) {
	h, err := e.load(ctx, id)
	if err != nil {
		return nil, err
	}
	if h.rec.State != Running || h.leaseAt != lease {
		return nil, nil
	}
	a := e.agents[h.rec.Agent]
	if why := e.unfit(a, h); why != nil {
		return nil, e.giveUp(ctx, a, h, why)
	}
	if e.strange(a, h) {
		return nil, nil // a node with this version may go on with it
	}
	results, err := e.results(ctx, id, h.rec.Next)
	if err != nil {
		return nil, err // whoever holds a large result may be away; tried again until the run has taken too long
	}
	var before []byte
	if h.rec.Next > 0 {
		before = results[a.Steps[h.rec.Next-1].name]
	}
	t := e.turn(a, h)
	t.h.lease = e.newLease(h.lease.Epoch + 1)
	e.reserve(id, t.h.lease.Epoch)
	if err := t.begin(ctx, before); err != nil {
		if refused(err) {
			return nil, e.giveUp(ctx, a, h, err)
		}
		return nil, err
	}
	now, err := t.commit(ctx)
	if errors.Is(err, store.ErrLimit) {
		return nil, e.giveUp(ctx, a, h, err)
	}
	if err != nil {
		return nil, err
	}
	return &worker{e: e, agent: a, h: now, permit: t.permit, results: results}, nil
}

// unfit says why a run cannot go on here, or nil.
func (e *Engine) unfit(a *Agent, h held) error {
	late := e.cfg.Now().Sub(h.rec.Started) > e.cfg.Leave
	switch {
	case a == nil && late:
		return fmt.Errorf("agent %s: %w", h.rec.Agent, ErrUnknown)
	case a != nil && a.Version() != h.rec.Version && late:
		return fmt.Errorf("agent %s has changed since the run was started; start it again", h.rec.Agent)
	case e.strange(a, h):
		return nil
	case h.rec.Attempt >= MaxAttempts:
		return fmt.Errorf("the node stopped %d times during step %s; it will not be tried again", h.rec.Attempt, a.Steps[h.rec.Next].name)
	case a.Steps[h.rec.Next].effect == Unsafe:
		return ErrInDoubt
	case e.cfg.Now().Sub(h.rec.Started) > e.cfg.Longest:
		return ErrTooLong
	}
	return nil
}

// strange reports whether this node cannot work on the run, but another might.
func (e *Engine) strange(a *Agent, h held) bool { return a == nil || a.Version() != h.rec.Version }

func (e *Engine) giveUp(ctx context.Context, a *Agent, h held, why error) error {
	t := e.turn(a, h)
	name := ""
	if a != nil && h.rec.Next < len(a.Steps) {
		name = a.Steps[h.rec.Next].name
	}
	if err := t.end(Failed, plain(why), failure(name, why)); err != nil {
		return err
	}
	_, err := t.commit(ctx)
	return err
}
