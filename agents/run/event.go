package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/store"
)

// The kinds of event that the engine itself makes. Steps emit others.
const (
	KindStage     = "stage"     // a step begins: {"step", "number", "of", "attempt"}
	KindFinal     = "final"     // the last step's result; nothing follows
	KindFailed    = "failed"    // {"error"}; nothing follows
	KindCancelled = "cancelled" // {}; nothing follows
)

// Event is something that a run has to tell. Events are part of the journal:
// every listener gets the same ones with the same numbers, now or later.
type Event struct {
	V    uint            `cbor:"v" json:"-"`
	N    uint64          `cbor:"n" json:"n"` // from 1, without gap
	Kind string          `cbor:"kind" json:"kind"`
	Step string          `cbor:"step" json:"step,omitempty"`
	Time time.Time       `cbor:"time" json:"time"`
	Data json.RawMessage `cbor:"data" json:"data"`
	Cost int64           `cbor:"cost,omitempty" json:"-"` // of a final event: nano-dollars that the run cost
	// Conversation is the run's; filled in when the event is told, not kept in it.
	Conversation ID `cbor:"-" json:"-"`
	// Of a final event: the whole result is a blob when it is large.
	Large *payload `cbor:"large,omitempty" json:"-"`
}

// Last reports whether nothing follows the event.
func (ev Event) Last() bool {
	return ev.Kind == KindFinal || ev.Kind == KindFailed || ev.Kind == KindCancelled
}

// Stage is the data of a stage event.
type Stage struct {
	Step    string `json:"step"`
	Number  int    `json:"number"` // from 1
	Of      int    `json:"of"`
	Attempt int    `json:"attempt"`
}

// Events yields a run's events with a number greater than from: those there are
// at once, the others as they are journaled, until the last or the context's
// end (its error is yielded last). The caller needs run.read on the run, asked
// for once; many may listen.
func (e *Engine) Events(ctx context.Context, p auth.Principal, id ID, from uint64) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		r, err := e.Get(ctx, p, id)
		if err != nil {
			yield(Event{}, err)
			return
		}
		release := func(kind string, data json.RawMessage) (json.RawMessage, error) {
			return e.release(ctx, p, r.Agent, kind, data)
		}
		if err := e.follow(ctx, id, from, release, yield); err != nil {
			yield(Event{}, err)
		}
	}
}

// errHeard ends a follow whose listener has what it wants.
var errHeard = errors.New("heard enough")

// release is what may still be told to somebody, under their rights of now.
func (e *Engine) release(ctx context.Context, p auth.Principal, agent, kind string, data json.RawMessage) (json.RawMessage, error) {
	if e.cfg.Release == nil {
		return data, nil
	}
	if e.cfg.Rights != nil {
		var err error
		if p, err = e.cfg.Rights(ctx, p); err != nil {
			return nil, err
		}
	}
	return e.cfg.Release(ctx, p, agent, kind, data)
}

// asked puts the words into runs that are about to be told.
func (e *Engine) asked(ctx context.Context, p auth.Principal, runs ...*Run) error {
	if e.cfg.Asked == nil {
		return nil
	}
	if e.cfg.Rights != nil {
		var err error
		if p, err = e.cfg.Rights(ctx, p); err != nil {
			return err
		}
	}
	return e.cfg.Asked(ctx, p, runs)
}

// pointers are the elements of a list, to be changed.
func pointers(list []Run) []*Run {
	out := make([]*Run, len(list))
	for i := range list {
		out[i] = &list[i]
	}
	return out
}

func (e *Engine) follow(ctx context.Context, id ID, from uint64, release func(string, json.RawMessage) (json.RawMessage, error), yield func(Event, error) bool) error {
	give := func(value []byte, conversation ID) error {
		var ev Event
		if err := decode(value, &ev); err != nil {
			return fmt.Errorf("event of run %s: %w", id, err)
		}
		ev.Conversation = conversation
		if ev.N <= from {
			return nil
		}
		from = ev.N
		if ev.Large != nil {
			b, err := e.open(*ev.Large)
			if err != nil {
				return fmt.Errorf("event %d of run %s: %w", ev.N, id, err)
			}
			ev.Data = b
		}
		data, err := release(ev.Kind, ev.Data)
		if err != nil {
			return err
		}
		ev.Data = data
		if !yield(ev, nil) || ev.Last() {
			return errHeard
		}
		return nil
	}
	for {
		err := e.followOnce(ctx, id, from, give)
		if errors.Is(err, store.ErrCompacted) {
			continue // from has advanced; read on from there
		}
		if errors.Is(err, errHeard) {
			return nil
		}
		return err
	}
}

// followOnce reads what is there and then watches, until give or the watch ends.
func (e *Engine) followOnce(ctx context.Context, id ID, from uint64, give func([]byte, ID) error) error {
	var there [][]byte
	var at store.Version
	ended, conversation := false, id
	err := e.cfg.Store.View(ctx, store.Local, func(s store.Snapshot) error {
		at = s.Version()
		h, err := load(s, id)
		if err != nil {
			return err
		}
		ended = h.rec.State != Running
		if h.rec.Root != "" {
			conversation = h.rec.Root
		}
		for item, err := range s.Scan(events.Prefix(string(id)), events.Key(string(id), store.Number(from))) {
			if err != nil {
				return err
			}
			there = append(there, item.Value)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, value := range there {
		if err := give(value, conversation); err != nil {
			return err
		}
	}
	if ended {
		return errHeard
	}
	for change, err := range e.cfg.Store.Watch(ctx, events.Prefix(string(id)), at) {
		if err != nil {
			return err
		}
		for _, w := range change.Writes {
			if w.Deleted {
				continue
			}
			if err := give(w.Value, conversation); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// Get tells what is known of a run. The caller needs run.read on it; one that
// does not exist is refused like one that somebody else started.
func (e *Engine) Get(ctx context.Context, p auth.Principal, id ID) (Run, error) {
	h, missing := e.load(ctx, id)
	if missing != nil && !errors.Is(missing, ErrNotFound) {
		return Run{}, missing
	}
	var out Run
	req := guard.Request{Principal: p, Action: auth.RunRead, Resource: auth.Run(string(id), h.rec.Owner.ID), Run: string(id)}
	err := e.cfg.Door.Read(ctx, req, func(ctx context.Context, permit *guard.Permit) (guard.Outcome, error) {
		if missing != nil {
			return guard.Outcome{Status: guard.StatusFailed, Error: missing.Error()}, missing
		}
		out = h.rec.run(e.agents[h.rec.Agent])
		var err error
		if h.rec.State == Done {
			if out.Result, err = e.final(ctx, id, h.rec.NextSeq-1); err == nil {
				out.Result, err = e.release(ctx, p, out.Agent, KindFinal, out.Result)
			}
		}
		return guard.Outcome{Status: guard.StatusOK}, err
	})
	if err == nil {
		err = e.asked(ctx, p, &out)
	}
	if err != nil {
		return Run{}, err
	}
	return out, nil
}

// final reads the result out of the run's last event.
func (e *Engine) final(ctx context.Context, id ID, n uint64) (json.RawMessage, error) {
	var ev Event
	err := e.cfg.Store.View(ctx, store.Local, func(s store.Snapshot) error {
		item, err := s.Get(events.Key(string(id), store.Number(n)))
		if err != nil {
			return err
		}
		return decode(item.Value, &ev)
	})
	if err != nil {
		return nil, fmt.Errorf("result of run %s: %w", id, err)
	}
	if ev.Large != nil {
		return e.open(*ev.Large)
	}
	return ev.Data, nil
}

// List tells the caller's own runs, newest first: at most limit (100) of those
// before a run, or from the newest when before is empty.
func (e *Engine) List(ctx context.Context, p auth.Principal, before ID, limit int) ([]Run, error) {
	if limit <= 0 || limit > maxList {
		limit = maxList
	}
	var out []Run
	req := guard.Request{Principal: p, Action: auth.RunRead, Resource: auth.Run("own", p.ID)}
	err := e.cfg.Door.Read(ctx, req, func(ctx context.Context, _ *guard.Permit) (guard.Outcome, error) {
		prefix := byOwner.Prefix(string(p.Kind), p.ID)
		start := store.Key("")
		if before != "" {
			start = byOwner.Key(string(p.Kind), p.ID, string(before))
		}
		err := e.cfg.Store.View(ctx, store.Local, func(s store.Snapshot) error {
			for item, err := range s.ScanBack(prefix, start) {
				if err != nil {
					return err
				}
				parts, _ := byOwner.Parts(item.Key)
				h, err := load(s, ID(parts[len(parts)-1]))
				if err != nil {
					return err
				}
				if out = append(out, h.rec.run(e.agents[h.rec.Agent])); len(out) == limit {
					break
				}
			}
			return nil
		})
		return guard.Outcome{Status: guard.StatusOK, Usage: map[string]int64{"rows": int64(len(out))}}, err
	})
	if err == nil {
		err = e.asked(ctx, p, pointers(out)...)
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

const maxList = 100

func (r record) run(a *Agent) Run {
	out := Run{
		ID: r.ID, Agent: r.Agent, Version: r.Version, Owner: r.Owner.ID, State: r.State,
		Started: r.Started, Ended: r.Ended, Error: r.Error, Cost: r.Cost, input: r.Input,
	}
	if out.Conversation = r.Root; r.Root == "" {
		out.Conversation = r.ID
	}
	if a != nil && r.Next < len(a.Steps) {
		out.Step = a.Steps[r.Next].name
	}
	return out
}
