package run

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
)

// Effect says what happens when a step is done twice, and so what to do with a
// step that was begun by a process that died.
type Effect string

// The effect classes.
const (
	Read       Effect = "read"       // changes nothing: done again
	Idempotent Effect = "idempotent" // done again with the same key: Call.Key
	Unsafe     Effect = "unsafe"     // never done again: the run ends in doubt
)

// Agent is a named list of steps. It must not change once an engine has it.
type Agent struct {
	Name     string
	Revision string // raise it whenever a step's meaning or a type between steps changes
	Steps    []Step
}

// Version is the digest of what the agent is: its name, revision and steps. A
// run is pinned to it, so that a node with another version never continues it.
func (a *Agent) Version() string {
	type step struct {
		Name   string `json:"name"`
		Effect Effect `json:"effect"`
		Action string `json:"action"`
	}
	steps := make([]step, len(a.Steps))
	for i, s := range a.Steps {
		steps[i] = step{s.name, s.effect, string(s.action)}
	}
	b, err := json.Marshal(struct {
		Name     string `json:"name"`
		Revision string `json:"revision"`
		Steps    []step `json:"steps"`
	}{a.Name, a.Revision, steps})
	if err != nil {
		panic(err) // strings only
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// principal is the agent acting for the run's owner.
func (a *Agent) principal(owner auth.Principal) auth.Principal {
	return auth.Principal{Kind: auth.Agent, ID: a.Name + "@" + a.Version()[:12], Name: a.Name, OnBehalfOf: &owner}
}

func (a *Agent) validate() error {
	if a.Name == "" || len(a.Steps) == 0 || len(a.Steps) > MaxSteps {
		return fmt.Errorf("agent %q: needs a name and 1 to %d steps", a.Name, MaxSteps)
	}
	seen := map[string]bool{}
	for _, s := range a.Steps {
		if s.name == "" || s.do == nil || seen[s.name] {
			return fmt.Errorf("agent %q: step %q is empty or there twice", a.Name, s.name)
		}
		seen[s.name] = true
	}
	return nil
}

// Step is one act of an agent. Make it with Func.
type Step struct {
	name     string
	effect   Effect
	action   auth.Action
	resource auth.Resource
	do       func(context.Context, *Call) (any, error)
}

// Func makes a step of a Go function. Its result must survive CBOR, and JSON too
// if the step is the last; its error's text must hold no content and no secret,
// because it becomes part of the audit record. The step asks the guard for ask on the system; what it reaches beyond
// our own store it asks for itself, with the run's principal.
func Func[Out any](name string, effect Effect, f func(context.Context, *Call) (Out, error)) Step {
	return Step{
		name: name, effect: effect, action: auth.Ask, resource: auth.TheSystem,
		do: func(ctx context.Context, c *Call) (any, error) { return f(ctx, c) },
	}
}

// Call is one execution of a step. It is used by one goroutine and ends with
// the step.
type Call struct {
	run       ID
	step      string
	principal auth.Principal
	permit    *guard.Permit
	earlier   func(context.Context) ([]ID, error)
	result    func(ctx context.Context, id ID, step string) ([]byte, error)
	input     []byte
	results   map[string][]byte // of the steps before, by name
	events    []Event
	room      int // events that may still be emitted
	cost      int64
	usage     map[string]int64
	err       error // the first Emit that failed
}

// Run is the run's ID, for the guard's Request.Run.
func (c *Call) Run() string { return string(c.run) }

// Key is the same in every attempt at this step of this run, and no other.
func (c *Call) Key() string { return string(c.run) + "/" + c.step }

// Principal is the agent acting for the run's owner.
func (c *Call) Principal() auth.Principal { return c.principal }

// Permit is the step's own.
func (c *Call) Permit() *guard.Permit { return c.permit }

// Charge adds to the cost and the usage that the step's outcome records.
func (c *Call) Charge(nanoUSD int64, usage map[string]int64) {
	c.cost += nanoUSD
	for k, v := range usage {
		if c.usage == nil {
			c.usage = map[string]int64{}
		}
		c.usage[k] += v
	}
}

// Emit adds an event that becomes visible with the step's result. Data must
// encode as JSON; what does not, or what passes the run's bounds, fails the step.
func (c *Call) Emit(kind string, data any) {
	if c.err != nil {
		return
	}
	b, err := json.Marshal(data)
	switch {
	case err != nil:
		c.err = fmt.Errorf("event %s: %w", kind, err)
	case len(b) > inlineBytes:
		c.err = fmt.Errorf("event %s: %d bytes are more than the %d that an event may have", kind, len(b), inlineBytes)
	case len(c.events) >= c.room:
		c.err = fmt.Errorf("event %s: a run has at most %d events", kind, MaxEvents)
	default:
		c.events = append(c.events, Event{Kind: kind, Step: c.step, Data: b})
	}
}

// Input decodes the run's input.
func Input[T any](c *Call) (T, error) {
	var v T
	if err := decode(c.input, &v); err != nil {
		return v, fmt.Errorf("step %s: input: %w", c.step, err)
	}
	return v, nil
}

// Result decodes the result of a step before this one.
func Result[T any](c *Call, step string) (T, error) {
	var v T
	b, ok := c.results[step]
	if !ok {
		return v, fmt.Errorf("step %s: no step %s came before it", c.step, step)
	}
	if err := decode(b, &v); err != nil {
		return v, fmt.Errorf("step %s: result of %s: %w", c.step, step, err)
	}
	return v, nil
}

// Earlier lists the earlier runs of the conversation that this one is a turn of,
// newest first, and at most as many as are asked for.
func (c *Call) Earlier(ctx context.Context, most int) ([]ID, error) {
	list, err := c.earlier(ctx)
	return list[:min(len(list), most)], err
}

// EarlierResult decodes what a step of an earlier run of the conversation left.
// The error is ErrNotFound when it left nothing: the run failed before, or has
// been forgotten.
func EarlierResult[T any](ctx context.Context, c *Call, id ID, step string) (T, error) {
	var v T
	b, err := c.result(ctx, id, step)
	if err != nil {
		return v, err
	}
	if err := decode(b, &v); err != nil {
		return v, fmt.Errorf("step %s: result of %s of run %s: %w", c.step, step, id, err)
	}
	return v, nil
}
