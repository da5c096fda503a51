// Package gateway is everyone's way to a model: applications through the OpenAI
// dialect, and the rooms of the house through Embedder.
//
// It promises: each call goes through the guard, with money set aside before and
// settled after at the engine's own counts; no byte reaches the caller before
// the intent is durable; a caller that leaves stops the model; a failure in
// mid-stream is a terminal error event, never a silent end.
//
// It may import store, auth, models and models/registry. It knows the engine
// only as models.Engine.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/budget"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/models"
	"github.com/cloister-os/cloister/models/registry"
)

// Bounds of the gateway.
const (
	maxInFlight   = 64
	maxBody       = 4 << 20
	maxMessages   = 1000
	maxStops      = 16
	maxInputs     = 512 // texts of one embeddings call
	maxInputBytes = 256 << 10
	callWithin    = 15 * time.Minute
)

// What is set aside for a call: more CPU time than a token takes on two cores
// of any machine that can run the engine.
const (
	cpuPerByteIn   = 2 * time.Millisecond
	cpuPerTokenOut = 100 * time.Millisecond
	longestAnswer  = 4096 // tokens, when the caller sets no bound
)

// Prices says what a usage of a model costs; *budget.Prices does.
type Prices interface {
	Cost(model string, usage map[string]int64, at time.Time) (budget.NanoUSD, error)
}

// Config is what the gateway is made of. All but Logger are required.
type Config struct {
	Guard    guard.Door
	Engine   models.Engine
	Registry *registry.Registry
	Prices   Prices
	Logger   *slog.Logger // nil = slog.Default()
}

// Gateway serves models. It is safe for concurrent use.
type Gateway struct {
	config Config
	slots  chan struct{} // one token for each call in flight
}

// New returns a gateway.
func New(c Config) (*Gateway, error) {
	if c.Guard == nil || c.Engine == nil || c.Registry == nil || c.Prices == nil {
		return nil, errors.New("a gateway needs a guard, an engine, a registry and prices")
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return &Gateway{config: c, slots: make(chan struct{}, maxInFlight)}, nil
}

// errFull is the refusal of a call beyond maxInFlight.
var errFull = fmt.Errorf("%w: %d calls are being served already", models.ErrBusy, maxInFlight)

// enter takes a slot, or fails at once.
func (g *Gateway) enter() (leave func(), err error) {
	select {
	case g.slots <- struct{}{}:
		return func() { <-g.slots }, nil
	default:
		return nil, errFull
	}
}

// resolve finds the model behind a route or name.
func (g *Gateway) resolve(ctx context.Context, name string, kind models.Kind) (registry.Model, error) {
	if name == registry.Default && kind == models.Embedding {
		name = registry.Embedding
	}
	return g.config.Registry.Resolve(ctx, name, kind)
}

// find is resolve for a caller from outside. Whoever may not use models is
// refused, on record, before anything is said of which there are.
func (g *Gateway) find(ctx context.Context, p auth.Principal, action auth.Action, name string, kind models.Kind) (registry.Model, error) {
	m, err := g.resolve(ctx, name, kind)
	if err == nil {
		return m, nil
	}
	if !nameForm.MatchString(name) {
		name = "(no name)"
	}
	req := guard.Request{Principal: p, Action: action, Resource: auth.Model(name)}
	return m, g.config.Guard.Read(ctx, req, func(context.Context, *guard.Permit) (guard.Outcome, error) {
		return guard.Outcome{Status: guard.StatusFailed, Error: reason(err)}, err
	})
}

// nameForm is what a name may be to stand in the record.
var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/-]{0,99}$`)

// usable refuses a model whose terms nobody has accepted.
func usable(m registry.Model) error {
	if m.Usable() {
		return nil
	}
	return models.Fail(models.ErrTerms, "model %s comes under the %s, which nobody has accepted yet: an administrator reads and accepts them with: cloister model accept %s", m.Name, m.Licence, m.Name)
}

// price is what a usage costs, and the usage in the ledger's units.
func (g *Gateway) price(model string, u models.Usage) (map[string]int64, int64, error) {
	usage := map[string]int64{
		budget.TokensIn:  u.TokensIn,
		budget.TokensOut: u.TokensOut,
		budget.CPU:       u.CPU.Nanoseconds(),
	}
	cost, err := g.config.Prices.Cost(budget.LocalPrefix+model, usage, time.Now())
	return usage, cost, err
}

// reserve is what to set aside for a prompt of so many bytes and an answer of so
// many tokens.
func (g *Gateway) reserve(model string, bytesIn, tokensOut int) (int64, error) {
	if tokensOut <= 0 || tokensOut > longestAnswer {
		tokensOut = longestAnswer
	}
	_, cost, err := g.price(model, models.Usage{
		TokensIn:  int64(bytesIn),
		TokensOut: int64(tokensOut),
		CPU:       time.Duration(bytesIn)*cpuPerByteIn + time.Duration(tokensOut)*cpuPerTokenOut,
	})
	return cost, err
}

// bill is what a call took and cost.
type bill struct {
	models.Usage
	Cost int64 // nano-dollars
}

// outcome is the record of a call. One that failed before the model did anything
// costs nothing; a price that has gone since the reservation is settled at it.
func (g *Gateway) outcome(model string, u models.Usage, reserved int64, err error) (guard.Outcome, bill) {
	out := guard.Outcome{Status: guard.StatusOK}
	usage, cost, priceErr := g.price(model, u)
	if priceErr != nil {
		cost = reserved
	}
	if err != nil {
		out.Status, out.Error = guard.StatusFailed, reason(err)
	}
	out.Usage, out.Cost = usage, cost
	return out, bill{Usage: u, Cost: cost}
}

// reason is an error's kind, fit for the record: it holds no content.
func reason(err error) string {
	for _, kind := range []error{
		models.ErrNoModel, models.ErrBusy, models.ErrInvalid, models.ErrInterrupted, models.ErrUnavailable, models.ErrTerms,
		context.Canceled, context.DeadlineExceeded, errCallerLeft,
	} {
		if errors.Is(err, kind) {
			return kind.Error()
		}
	}
	return "failed"
}

// errCallerLeft ends a completion whose bytes nobody takes any more.
var errCallerLeft = errors.New("the caller left")

// completion is one completion for a principal.
type completion struct {
	principal auth.Principal
	prompt    models.Prompt
	run       string
	useCase   string
}

// complete runs a completion through the guard. on is called with each chunk,
// the first time only once the intent is durable; an error from on stops the
// model. The last chunk's usage is billed.
func (g *Gateway) complete(ctx context.Context, c completion, m registry.Model, on func(models.Chunk, bill) error) error {
	c.prompt.Model = m.Name
	reserved, err := g.reserve(m.Name, promptBytes(c.prompt), c.prompt.MaxTokens)
	if err != nil {
		return err
	}
	req := guard.Request{
		Principal: c.principal, Action: auth.ModelInfer, Resource: auth.Model(m.Name),
		Args: c.prompt, Run: c.run, UseCase: c.useCase, Reserve: reserved, Within: callWithin,
	}
	// The record outlives the caller: one that leaves must still be billed.
	return g.config.Guard.Read(context.WithoutCancel(ctx), req, func(within context.Context, permit *guard.Permit) (guard.Outcome, error) {
		within, cancel := context.WithCancel(within)
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		usage, err := g.stream(within, cancel, permit, c.prompt, m, on)
		if err != nil && ctx.Err() != nil {
			err = errCallerLeft
		}
		out, _ := g.outcome(m.Name, usage, reserved, err)
		return out, err
	})
}

// stream feeds on with chunks and returns the usage, of a broken stream too.
func (g *Gateway) stream(ctx context.Context, stop func(), permit *guard.Permit, p models.Prompt, m registry.Model, on func(models.Chunk, bill) error) (usage models.Usage, failed error) {
	if err := usable(m); err != nil {
		return usage, err
	}
	released := false
	for chunk, err := range g.config.Engine.Complete(ctx, permit, p) {
		if err != nil {
			return chunk.Usage, errors.Join(failed, err)
		}
		if !released {
			if err := permit.Durable(ctx); err != nil {
				return usage, err
			}
			released = true
		}
		var b bill
		if chunk.Done {
			usage = chunk.Usage
			_, b = g.outcome(m.Name, usage, 0, nil)
		}
		if failed != nil {
			continue // until the engine says what was used
		}
		if failed = on(chunk, b); failed != nil {
			failed = fmt.Errorf("%w: %w", errCallerLeft, failed)
			stop()
		}
	}
	return usage, failed
}

func promptBytes(p models.Prompt) int {
	n := len(p.Raw)
	for _, m := range p.Messages {
		n += len(m.Role) + len(m.Content)
	}
	return n
}

// embedding is one call for vectors for a principal.
type embedding struct {
	principal auth.Principal
	texts     []string
	run       string
	useCase   string
}

// embed runs an embedding call through the guard.
func (g *Gateway) embed(ctx context.Context, e embedding, m registry.Model) (vectors [][]float32, b bill, err error) {
	var bytes int
	for _, text := range e.texts {
		bytes += len(text)
	}
	reserved, err := g.reserve(m.Name, bytes, 1)
	if err != nil {
		return nil, b, err
	}
	req := guard.Request{
		Principal: e.principal, Action: auth.ModelEmbed, Resource: auth.Model(m.Name),
		Args: e.texts, Run: e.run, UseCase: e.useCase, Reserve: reserved, Within: callWithin,
	}
	err = g.config.Guard.Read(context.WithoutCancel(ctx), req, func(within context.Context, permit *guard.Permit) (guard.Outcome, error) {
		within, cancel := context.WithCancel(within)
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		err := usable(m)
		var usage models.Usage
		if err == nil {
			vectors, usage, err = g.config.Engine.Embed(within, permit, m.Name, e.texts)
		}
		if err != nil && ctx.Err() != nil {
			err = errCallerLeft
		}
		var out guard.Outcome
		out, b = g.outcome(m.Name, usage, reserved, err)
		return out, err
	})
	if err != nil {
		return nil, b, err
	}
	return vectors, b, nil
}
