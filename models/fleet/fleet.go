// Package fleet makes the engines of all nodes one: a model that was imported on
// one node is brought to the others, and a call on a node that does not hold the
// model (yet, or by choice) is answered by one that does.
//
// It promises: an import is complete only when a second node holds the model; a
// pull that was cut goes on where it stopped; what is removed is removed
// everywhere; each node's standing with each model can be read on all. A call
// goes to another node until the first piece of its answer, never after; it ends
// there when the caller leaves here. The guard of the node where the caller is
// decides, records and bills; the node that runs the model takes its word
// (guard.Carried), since their connection proves that it is a member.
//
// It may import store, auth, models, models/registry and store/blob/exchange.
package fleet

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/models"
	"github.com/cloister-os/cloister/models/registry"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/blob"
	"github.com/cloister-os/cloister/store/blob/exchange"
)

// Config is what a Fleet is made of. All but Away, Up and Logger are required.
type Config struct {
	Node      string         // this node's name
	Principal auth.Principal // this node, which pulls models
	Engine    models.Engine  // this node's
	Registry  *registry.Registry
	Peers     exchange.Peers
	Exchange  *exchange.Client
	Guard     guard.Door
	// Carried makes the permit for what another node's guard let through.
	Carried func(intent string, action auth.Action, resource auth.Resource) *guard.Permit
	Away    bool         // this node takes no models from others: it asks them
	Up      func() bool  // whether this node's engine answers; nil = always
	Logger  *slog.Logger // nil = slog.Default()
}

// Fleet is the engines of all nodes. It implements models.Engine: inference goes
// where the model is, everything else to this node's engine.
type Fleet struct {
	models.Engine // of this node
	cfg           Config
	wake          chan struct{}

	mu        sync.Mutex
	here      map[string]bool    // models that this node's engine holds as the registry has them
	importing map[string]int     // models that are being imported here: not to be touched
	removing  string             // the model that Run is removing: not to be imported yet
	removed   *sync.Cond         // tells that removing has changed
	failures  map[string]setback // models whose pull failed
	next      int                // which node is asked first
}

// setback is a pull that failed.
type setback struct {
	entry store.Version // of the registry: another entry is tried at once
	until time.Time     // it is not tried again before
	pause time.Duration
}

var _ models.Engine = (*Fleet)(nil)

// New returns a Fleet. Call Run.
func New(c Config) (*Fleet, error) {
	if c.Node == "" || c.Engine == nil || c.Registry == nil || c.Peers == nil || c.Exchange == nil || c.Guard == nil || c.Carried == nil {
		return nil, errors.New("a fleet needs a node, its engine, a registry, the other nodes, a guard and permits")
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	f := &Fleet{
		Engine: c.Engine, cfg: c, wake: make(chan struct{}, 1), here: map[string]bool{}, importing: map[string]int{},
		failures: map[string]setback{},
	}
	f.removed = sync.NewCond(&f.mu)
	return f, nil
}

// OpenLocal implements exchange.Source: the files of this node's models.
func (f *Fleet) OpenLocal(h blob.Hash) (blob.File, int64, error) {
	return f.Engine.Open(models.Digest(h.String()))
}

var _ exchange.Source = (*Fleet)(nil)

// alone reports that there is no other node.
func (f *Fleet) alone() bool { return len(f.cfg.Peers.Others()) == 0 }

// order is which nodes to ask for a model: this one if it holds it, then the
// others that do, another one first each time.
func (f *Fleet) order(ctx context.Context, model string) ([]string, error) {
	others := f.cfg.Peers.Others()
	if len(others) == 0 {
		return []string{f.cfg.Node}, nil
	}
	standings, err := f.cfg.Registry.Standings(ctx, model)
	if err != nil {
		return nil, err
	}
	var ready []string
	for _, node := range others {
		if standings[node].Stage == registry.Ready {
			ready = append(ready, node)
		}
	}
	slices.Sort(ready)
	f.mu.Lock()
	here := f.here[model] || standings[f.cfg.Node].Stage == registry.Ready // the latter right after the start
	if len(ready) > 0 {
		f.next++
		at := f.next % len(ready)
		ready = append(slices.Clone(ready[at:]), ready[:at]...)
	}
	f.mu.Unlock()
	ready = f.cfg.Exchange.Order(ready)
	if here && f.cfg.Up != nil && !f.cfg.Up() {
		return append(ready, f.cfg.Node), nil
	}
	if here {
		return append([]string{f.cfg.Node}, ready...), nil
	}
	if len(ready) == 0 {
		return nil, nowhere(model, standings)
	}
	return ready, nil
}

// nowhere is the sentence for a model that no node can run now.
func nowhere(model string, standings map[string]registry.Standing) error {
	var how string
	for _, node := range sortedKeys(standings) {
		if how += "; "; standings[node].Stage != registry.Ready {
			how += node + " is " + standings[node].String()
		} else {
			how += node + " does not answer"
		}
	}
	if how == "" {
		how = "; import it again with: cloister model import FILE"
	}
	return models.Fail(models.ErrUnavailable, "no node can run model %s now%s", model, how)
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// elsewhere reports whether another node may do better with a call that failed
// before its answer began.
func elsewhere(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	for _, kind := range []error{models.ErrUnavailable, models.ErrBusy, models.ErrNoModel, models.ErrInterrupted} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}
