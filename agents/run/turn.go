package run

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/store"
	leasing "github.com/cloister-os/cloister/store/lease"
)

// turn is one transaction of a run in the making: how one step ended, how the
// next begins, and the run and its lease as they are then.
type turn struct {
	e      *Engine
	agent  *Agent
	h      held // as it will be
	tx     *store.Tx
	now    time.Time
	permit *guard.Permit // of the step that begins
}

func (e *Engine) turn(a *Agent, h held) *turn {
	return &turn{e: e, agent: a, h: h, tx: store.NewTx(), now: e.cfg.Now().UTC()}
}

func (t *turn) current() Step { return t.agent.Steps[t.h.rec.Next] }

// done adds a step's result, its events and its outcome.
func (t *turn) done(p *guard.Permit, call *Call, kept payload) error {
	value, err := encode(stepRecord{V: recordVersion, Name: call.step, Intent: t.h.rec.Intent, Result: kept, Ended: t.now})
	if err != nil {
		return err
	}
	t.tx.Put(steps.Key(string(call.run), store.Number(uint64(t.h.rec.Next))), value)
	if err := t.e.name(t.tx, kept); err != nil {
		return err
	}
	t.h.rec.Cost += call.cost
	out := guard.Outcome{Status: guard.StatusOK, Cost: call.cost, Usage: call.usage}
	if err := t.e.cfg.Door.Finish(t.tx, p, out); err != nil {
		return err
	}
	return t.emit(call.events...)
}

// begin asks the guard for the current step and adds its intent. Before is the
// result of the step before it.
func (t *turn) begin(ctx context.Context, before []byte) error {
	owner := t.h.rec.Owner.principal()
	if t.e.cfg.Rights != nil {
		var err error
		if owner, err = t.e.cfg.Rights(ctx, owner); err != nil {
			return err
		}
		t.h.rec.Owner = ownerOf(owner)
	}
	t.h.rec.Attempt++
	s := t.current()
	permit, err := t.e.cfg.Door.Begin(ctx, t.tx, guard.Request{
		Principal: t.agent.principal(owner), Action: s.action, Resource: s.resource,
		Args:   map[string]string{"step": s.name, "input": digest(t.h.rec.Input), "before": digest(before)},
		Detail: map[string]any{"agent": t.agent.Name, "step": s.name, "attempt": int64(t.h.rec.Attempt)},
		Run:    string(t.h.rec.ID), UseCase: t.agent.Name, Within: t.e.cfg.Longest,
	})
	if err != nil {
		return err
	}
	t.permit, t.h.rec.Intent = permit, permit.ID()
	data, err := json.Marshal(Stage{Step: s.name, Number: t.h.rec.Next + 1, Of: len(t.agent.Steps), Attempt: t.h.rec.Attempt})
	if err != nil {
		return err
	}
	return t.emit(Event{Kind: KindStage, Step: s.name, Data: data})
}

// end makes this the run's last transaction.
func (t *turn) end(s State, why string, ev Event) error {
	t.h.rec.State, t.h.rec.Error, t.h.rec.Ended = s, why, t.now
	return t.emit(ev)
}

// emit adds events, numbering them.
func (t *turn) emit(list ...Event) error {
	for _, ev := range list {
		ev.V, ev.N, ev.Time = recordVersion, t.h.rec.NextSeq, t.now
		value, err := encode(ev)
		if err != nil {
			return err
		}
		t.tx.Put(events.Key(string(t.h.rec.ID), store.Number(ev.N)), value)
		if ev.Large != nil {
			if err := t.e.name(t.tx, *ev.Large); err != nil {
				return err
			}
		}
		t.h.rec.NextSeq++
	}
	return nil
}

// commit applies the transaction, fenced by the lease, and returns the run as
// it now is.
func (t *turn) commit(ctx context.Context) (held, error) {
	value, err := encodeKeeping(t.h.rec, t.h.rec.leftover)
	if err != nil {
		return held{}, err
	}
	key := leases.Key(string(t.h.rec.ID))
	t.tx.Check(key, t.h.leaseAt)
	t.tx.Put(runs.Key(string(t.h.rec.ID)), value)
	if t.h.rec.State == Running {
		if value, err = encode(t.h.lease); err != nil {
			return held{}, err
		}
		t.tx.Put(key, value)
	} else {
		t.tx.Delete(key)
	}
	t.h.since = time.Now()
	res, err := leasing.Insist(ctx, t.e.cfg.Store, t.tx)
	t.h.leaseAt = res.Version
	return t.h, err
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// refused reports whether the guard or a budget said no, for good.
func refused(err error) bool {
	return errors.Is(err, auth.ErrDenied) || errors.Is(err, auth.ErrUnauthenticated) || errors.Is(err, store.ErrLimit)
}

// plain is an error as one short line.
func plain(err error) string {
	if errors.Is(err, store.ErrLimit) {
		return "the budget is spent"
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	if len(line) > 300 {
		line = strings.ToValidUTF8(line[:300], "") + "…"
	}
	return line
}

func failure(step string, err error) Event {
	data, _ := json.Marshal(map[string]string{"error": plain(err)})
	return Event{Kind: KindFailed, Step: step, Data: data}
}
