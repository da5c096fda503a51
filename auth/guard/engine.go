package guard

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/audit"
	"github.com/cloister-os/cloister/auth/budget"
	"github.com/cloister-os/cloister/auth/policy"
	"github.com/cloister-os/cloister/store"
)

var _ Door = (*Guard)(nil)

// Bounds of an act's time.
const (
	defaultWithin = 15 * time.Minute
	maxWithin     = 24 * time.Hour
	recordWithin  = 10 * time.Second // to write a refusal or an outcome
)

// BudgetSpent is named as the policy of a refusal by budget.
const BudgetSpent = "budget-spent"

// Config is what a Guard needs.
type Config struct {
	Store    store.Store      // required
	Policies *policy.Policies // required
	Ledger   *budget.Ledger   // required
	Node     string           // this node's name, for the record
	Logger   *slog.Logger     // slog.Default() when nil
	// Now is time.Now when nil. Nodes that share a store give a store.Clock, for a
	// deadline that one sets another judges.
	Now func() time.Time
	// Leads says whether this node sweeps for all; nil = always. It is economy:
	// two that sweep settle nothing twice.
	Leads func() bool
}

// Guard is the door. Call Run to have what dead processes left settled, and Close
// to write the last outcomes.
type Guard struct {
	store    store.Store
	policies *policy.Policies
	ledger   *budget.Ledger
	node     string
	boot     string // tells this process from earlier ones on the node
	logger   *slog.Logger
	now      func() time.Time
	leads    func() bool
	recent   recency
	batch    *batch
}

// New returns a Guard.
func New(c Config) (*Guard, error) {
	if c.Store == nil || c.Policies == nil || c.Ledger == nil {
		return nil, errors.New("a guard needs a store, policies and a ledger")
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Leads == nil {
		c.Leads = func() bool { return true }
	}
	g := &Guard{store: c.Store, policies: c.Policies, ledger: c.Ledger, node: c.Node, boot: rand.Text(), logger: c.Logger, now: c.Now, leads: c.Leads}
	g.batch = newBatch(g)
	return g, nil
}

// Policies are the policies behind the door.
func (g *Guard) Policies() *policy.Policies { return g.policies }

// Ledger is where the door's costs are kept.
func (g *Guard) Ledger() *budget.Ledger { return g.ledger }

// Close writes the outcomes that are still batched. No call may follow.
func (g *Guard) Close() error { return g.batch.close() }

// decide asks the policy, and refuses what it permits only with obligations: no
// part of the house can meet one.
func (g *Guard) decide(req Request) policy.Decision {
	facts := make(map[string]any, len(req.Context)+3)
	maps.Copy(facts, req.Context)
	facts["reserve_nano_usd"] = req.Reserve
	facts["use_case"] = useCase(req)
	if req.Run != "" {
		facts["run"] = req.Run
	}
	d := g.policies.Decide(req.Principal, req.Action, req.Resource, facts)
	if d.Err != nil {
		g.logger.Warn("A policy could not be evaluated, so the act was refused.", "action", req.Action, "policies", d.Policies, "error", d.Err)
	}
	if len(d.Obligations) > 0 {
		d.Allow = false
	}
	return d
}

func useCase(req Request) string {
	if req.UseCase != "" {
		return req.UseCase
	}
	return string(req.Action)
}

// Decide implements Door.
func (g *Guard) Decide(ctx context.Context, req Request) error {
	if err := g.Recent(ctx); err != nil {
		return err
	}
	if d := g.decide(req); !d.Allow {
		return &auth.DeniedError{Action: req.Action, Policies: d.Policies}
	}
	return nil
}

// Begin implements Door.
func (g *Guard) Begin(ctx context.Context, tx *store.Tx, req Request) (*Permit, error) {
	return g.begin(ctx, tx, req, true)
}

// begin decides and adds the intent. Only an act that is swept leaves an entry
// for the sweeper.
func (g *Guard) begin(ctx context.Context, tx *store.Tx, req Request, swept bool) (*Permit, error) {
	if auth.HoldsSecret(req.Resource.ID + " " + req.Run + " " + req.UseCase) {
		return nil, fmt.Errorf("%w: an API key was given where a name belongs: send it only as \"Authorization: Bearer\", and replace it, for it may have been seen", store.ErrInvalid)
	}
	if err := g.Recent(context.WithoutCancel(ctx)); err != nil { // who went away is refused on record all the same
		return nil, err
	}
	d := g.decide(req)
	if !d.Allow {
		return nil, g.refuse(ctx, req, d.Policies)
	}
	p := &Permit{id: audit.NewID(), request: req, intent: tx, durable: make(chan struct{})}
	rec, err := g.record(req, audit.Intent)
	if err != nil {
		return nil, err
	}
	rec.ID, rec.Decision, rec.Policies = p.id, "allow", d.Policies
	if err := audit.Append(tx, rec); err != nil {
		return nil, fmt.Errorf("%s cannot be recorded, so it is refused: %w", req.Action, err)
	}
	if p.hold, err = g.ledger.Reserve(tx, attribution(req), req.Reserve); err != nil {
		return nil, err
	}
	if swept {
		p.open = g.leaveOpen(tx, p)
	}
	tx.After(p.recorded)
	return p, tx.Err()
}

// refuse records a refusal and returns it. What cannot be recorded is refused all
// the same.
func (g *Guard) refuse(ctx context.Context, req Request, policies []string) error {
	denied := &auth.DeniedError{Action: req.Action, Policies: policies}
	rec, err := g.record(req, audit.Refusal)
	if err != nil {
		return fmt.Errorf("%w; %w", denied, err)
	}
	rec.Decision, rec.Policies = "deny", policies
	tx := store.NewTx()
	if err := audit.Append(tx, rec); err != nil {
		return fmt.Errorf("%w, and the refusal could not be recorded: %w", denied, err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordWithin)
	defer cancel()
	res, err := g.store.Apply(ctx, tx)
	if err != nil {
		g.logger.Error("A refusal could not be recorded.", "action", req.Action, "policies", policies, "error", err)
		return fmt.Errorf("%w, and the refusal could not be recorded: %w", denied, err)
	}
	denied.Record = res.Seqs[0]
	return denied
}

// Finish implements Door.
func (g *Guard) Finish(tx *store.Tx, p *Permit, out Outcome) error {
	err := g.finish(tx, p, out)
	if err != nil {
		tx.Put("", nil) // an act whose outcome is not in it must not commit
	}
	return err
}

func (g *Guard) finish(tx *store.Tx, p *Permit, out Outcome) error {
	if p == nil || p.durable == nil {
		return fmt.Errorf("an outcome without a permit: %w", auth.ErrDenied)
	}
	version, err := p.finishing(tx)
	if err != nil {
		return fmt.Errorf("the outcome of %s: %w", p.request.Action, err)
	}
	tx.After(p.ending(tx))
	if p.open != "" {
		if tx != p.intent {
			tx.Check(p.open, version)
		}
		tx.Delete(p.open)
	}
	if err := audit.Append(tx, g.outcome(p, out)); err != nil {
		return fmt.Errorf("the outcome of %s cannot be recorded: %w", p.request.Action, err)
	}
	return g.ledger.Settle(tx, p.hold, out.Cost, out.Usage)
}

// Do implements Door.
func (g *Guard) Do(ctx context.Context, req Request, act func(context.Context, *Permit) (Outcome, error)) error {
	tx := store.NewTx()
	p, err := g.begin(ctx, tx, req, true)
	if err != nil {
		return err
	}
	if _, err := g.store.Apply(ctx, tx); err != nil {
		return g.unrecorded(ctx, req, err)
	}
	out, err := g.act(ctx, p, act)
	if p.used() {
		return err
	}
	return errors.Join(err, g.writeOutcome(ctx, p, out))
}

// Read implements Door.
func (g *Guard) Read(ctx context.Context, req Request, act func(context.Context, *Permit) (Outcome, error)) error {
	tx := store.NewTx()
	p, err := g.begin(ctx, tx, req, req.Reserve > 0)
	if err != nil {
		return err
	}
	intent := g.store.Submit(ctx, tx, store.Interactive)
	out, actErr := g.act(ctx, p, act)
	if _, err := intent.Wait(ctx); err != nil {
		return g.unrecorded(ctx, req, err)
	}
	if p.used() {
		return actErr
	}
	return errors.Join(actErr, g.batch.add(ctx, p, out))
}

// unrecorded is the error of an act whose intent did not become durable: it is
// refused. A spent budget is a refusal like one by policy, and is on record.
func (g *Guard) unrecorded(ctx context.Context, req Request, err error) error {
	if errors.Is(err, store.ErrLimit) {
		return fmt.Errorf("the budget for this is spent: %w (%w)", g.refuse(ctx, req, []string{BudgetSpent}), err)
	}
	return fmt.Errorf("%s could not be recorded, so it is refused: %w", req.Action, err)
}

// act runs the act within its time. A panic is an outcome too.
func (g *Guard) act(ctx context.Context, p *Permit, act func(context.Context, *Permit) (Outcome, error)) (out Outcome, err error) {
	ctx, cancel := context.WithTimeout(ctx, within(p.request))
	defer cancel()
	defer func() {
		if r := recover(); r != nil {
			_ = g.writeOutcome(ctx, p, Outcome{Status: StatusInDoubt, Error: "the act panicked", Cost: p.hold.Amount})
			panic(r)
		}
	}()
	out, err = act(ctx, p)
	if out.Status == "" {
		out.Status = StatusOK
		if err != nil {
			out.Status = StatusFailed
		}
	}
	if out.Error == "" {
		out.Error = class(err)
	}
	return out, err
}

// class is what is recorded of an error when the act itself names nothing: the
// error's own text may hold content.
func class(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, context.Canceled):
		return "cancelled"
	case errors.Is(err, context.DeadlineExceeded):
		return "out of time"
	case errors.Is(err, auth.ErrDenied):
		return "not permitted inside"
	}
	return "failed"
}

func within(req Request) time.Duration {
	if req.Within <= 0 {
		return defaultWithin
	}
	return min(req.Within, maxWithin)
}

// writeOutcome writes one outcome in a transaction of its own.
func (g *Guard) writeOutcome(ctx context.Context, p *Permit, out Outcome) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordWithin)
	defer cancel()
	err := g.retry(ctx, func() (*store.Tx, error) {
		tx := store.NewTx()
		return tx, g.finish(tx, p, out)
	})
	if err != nil {
		g.logger.Error("An outcome could not be recorded; its intent will be settled as in doubt.", "action", p.request.Action, "intent", p.id, "error", err)
		return fmt.Errorf("%s was done, but its outcome could not be recorded: %w", p.request.Action, err)
	}
	return nil
}

// retry applies what build makes until it has a definite outcome or time is up:
// a busy store gets a new transaction, an unknown outcome the same one again.
func (g *Guard) retry(ctx context.Context, build func() (*store.Tx, error)) error {
	tx, err := build()
	if err != nil {
		return err
	}
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		_, err = g.store.Apply(ctx, tx)
		busy := errors.Is(err, store.ErrBusy)
		if !busy && !errors.Is(err, store.ErrUnknown) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
		if busy {
			if tx, err = build(); err != nil {
				return err
			}
		}
	}
}
