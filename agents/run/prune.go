package run

import (
	"context"
	"fmt"

	"github.com/cloister-os/cloister/store"
)

// pruneAtOnce bounds how many runs one look forgets, so that it never holds up
// anything else for long.
const pruneAtOnce = 200

// prune forgets runs that ended longer ago than Config.Keep. What they did stays
// on the audit record.
func (e *Engine) prune(ctx context.Context) error {
	old, err := e.old(ctx)
	if err != nil {
		return err
	}
	for _, r := range old {
		if err := e.forgetRun(ctx, r); err != nil {
			return fmt.Errorf("forget run %s: %w", r.ID, err)
		}
		if err := e.forgetEmpty(ctx, r); err != nil {
			return fmt.Errorf("forget the conversation of run %s: %w", r.ID, err)
		}
	}
	return e.finishDeletes(ctx)
}

// old lists ended runs that are to be forgotten, the oldest first: IDs begin
// with the time.
func (e *Engine) old(ctx context.Context) ([]record, error) {
	before := e.cfg.Now().Add(-e.cfg.Keep)
	var out []record
	err := e.cfg.Store.View(ctx, store.Local, func(s store.Snapshot) error {
		for item, err := range s.Scan(runs.Prefix(), "") {
			if err != nil {
				return err
			}
			var r record
			if err := decode(item.Value, &r); err != nil {
				return fmt.Errorf("run %q: %w", item.Key, err)
			}
			if r.Started.After(before) || len(out) == pruneAtOnce {
				return nil
			}
			if r.State != Running && r.Ended.Before(before) {
				out = append(out, r)
			}
		}
		return nil
	})
	return out, err
}

// forgetRun removes a run's events and steps, and then what leads to them, so
// that an interrupted pruning goes on with the next.
func (e *Engine) forgetRun(ctx context.Context, r record) error {
	var keys []store.Key
	err := e.cfg.Store.View(ctx, store.Local, func(s store.Snapshot) error {
		for _, prefix := range []store.Key{events.Prefix(string(r.ID)), steps.Prefix(string(r.ID))} {
			for item, err := range s.Scan(prefix, "") {
				if err != nil {
					return err
				}
				keys = append(keys, item.Key)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if r.Key != "" {
		keys = append(keys, starts.Key(string(r.Owner.Kind), r.Owner.ID, r.Key))
	}
	keys = append(keys, byOwner.Key(string(r.Owner.Kind), r.Owner.ID, string(r.ID)), runs.Key(string(r.ID)))
	tx := store.NewTx()
	for _, k := range keys {
		if !tx.Fits(1, len(k)) {
			if _, err := e.cfg.Store.Submit(ctx, tx, store.Bulk).Wait(ctx); err != nil {
				return err
			}
			tx = store.NewTx()
		}
		tx.Delete(k)
	}
	_, err = e.cfg.Store.Submit(ctx, tx, store.Bulk).Wait(ctx)
	return err
}
