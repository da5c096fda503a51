// Package guard is the one door to every effect: a tool, a model, a file, a
// source, the network, or a byte of somebody's data.
//
// It promises: nothing behind the door happens without a decision by policy and
// an audit intent; what leaves the cluster happens only after the intent is
// durable; no byte read inside is released before it is; if the record cannot be
// written, the act is refused. What stands behind the door takes a *Permit,
// which only this package makes, and checks it with Covers.
//
// It may import store, auth, auth/policy, auth/audit and auth/budget.
package guard

import (
	"context"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/store"
)

// Request is one act that somebody wants to do.
type Request struct {
	Principal auth.Principal
	Action    auth.Action
	Resource  auth.Resource
	Context   map[string]any // typed facts for the policy: string, int64, bool, []string
	Args      any            // what is asked of the resource; only its SHA-256 over canonical JSON is recorded
	Detail    map[string]any // short facts for the audit record; never content or secrets
	Run       string         // the run this is part of, if any
	UseCase   string         // for attribution of cost; "" = the action's name
	Reserve   int64          // nano-dollars to set aside until the outcome
	Within    time.Duration  // the act ends within this time, else it is in doubt; 15 minutes when 0, at most 24 hours
}

// Outcome is how a permitted act ended.
type Outcome struct {
	Status string           // "ok", "failed", "in-doubt"
	Error  string           // one line without content or secrets
	Cost   int64            // nano-dollars, settled against the reservation
	Usage  map[string]int64 // "tokens_in", "tokens_out", "cpu_ns", "bytes", "rows" …
	Detail map[string]any   // short facts for the audit record
}

// Door is what a Guard offers, so that rooms can be tested apart from it.
type Door interface {
	// Decide asks the policy without recording: for filtering what a caller may
	// see, where a refusal must look like absence.
	Decide(ctx context.Context, req Request) error
	// Begin decides and, if permitted, adds the intent and the reservation to the
	// caller's transaction. A refusal is recorded by the guard itself and
	// returned as *auth.DeniedError; a budget that is spent fails the caller's
	// Apply with store.ErrLimit. The permit becomes durable when tx is applied.
	Begin(ctx context.Context, tx *store.Tx, req Request) (*Permit, error)
	// Finish adds the outcome and the settled cost to the caller's transaction,
	// which may be the one that Begin was given. A permit finishes once: an
	// error means that it has, or that its intent is not durable, and makes the
	// transaction fail. After a transaction that failed Finish may be called
	// again, with another one.
	Finish(tx *store.Tx, p *Permit, out Outcome) error
	// Do is Begin, Apply, act, Finish for an act that leaves the cluster or
	// changes something: act runs only once the intent is durable. The outcome is
	// recorded whatever act returns, and at the latest when act's context ends
	// (Request.Within). act may Finish the permit itself, to make the outcome
	// part of its own last transaction.
	Do(ctx context.Context, req Request, act func(context.Context, *Permit) (Outcome, error)) error
	// Read is Do for reads of our own store and the local engine: act overlaps
	// with the record, but Read returns, and so releases what was read, only when
	// the intent is durable. Outcomes may be batched for at most 50 ms.
	Read(ctx context.Context, req Request, act func(context.Context, *Permit) (Outcome, error)) error
}
