package run

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/store"
	leasing "github.com/cloister-os/cloister/store/lease"
)

// Delete forgets a conversation of the caller's with all its turns: their
// questions, journals, events and what they kept in blobs. A turn that is being
// worked on is stopped first. From the first transaction on nobody finds it any
// more; one that a dying node leaves half deleted is finished within the hour.
// It returns how many turns were forgotten. What happened stays on the audit
// record, which holds no content.
func (e *Engine) Delete(ctx context.Context, p auth.Principal, id ID) (turns int, err error) {
	err = e.change(ctx, p, id, "delete", func(k *kept, u *store.Update) {
		k.Deleted, k.Title = true, ""
		u.Put(deletes.Key(string(p.Kind), p.ID, string(k.ID)), nil)
	}, func(ctx context.Context, k kept) error {
		turns = len(k.Turns)
		return e.finishDelete(ctx, p, k)
	})
	if done := (*guard.DoneError)(nil); errors.As(err, &done) {
		return strconv.Atoi(string(done.Note)) // it was sent before
	}
	return turns, err
}

// finishDelete forgets the turns of a deleted conversation, and then the
// conversation.
func (e *Engine) finishDelete(ctx context.Context, p auth.Principal, k kept) error {
	for _, turn := range k.Turns {
		if err := e.cancel(ctx, turn); err != nil && !errors.Is(err, ErrEnded) && !errors.Is(err, ErrNotFound) {
			return fmt.Errorf("stop run %s: %w", turn, err)
		}
		h, err := e.loadAt(ctx, store.Fresh, turn)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err == nil {
			err = e.forgetRun(ctx, h.rec)
		}
		if err != nil {
			return fmt.Errorf("forget run %s: %w", turn, err)
		}
	}
	tx := store.NewTx()
	tx.Delete(k.key(p))
	tx.Delete(deletes.Key(string(p.Kind), p.ID, string(k.ID)))
	_, err := leasing.Insist(ctx, e.cfg.Store, tx)
	return err
}

// finishDeletes goes on with what nodes left half deleted.
func (e *Engine) finishDeletes(ctx context.Context) error {
	type half struct {
		p auth.Principal
		k kept
	}
	var list []half
	err := e.cfg.Store.View(ctx, store.Local, func(s store.Snapshot) error {
		for item, err := range s.Scan(deletes.Prefix(), "") {
			if err != nil {
				return err
			}
			parts, ok := deletes.Parts(item.Key)
			if !ok || len(parts) != 3 {
				return fmt.Errorf("deleted conversation with a strange key %q", item.Key)
			}
			h := half{auth.Principal{Kind: auth.Kind(parts[0]), ID: parts[1]}, kept{ID: ID(parts[2])}}
			row, err := s.Get(h.k.key(h.p))
			if errors.Is(err, store.ErrNotFound) {
				continue
			}
			if err == nil {
				err = h.k.decode(row.Value)
			}
			if err != nil {
				return fmt.Errorf("conversation %s: %w", h.k.ID, err)
			}
			if list = append(list, h); len(list) == pruneAtOnce {
				return nil
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, h := range list {
		if err := e.finishDelete(ctx, h.p, h.k); err != nil {
			return err
		}
	}
	return nil
}

// forgetEmpty forgets what is written down of a conversation whose newest turn
// was a run that has been forgotten.
func (e *Engine) forgetEmpty(ctx context.Context, r record) error {
	p, id := auth.Principal{Kind: r.Owner.Kind, ID: r.Owner.ID}, r.Root
	if id == "" {
		id = r.ID
	}
	var k kept
	err := e.cfg.Store.View(ctx, store.Local, func(s store.Snapshot) (err error) {
		k, err = loadKept(s, p, id)
		return err
	})
	if errors.Is(err, ErrNotFound) || err == nil && (k.at == 0 || k.Turns[len(k.Turns)-1] != r.ID) {
		return nil
	}
	if err != nil {
		return err
	}
	tx := store.NewTx()
	tx.Check(k.key(p), k.at)
	tx.Delete(k.key(p))
	if _, err = leasing.Insist(ctx, e.cfg.Store, tx); errors.Is(err, store.ErrConflict) {
		return nil // it went on meanwhile
	}
	return err
}

// earlier lists the turns before the worker's own run, newest first.
func (w *worker) earlier(ctx context.Context) ([]ID, error) {
	r := w.h.rec
	if r.Root == "" {
		return nil, nil
	}
	k, err := w.e.find(ctx, r.Owner.principal(), r.Root)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []ID
	for _, turn := range k.Turns {
		if turn == r.ID {
			break
		}
		out = append([]ID{turn}, out...)
	}
	return out, nil
}

// earlierResult reads what a step of an earlier run of the same owner left, in
// the name of the agent acting for them.
func (w *worker) earlierResult(ctx context.Context, id ID, step string) ([]byte, error) {
	h, err := w.e.load(ctx, id)
	if err != nil {
		return nil, err
	}
	own := w.h.rec.Owner
	if h.rec.Owner.Kind != own.Kind || h.rec.Owner.ID != own.ID {
		return nil, ErrNotFound
	}
	var out []byte
	req := guard.Request{
		Principal: w.agent.principal(own.principal()), Action: auth.RunRead, Resource: auth.Run(string(id), own.ID),
		Run: string(w.h.rec.ID), Detail: map[string]any{"conversation": "lean on", "step": step},
	}
	err = w.e.cfg.Door.Read(ctx, req, func(ctx context.Context, _ *guard.Permit) (guard.Outcome, error) {
		out, err = w.e.stepResult(ctx, id, step)
		return guard.Outcome{Status: guard.StatusOK, Usage: map[string]int64{"bytes": int64(len(out))}}, err
	})
	return out, err
}

// stepResult reads what one step of a run left.
func (e *Engine) stepResult(ctx context.Context, id ID, step string) ([]byte, error) {
	var found *payload
	err := e.cfg.Store.View(ctx, store.Local, func(s store.Snapshot) error {
		for item, err := range s.Scan(steps.Prefix(string(id)), "") {
			if err != nil {
				return err
			}
			var r stepRecord
			if err := decode(item.Value, &r); err != nil {
				return fmt.Errorf("a step of run %s: %w", id, err)
			}
			if r.Name == step {
				found = &r.Result
				return nil
			}
		}
		return ErrNotFound
	})
	if err != nil {
		return nil, err
	}
	return e.open(*found)
}
