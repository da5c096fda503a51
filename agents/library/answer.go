// Package library holds the agents that come with the product.
//
// It promises: each is an agent like any other, which the run engine takes step
// by step. It may import agents/run, graph and what is below.
package library

import (
	"context"

	"github.com/cloister-os/cloister/agents/run"
	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/answer"
	"github.com/cloister-os/cloister/store"
)

// AnswerName is the name of the agent that answers questions. Its input is an
// answer.Question, its result an answer.Answer.
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
}

// Partial is the data of an event of that kind.
type Partial struct {
	Outcome answer.Outcome `json:"outcome"`
	Answer  string         `json:"answer"`
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
}

type callerKey struct{}

// Caller is the agent with whom it acts for, in what an agent of this package
// does; false elsewhere.
func Caller(ctx context.Context) (auth.Principal, bool) {
	p, ok := ctx.Value(callerKey{}).(auth.Principal)
	return p, ok
}

// Answer is the agent that answers questions: understand, gather, compose,
// verify, cite. Each step asks anew what the asker may read, so that a right
// that was taken away counts from the next step on.
func Answer(a *answer.Answerer, st store.Store, door guard.Door) run.Agent {
	s := &answering{a, st, door}
	return run.Agent{Name: AnswerName, Revision: "1", Steps: []run.Step{
		run.Func("understand", run.Read, s.understand),
		run.Func("gather", run.Read, s.gather),
		run.Func("compose", run.Read, s.compose),
		run.Func("verify", run.Read, s.verify),
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
	q, err := run.Input[answer.Question](c)
	if err != nil {
		return answer.Plan{}, err
	}
	ctx, access, err := s.access(ctx, c)
	if err != nil {
		return answer.Plan{}, err
	}
	plan, err := s.answerer.Understand(ctx, access, q)
	if err != nil {
		return answer.Plan{}, err
	}
	c.Emit(KindUnderstood, Understood{plan.Understood, plan.Version})
	return plan, nil
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

func (s *answering) cite(ctx context.Context, c *run.Call) (answer.Answer, error) {
	draft, err := run.Result[answer.Draft](c, "verify")
	if err != nil {
		return answer.Answer{}, err
	}
	ctx, access, err := s.access(ctx, c)
	if err != nil {
		return answer.Answer{}, err
	}
	out, err := s.answerer.Cite(ctx, access, draft)
	if err != nil {
		return answer.Answer{}, err
	}
	c.Emit(KindPartial, Partial{out.Outcome, out.Answer})
	c.Emit(KindCitations, Citations{out.Citations, out.Freshness})
	c.Charge(0, map[string]int64{"citations": int64(len(out.Citations))})
	return out, nil
}
