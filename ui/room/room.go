// Package room joins the pages to the real rooms of a node: sources, runs,
// citations, the audit log, models, keys and policies.
//
// It promises: each read and each act goes through the room's own guard under
// the name of who asked; what a room says in its words becomes what a page
// shows, and its errors become what a person can act on; counts and texts are
// read in bounded amounts. It may import store, auth, graph, models and agents.
package room

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/cloister-os/cloister/agents/memory"
	"github.com/cloister-os/cloister/agents/run"
	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/auth/people"
	"github.com/cloister-os/cloister/auth/policy"
	"github.com/cloister-os/cloister/auth/session"
	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/connect"
	rooms "github.com/cloister-os/cloister/models"
	"github.com/cloister-os/cloister/models/pack"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/ui"
	"github.com/cloister-os/cloister/ui/view"
)

// Config is the rooms of a node. All but Logger are required.
type Config struct {
	Store    store.Store
	Blobs    graph.Blobs
	Door     guard.Door
	Sessions *session.Service
	People   *people.Service
	Sources  *connect.Service
	Runs     *run.Engine
	Memories *memory.Service
	// Ask starts a run that answers a question, once for a key that is not "", as the
	// next turn of a conversation when one is named.
	Ask      func(ctx context.Context, p auth.Principal, once string, in run.ID, question string) (id, conversation run.ID, err error)
	Records  guard.Records
	Packs    *pack.Service
	Policies *policy.Policies
	Engine   func() (ready bool, reason string) // of local inference
	Prints   view.Fingerprints
	Logger   *slog.Logger // slog.Default() when nil
}

// Rooms is the services of the pages. Close it when the pages are no longer
// served.
type Rooms struct {
	cfg      Config
	ctx      context.Context // of what goes on after its request has ended
	stop     context.CancelFunc
	works    sync.WaitGroup
	packs    importing
	digests  digests
	outcomes outcomes
}

// New returns the services.
func New(cfg Config) (*Rooms, error) {
	if cfg.Store == nil || cfg.Door == nil || cfg.Sessions == nil || cfg.People == nil || cfg.Sources == nil || cfg.Runs == nil || cfg.Memories == nil || cfg.Ask == nil ||
		cfg.Records.Log == nil || cfg.Packs == nil || cfg.Policies == nil || cfg.Engine == nil {
		return nil, errors.New("ui/room: all rooms must be given")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	r := &Rooms{cfg: cfg}
	r.ctx, r.stop = context.WithCancel(context.Background())
	return r, nil
}

// Close ends what goes on in the background and waits for it.
func (r *Rooms) Close() error {
	r.stop()
	r.works.Wait()
	return nil
}

// Pages is the configuration of the pages with all services filled in.
func (r *Rooms) Pages() ui.Config {
	return ui.Config{
		Sessions: r.cfg.Sessions, Sources: sources{r}, Access: access{r}, Runs: runs{r}, Talks: talks{r}, Memories: memories{r}, Citations: citations{r}, Records: records{r},
		Models: models{r}, Keys: keys{r}, Directories: directories{r}, Policies: policies{r}, Prints: r.cfg.Prints, May: r.may, Logger: r.cfg.Logger,
	}
}

func (r *Rooms) may(ctx context.Context, p auth.Principal, a auth.Action, on auth.Resource) bool {
	return r.cfg.Door.Decide(ctx, guard.Request{Principal: p, Action: a, Resource: on}) == nil
}

// forPerson turns a room's refusal of somebody's input into one that a form
// shows; refusals by policy and the store's states stay what they are.
func forPerson(field string, err error) error {
	for _, kind := range []error{
		auth.ErrDenied, auth.ErrUnauthenticated, auth.ErrThrottled, store.ErrReadOnly, store.ErrBusy, store.ErrUnknown, store.ErrClosed,
		context.Canceled, context.DeadlineExceeded, connect.ErrAway,
	} {
		if errors.Is(err, kind) {
			return err
		}
	}
	return &ui.InputError{Field: field, Text: ui.Sentence(err)}
}

// facts are the members of a map in order of their names.
func facts[V any](names []string, m map[string]V) []view.Fact {
	var out []view.Fact
	for _, n := range names {
		out = append(out, view.Fact{Name: n, Text: fmt.Sprint(m[n])})
	}
	return out
}

// unknown makes a model that does not exist a page that does not.
func unknown(err error) error {
	if errors.Is(err, rooms.ErrNoModel) {
		return store.ErrNotFound
	}
	return err
}
