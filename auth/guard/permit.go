package guard

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/budget"
	"github.com/cloister-os/cloister/store"
)

// Permit proves that the guard let one act through. Only a Guard makes one that
// covers anything; the zero value and nil cover nothing. It is safe for
// concurrent use.
type Permit struct {
	id      string
	request Request
	hold    budget.Hold
	open    store.Key // the entry that the sweeper settles when nobody finishes; "" = none
	intent  *store.Tx
	durable chan struct{} // closed when the intent's transaction has an outcome

	mu       sync.Mutex // guards all below
	failed   error      // why the intent is not durable
	version  store.Version
	finish   *store.Tx // the transaction that the outcome was added to
	finished bool      // it is durable, or never will be
}

// Carried returns a permit for an act that the guard of another node of the same
// cluster has let through: that node holds the intent, and records the outcome and
// what it cost. The caller knows that it was a member who asked, by the
// certificate of its connection. The permit covers the act and is never finished
// here.
func (g *Guard) Carried(intent string, action auth.Action, resource auth.Resource) *Permit {
	p := &Permit{id: intent, request: Request{Action: action, Resource: resource}, durable: make(chan struct{})}
	close(p.durable)
	return p
}

// ID is the intent's id; the outcome names it.
func (p *Permit) ID() string { return p.id }

// Principal is who was permitted.
func (p *Permit) Principal() auth.Principal { return p.request.Principal }

// Run is the run that the act is part of, or "".
func (p *Permit) Run() string { return p.request.Run }

// Covers returns nil when the permit was given for this act and has not been
// finished. Whatever stands behind the door calls it first.
func (p *Permit) Covers(action auth.Action, resource auth.Resource) error {
	if p == nil || p.durable == nil || p.used() {
		return fmt.Errorf("%s on %s %q without a permit: %w", action, resource.Type, resource.ID, auth.ErrDenied)
	}
	r := p.request.Resource
	if p.request.Action != action || r.Type != resource.Type || r.ID != resource.ID {
		return fmt.Errorf("%s on %s %q with a permit for %s on %s %q: %w",
			action, resource.Type, resource.ID, p.request.Action, r.Type, r.ID, auth.ErrDenied)
	}
	return nil
}

// Admit is Covers and Durable: what reaches out of the cluster calls it right
// before it does, so that it never does more than the record shows.
func (p *Permit) Admit(ctx context.Context, action auth.Action, resource auth.Resource) error {
	if err := p.Covers(action, resource); err != nil {
		return err
	}
	return p.Durable(ctx)
}

// Durable waits until the intent is durable; an error means that the record
// could not be written and the act must not happen (or its bytes not be released).
func (p *Permit) Durable(ctx context.Context) error {
	select {
	case <-p.durable:
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.failed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// used reports whether the outcome is durable or on its way.
func (p *Permit) used() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.finished || p.finish != nil
}

// recorded takes the outcome of the intent's transaction. While that is unknown,
// whoever made the transaction may send it again.
func (p *Permit) recorded(res store.Result, err error) {
	if errors.Is(err, store.ErrUnknown) {
		p.intent.After(p.recorded)
		return
	}
	p.mu.Lock()
	p.version = res.Version
	if err != nil {
		p.failed = fmt.Errorf("the act could not be recorded and so must not happen: %w", err)
	}
	p.mu.Unlock()
	close(p.durable)
}

// errFinished and errNotDurable are mistakes of the caller.
var (
	errFinished   = errors.New("this permit has been finished already")
	errNotDurable = errors.New("this permit's intent is not durable")
)

// finishing claims the permit's only outcome for the transaction and returns the
// version at which the entry for the sweeper must stand, 0 when it is made in
// the same transaction.
func (p *Permit) finishing(tx *store.Tx) (store.Version, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.finished {
		return 0, errFinished
	}
	if p.finish != nil && p.open == "" {
		return 0, errFinished // nothing in the store would tell the second outcome from the first
	}
	if tx != p.intent && (p.failed != nil || p.version == 0) {
		return 0, errNotDurable
	}
	p.finish = tx
	return p.version, nil
}

// ending is told of the outcome of the transaction that finishing claimed, until
// it is known.
func (p *Permit) ending(tx *store.Tx) func(store.Result, error) {
	return func(_ store.Result, err error) {
		p.ended(tx, err)
		if errors.Is(err, store.ErrUnknown) {
			tx.After(p.ending(tx))
		}
	}
}

// ended takes the outcome of the transaction that finishing claimed. When that is
// unknown, the permit stays claimed: only the same transaction may be sent again.
func (p *Permit) ended(tx *store.Tx, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil:
		p.finished = true
	case p.finish == tx && !errors.Is(err, store.ErrUnknown):
		p.finish = nil
	}
}
