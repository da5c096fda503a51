package library

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/cloister-os/cloister/agents/memory"
	"github.com/cloister-os/cloister/agents/run"
	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/answer"
	"github.com/cloister-os/cloister/store"
)

// Withheld is what an answer says instead, once a source that was read for it is
// closed to the reader.
const Withheld = "This was read from sources of which one is closed to you now. Ask again to read what you may."

// told is what events and results of the agent answer say of where they come from.
type told struct {
	Sources   []string           `json:"sources"`
	Citations []answer.Citation  `json:"citations"`
	Freshness []answer.Freshness `json:"freshness"`
}

func (t told) all() []string {
	out := t.Sources
	for _, c := range t.Citations {
		out = append(out, c.Source)
	}
	for _, f := range t.Freshness {
		out = append(out, f.Source)
	}
	return out
}

// Release is for run.Config: an answer is told, in full or in part, only while
// all sources that were read for it are open to whoever reads it; a source that
// was removed since takes nothing back. An answer that was kept says Withheld
// instead, and nothing of what it was. The words of the reader's memories, which no
// run holds, are put into it then.
func Release(st store.Store, door guard.Door, memories *memory.Service) func(context.Context, auth.Principal, string, string, json.RawMessage) (json.RawMessage, error) {
	return func(ctx context.Context, p auth.Principal, agent, kind string, data json.RawMessage) (json.RawMessage, error) {
		instead, ok := withheld(kind)
		if agent != AnswerName || !ok {
			return data, nil
		}
		var t told
		if err := json.Unmarshal(data, &t); err != nil {
			return nil, fmt.Errorf("event %s: %w", kind, err)
		}
		// An event of an older program does not say what it comes from.
		open := t.Sources != nil || kind == KindCitations || kind == run.KindFinal
		if open {
			var err error
			if open, err = stillOpen(ctx, st, door, p, t.all()); err != nil {
				return nil, err
			}
		}
		if open && kind == run.KindFinal {
			return Tell(ctx, memories, p, data)
		}
		if open {
			return data, nil
		}
		return json.Marshal(instead)
	}
}

// withheld is what to say instead of an event of the agent; false for one that
// tells nothing of the sources.
func withheld(kind string) (instead any, ok bool) {
	none := withheldAnswer()
	switch kind {
	case KindUnderstood:
		return Understood{Sources: []string{}}, true
	case KindPartial:
		return Partial{answer.Unknown, Withheld, []string{}}, true
	case KindCitations:
		return Citations{none.Citations, none.Freshness}, true
	case run.KindFinal:
		return none, true
	}
	return nil, false
}

func withheldAnswer() answer.Answer {
	return answer.Answer{Outcome: answer.Unknown, Answer: Withheld, Citations: []answer.Citation{}, Freshness: []answer.Freshness{}}
}

// stillOpen reports whether each of the sources may be read, or is no more.
func stillOpen(ctx context.Context, st store.Store, door guard.Door, p auth.Principal, names []string) (bool, error) {
	closed := false
	err := st.View(ctx, store.Local, func(snap store.Snapshot) error {
		all, err := graph.AllSources(snap)
		if err != nil {
			return err
		}
		for _, src := range all {
			if src.Removing || !slices.Contains(names, src.Name) {
				continue
			}
			if err := graph.MayRead(ctx, door, p, src); errors.Is(err, auth.ErrDenied) {
				closed = true
			} else if err != nil {
				return err
			}
		}
		return nil
	})
	return !closed && err == nil, err
}

// readThrough are the sources that were read on the way to a draft.
func readThrough(d answer.Draft) []string {
	out := d.Plan.Sources
	for _, f := range d.Freshness {
		out = append(out, f.Source)
	}
	return out
}

// lost reports whether one of the sources is not open any more.
func lost(access graph.Access, sources []string) bool {
	return slices.ContainsFunc(sources, func(s string) bool { return !access.May(s) })
}
