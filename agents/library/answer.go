// Package library holds the agents that come with the product.
//
// It promises: each is an agent like any other, which the run engine takes step
// by step. It may import agents/run, agents/memory, graph and what
// is below.
package library

import (
	"context"
	"errors"

	"github.com/cloister-os/cloister/agents/memory"
	"github.com/cloister-os/cloister/agents/run"
	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/answer"
	"github.com/cloister-os/cloister/store"
)

// AnswerName is the name of the agent that answers questions. Its input is a
// Question, its result an Answer.
const AnswerName = "answer"

// The events that the agent answer emits.
const (
	KindUnderstood = "understood" // {"understood", "version"}
	KindPartial    = "partial"    // {"outcome", "answer"}: verified, its citations are being read again
	KindCitations  = "citations"  // {"citations", "freshness"}
)

// Understood is the data of an event of that kind.
type Understood struct {
	Understood string        `json:"understood"`
	Version    store.Version `json:"version"` // everything is read at it
	Sources    []string      `json:"sources"` // that were read for it
}

// Partial is the data of an event of that kind.
type Partial struct {
	Outcome answer.Outcome `json:"outcome"`
	Answer  string         `json:"answer"`
	Sources []string       `json:"sources"` // that were read for it
}

// Citations is the data of an event of that kind.
type Citations struct {
	Citations []answer.Citation  `json:"citations"`
	Freshness []answer.Freshness `json:"freshness"`
}

// answering is what the steps of the agent answer share.
type answering struct {
	answerer *answer.Answerer
	store    store.Store
	door     guard.Door
	memories *memory.Service
}

type callerKey struct{}

// Caller is the agent with whom it acts for, in what an agent of this package
// does; false elsewhere.
func Caller(ctx context.Context) (auth.Principal, bool) {
	p, ok := ctx.Value(callerKey{}).(auth.Principal)
	return p, ok
}

// Answering is the agent that answers questions: recall, understand, gather,
// compose, verify, cite. Each step asks anew what the asker may read, so that a
// right that was taken away counts from the next step on. What is a statement is
// kept by the first step, and acknowledged. memories = nil: nothing is remembered.
func Answering(a *answer.Answerer, st store.Store, door guard.Door, memories *memory.Service) run.Agent {
	s := &answering{a, st, door, memories}
	return run.Agent{Name: AnswerName, Revision: "3", Steps: []run.Step{
		run.Func("recall", run.Idempotent, s.recall),
		run.Func("understand", run.Read, asked(s.understand)),
		run.Func("gather", run.Read, asked(s.gather)),
		run.Func("compose", run.Read, asked(s.compose)),
		run.Func("verify", run.Read, asked(s.verify)),
		run.Func("cite", run.Read, s.cite),
	}}
}

// access is what the asker may read now, and the context in which it is read.
func (s *answering) access(ctx context.Context, c *run.Call) (_ context.Context, access graph.Access, err error) {
	ctx = context.WithValue(ctx, callerKey{}, c.Principal())
	err = s.store.View(ctx, store.Local, func(snap store.Snapshot) error {
		access, err = graph.ResolveAccess(ctx, s.door, c.Principal(), snap)
		return err
	})
	return ctx, access, err
}

func (s *answering) understand(ctx context.Context, c *run.Call) (answer.Plan, error) {
	q, err := run.Input[Question](c)
	if err != nil {
		return answer.Plan{}, err
	}
	ctx, access, err := s.access(ctx, c)
	if err != nil {
		return answer.Plan{}, err
	}
	plan, err := s.answerer.Follow(ctx, access, q.Question, func(ctx context.Context) ([]answer.Turn, error) { return s.turns(ctx, c) })
	if err != nil {
		return answer.Plan{}, err
	}
	plan.Sources = access.Sources()
	c.Emit(KindUnderstood, Understood{plan.Understood, plan.Version, plan.Sources})
	return plan, nil
}

// turns reads the earlier turns of the conversation, newest first, as far as they
// were answered, are still kept, and may still be told (see Release).
func (s *answering) turns(ctx context.Context, c *run.Call) ([]answer.Turn, error) {
	ids, err := c.Earlier(ctx, answer.MaxTurns)
	if err != nil {
		return nil, err
	}
	var out []answer.Turn
	for _, id := range ids {
		var t answer.Turn
		if t.Plan, err = run.EarlierResult[answer.Plan](ctx, c, id, "understand"); err == nil {
			t.Evidence, err = run.EarlierResult[answer.Evidence](ctx, c, id, "gather")
		}
		if errors.Is(err, run.ErrNotFound) {
			continue // it was stopped, or failed, or has been forgotten
		}
		if err != nil {
			return nil, err
		}
		open, err := stillOpen(ctx, s.store, s.door, c.Principal(), t.Plan.Sources)
		if err != nil {
			return nil, err
		}
		if open && t.Plan.Question.Text != "" { // a statement is nothing to lean on
			out = append(out, t)
		}
	}
	return out, nil
}

func (s *answering) gather(ctx context.Context, c *run.Call) (answer.Evidence, error) {
	plan, err := run.Result[answer.Plan](c, "understand")
	if err != nil {
		return answer.Evidence{}, err
	}
	ctx, access, err := s.access(ctx, c)
	if err != nil {
		return answer.Evidence{}, err
	}
	return s.answerer.Gather(ctx, access, plan)
}

func (s *answering) compose(_ context.Context, c *run.Call) (answer.Draft, error) {
	plan, err := run.Result[answer.Plan](c, "understand")
	if err != nil {
		return answer.Draft{}, err
	}
	evidence, err := run.Result[answer.Evidence](c, "gather")
	if err != nil {
		return answer.Draft{}, err
	}
	return s.answerer.Compose(plan, evidence)
}

func (s *answering) verify(_ context.Context, c *run.Call) (answer.Draft, error) {
	draft, err := run.Result[answer.Draft](c, "compose")
	if err != nil {
		return answer.Draft{}, err
	}
	return s.answerer.Verify(draft)
}

func (s *answering) cite(ctx context.Context, c *run.Call) (Answer, error) {
	q, err := run.Input[Question](c)
	if err != nil {
		return Answer{}, err
	}
	found, err := run.Result[[]memory.Recalled](c, "recall")
	if err != nil {
		return Answer{}, err
	}
	if q.Memory != "" {
		return acknowledge(found), nil
	}
	draft, err := run.Result[answer.Draft](c, "verify")
	if err != nil {
		return Answer{}, err
	}
	ctx, access, err := s.access(ctx, c)
	if err != nil {
		return Answer{}, err
	}
	cited := withheldAnswer() // when a source was closed in mid-answer
	if !lost(access, readThrough(draft)) {
		if cited, err = s.answerer.Cite(ctx, access, draft); err != nil {
			return Answer{}, err
		}
	}
	out, err := s.withMemories(ctx, c, cited, found)
	if err != nil {
		return Answer{}, err
	}
	c.Emit(KindPartial, Partial{out.Outcome, out.Answer.Answer, access.Sources()})
	c.Emit(KindCitations, Citations{out.Citations, out.Freshness})
	c.Charge(0, map[string]int64{"citations": int64(len(out.Citations))})
	return out, nil
}
