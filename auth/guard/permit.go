package guard

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/cloister-os/cloister/auth"
)

// Permit proves that the guard let one act through. Only a Guard makes one that
// covers anything; the zero value and nil cover nothing.
type Permit struct {
	id       string
	request  Request
	policies []string
	reserved int64
	durable  chan struct{} // closed when the intent's transaction has an outcome
	failed   atomic.Pointer[error]
	finished atomic.Bool
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
	if p == nil || p.durable == nil || p.finished.Load() {
		return fmt.Errorf("%s on %s %q without a permit: %w", action, resource.Type, resource.ID, auth.ErrDenied)
	}
	r := p.request.Resource
	if p.request.Action != action || r.Type != resource.Type || r.ID != resource.ID {
		return fmt.Errorf("%s on %s %q with a permit for %s on %s %q: %w",
			action, resource.Type, resource.ID, p.request.Action, r.Type, r.ID, auth.ErrDenied)
	}
	return nil
}

// Durable waits until the intent is durable; an error means that the record
// could not be written and the act must not happen (or its bytes not be released).
func (p *Permit) Durable(ctx context.Context) error {
	select {
	case <-p.durable:
		if err := p.failed.Load(); err != nil {
			return *err
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
