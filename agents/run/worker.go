package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/store"
	leasing "github.com/cloister-os/cloister/store/lease"
)

// worker does the steps of one run, one after the other.
type worker struct {
	e       *Engine
	agent   *Agent
	h       held              // as last committed
	results map[string][]byte // of the steps that are done
	permit  *guard.Permit     // of the next step
}

// work does steps until the run has ended, or gives up: whoever resumes finds
// the journal as the last commit left it.
func (w *worker) work(ctx context.Context) {
	left := w.e.cfg.Longest - w.e.cfg.Now().Sub(w.h.rec.Started)
	ctx, cancel := context.WithTimeoutCause(ctx, left, ErrTooLong)
	defer cancel()
	for w.h.rec.State == Running {
		if err := w.step(ctx); err != nil {
			if w.e.ctx.Err() == nil && !errors.Is(err, store.ErrConflict) && !errors.Is(err, errLost) {
				w.e.cfg.Logger.Warn("run left to be resumed", "run", w.h.rec.ID, "step", w.current().name, "err", err)
			}
			return
		}
	}
}

func (w *worker) current() Step { return w.agent.Steps[w.h.rec.Next] }

// step does the next step and commits its end with the beginning of the one
// after it. An error means that nothing was committed.
func (w *worker) step(ctx context.Context) error {
	call := &Call{
		run: w.h.rec.ID, step: w.current().name, permit: w.permit,
		principal: w.agent.principal(w.h.rec.Owner.principal()),
		input:     w.h.rec.Input, results: w.results, room: MaxEvents - MaxSteps - int(w.h.rec.NextSeq),
		earlier: w.earlier, result: w.earlierResult,
	}
	m, err := w.do(ctx, call)
	end := func(ctx context.Context) error { return w.succeed(ctx, call, m) }
	if w.last() {
		end = func(ctx context.Context) error { return w.finish(ctx, call, m) }
	}
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, ErrCancelled):
		end = func(ctx context.Context) error { return w.cancelled(ctx, call) }
	case errors.Is(cause, ErrTooLong):
		end = func(ctx context.Context) error { return w.fail(ctx, call, ErrTooLong) }
	case cause != nil:
		return cause // stopping, or lost: what the step returned says nothing
	case errors.Is(err, errLost):
		return err
	case err != nil:
		end = func(ctx context.Context) error { return w.fail(ctx, call, err) }
	}
	return w.settle(end)
}

// settleWithin is how long the end of a step may wait for a store that cannot
// take it, while nodes elect a leader for one. The lease fences it meanwhile.
const settleWithin = 30 * time.Second

// settle commits the end of a step, again and again while the store is busy.
func (w *worker) settle(end func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(w.e.ctx, settleWithin)
	defer cancel()
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		err := end(ctx)
		if !errors.Is(err, store.ErrBusy) || !leasing.Wait(ctx, pause) {
			return err
		}
	}
}

// last reports whether the current step is the run's last.
func (w *worker) last() bool { return w.h.rec.Next+1 == len(w.agent.Steps) }

// made is what a step made, ready for the journal.
type made struct {
	bytes []byte
	kept  payload
	final Event // of the last step
}

// do executes the step and keeps what it made, while its lease is kept alive.
// Its intent is durable: the commit that made it current has returned.
func (w *worker) do(ctx context.Context, call *Call) (m made, err error) {
	ctx, lease := w.keep(ctx)
	defer func() {
		lease.release()
		if err != nil && lease.lost.Load() {
			err = errLost // it failed because of that
		}
	}()
	defer func() {
		if r := recover(); r != nil {
			w.e.cfg.Logger.Error("a step panicked", "run", call.run, "step", call.step, "panic", fmt.Sprintf("%T", r), "stack", string(debug.Stack()))
			err = errors.New("the step panicked; the node's log says where")
		}
	}()
	out, err := w.current().do(ctx, call)
	if err == nil {
		err = call.err
	}
	if err != nil {
		return m, err
	}
	if m.bytes, err = encode(out); err != nil {
		return m, err
	}
	if m.kept, err = w.e.keep(ctx, m.bytes); err != nil {
		return m, err
	}
	if w.last() {
		m.final, err = w.finalEvent(ctx, call, out)
	}
	return m, err
}

// succeed journals the step's result and begins the next.
func (w *worker) succeed(ctx context.Context, call *Call, m made) error {
	t := w.e.turn(w.agent, w.h)
	if err := t.done(w.permit, call, m.kept); err != nil {
		return err
	}
	t.h.rec.Next, t.h.rec.Attempt = t.h.rec.Next+1, 0
	err := t.begin(ctx, m.bytes)
	if err == nil {
		err = w.commit(ctx, t)
	}
	if refused(err) {
		return w.refuse(ctx, call, m.kept, err)
	}
	if err == nil {
		w.results[call.step] = m.bytes
	}
	return err
}

// finish journals the last step's result and ends the run.
func (w *worker) finish(ctx context.Context, call *Call, m made) error {
	t := w.e.turn(w.agent, w.h)
	if err := t.done(w.permit, call, m.kept); err != nil {
		return err
	}
	if err := t.end(Done, "", m.final); err != nil {
		return err
	}
	return w.commit(ctx, t)
}

// refuse journals the step's result and ends the run, because the next step
// may not begin.
func (w *worker) refuse(ctx context.Context, call *Call, kept payload, why error) error {
	t := w.e.turn(w.agent, w.h)
	if err := t.done(w.permit, call, kept); err != nil {
		return err
	}
	t.h.rec.Next++
	if err := t.end(Failed, plain(why), failure(t.current().name, why)); err != nil {
		return err
	}
	return w.commit(ctx, t)
}

// fail ends the run, because the step did not succeed.
func (w *worker) fail(ctx context.Context, call *Call, why error) error {
	t := w.e.turn(w.agent, w.h)
	out := guard.Outcome{Status: guard.StatusFailed, Error: plain(why), Cost: call.cost, Usage: call.usage}
	if err := w.e.cfg.Door.Finish(t.tx, w.permit, out); err != nil {
		return err
	}
	t.h.rec.Cost += call.cost
	if err := t.end(Failed, plain(why), failure(call.step, why)); err != nil {
		return err
	}
	return w.commit(ctx, t)
}

// cancelled ends the run, because its owner wants it.
func (w *worker) cancelled(ctx context.Context, call *Call) error {
	t := w.e.turn(w.agent, w.h)
	out := guard.Outcome{Status: guard.StatusFailed, Error: "cancelled", Cost: call.cost, Usage: call.usage}
	if err := w.e.cfg.Door.Finish(t.tx, w.permit, out); err != nil {
		return err
	}
	t.h.rec.Cost += call.cost
	if err := t.end(Cancelled, "", Event{Kind: KindCancelled, Data: json.RawMessage("{}")}); err != nil {
		return err
	}
	return w.commit(ctx, t)
}

func (w *worker) commit(ctx context.Context, t *turn) error {
	h, err := t.commit(ctx)
	if err == nil {
		w.h, w.permit = h, t.permit
	}
	return err
}

// finalEvent carries the last step's result as JSON.
func (w *worker) finalEvent(ctx context.Context, call *Call, out any) (Event, error) {
	b, err := json.Marshal(out)
	if err != nil {
		return Event{}, err
	}
	ev := Event{Kind: KindFinal, Step: call.step, Data: b, Cost: w.h.rec.Cost + call.cost}
	if len(b) > inlineBytes {
		large, err := w.e.keep(ctx, b)
		if err != nil {
			return Event{}, err
		}
		ev.Data, ev.Large = json.RawMessage("null"), &large
	}
	return ev, nil
}
