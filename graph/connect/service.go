package connect

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/blob"
	leasing "github.com/cloister-os/cloister/store/lease"
)

// Bounds and defaults.
const (
	DefaultEvery    = 5 * time.Minute
	DefaultMaxSyncs = 2
	MaxSources      = 1000
	syncWithin      = 24 * time.Hour // after which a sync's act is in doubt
)

// Config is what a Service needs.
type Config struct {
	Store      store.Store    // required
	Blobs      *blob.Store    // required
	Door       guard.Door     // required
	Connectors []Connector    // required: an explicit list
	Node       auth.Principal // required: the node itself (auth.System), for scheduled syncs
	Every      time.Duration  // between syncs of a source; DefaultEvery when 0, never when negative
	MaxSyncs   int            // at once; DefaultMaxSyncs when 0
	Logger     *slog.Logger   // slog.Default() when nil
	Now        func() time.Time
	// Leads says whether this node looks after what other nodes left, and syncs
	// what every node reaches; nil = always.
	Leads func() bool
	// Policies, Groups and Keys say who may read a source, for Readers: nil = it
	// tells of nobody, of no group by name, or of no key.
	Policies Decider
	Groups   func(ctx context.Context, p auth.Principal) (map[string]Group, error) // by DIRECTORY/ID, as far as p may see them
	Keys     func(ctx context.Context, p auth.Principal) ([]auth.Principal, error)
	// Away says whether another node is not there, and since when it has not been
	// heard of (zero = not known); nil = all are there.
	Away func(node string) (since time.Time, away bool)
}

// Service is the sources and their syncs. It is safe for concurrent use.
type Service struct {
	cfg        Config
	connectors map[string]Connector
	boot       string // tells this process from earlier ones on the node
	slots      *semaphore.Weighted
	ctx        context.Context // of all jobs; ended by Close
	stop       context.CancelFunc
	jobs       sync.WaitGroup

	mu     sync.Mutex
	states map[string]*state // by source
	seen   leasing.Sightings // leases of others, by source
	atWork map[string]bool   // jobs of this process, that have a lease or are about to
}

// state is one source at work. Its fields below mu are guarded by Service.mu.
type state struct {
	tracker *tracker
	job     string  // of the sync under way, or ""
	next    *ticket // a sync asked for while another was under way: it may see more
	cancel  context.CancelFunc
	ended   chan struct{} // closed when that sync has ended
	tried   time.Time     // when the last one ended, as far as this process knows
}

// ticket is a sync that was asked for.
type ticket struct {
	job string
	p   auth.Principal // in whose name the fetch is permitted
	due bool           // it was only due: another node's sync is as good
}

// New returns a Service. Call Run to have sources synced on schedule, and Close
// to end what is under way.
func New(c Config) (*Service, error) {
	if c.Store == nil || c.Blobs == nil || c.Door == nil || len(c.Connectors) == 0 || c.Node.ID == "" {
		return nil, errors.New("the source service needs a store, blobs, a door, connectors and the node's principal")
	}
	if c.Every == 0 {
		c.Every = DefaultEvery
	}
	if c.MaxSyncs <= 0 {
		c.MaxSyncs = DefaultMaxSyncs
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
	if c.Away == nil {
		c.Away = func(string) (time.Time, bool) { return time.Time{}, false }
	}
	s := &Service{
		cfg: c, boot: rand.Text(), connectors: map[string]Connector{}, slots: semaphore.NewWeighted(int64(c.MaxSyncs)),
		states: map[string]*state{}, atWork: map[string]bool{},
	}
	for _, k := range c.Connectors {
		s.connectors[k.Kind()] = k
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s, nil
}

// Close cancels the syncs under way and waits for them; the next start goes on
// where they stopped.
func (s *Service) Close() error {
	s.stop()
	s.jobs.Wait()
	return nil
}

// Add connects a system. Without an audience it gets graph.DefaultAudience. It
// fails, and adds nothing, when the system cannot be read. It does not wait for the first sync, which begins at once. A source that
// names another node is connected there.
func (s *Service) Add(ctx context.Context, p auth.Principal, src graph.Source) (graph.Source, error) {
	if err := s.valid(&src); err != nil {
		return graph.Source{}, err
	}
	if !s.here(src) {
		return s.addElsewhere(ctx, p, src)
	}
	if anywhere, ok := s.connectors[src.Kind].(Anywhere); !ok || !anywhere.Anywhere() {
		src.Node = s.cfg.Node.ID
	} else {
		src.Node = ""
	}
	src.AddedNs, src.AddedBy, src.Removing = s.cfg.Now().UTC().UnixNano(), p.ID, false
	err := s.cfg.Door.Do(ctx, request(p, auth.SourceManage, src, "add"), func(ctx context.Context, permit *guard.Permit) (guard.Outcome, error) {
		if err := permit.Covers(auth.SourceManage, graph.SourceResource(src)); err != nil {
			return guard.Outcome{Status: guard.StatusFailed}, err
		}
		return outcome(s.add(ctx, p, src))
	})
	if err == nil && guard.OnceOf(ctx) != nil {
		src, err = s.source(ctx, src.Name) // as an earlier sending of the request added it
	}
	if err != nil {
		return graph.Source{}, err
	}
	_, err = s.begin(src, p, false)
	return src, err
}

// addElsewhere has the node that has the folder connect it. Here the guard only
// decides, so that nobody makes other nodes work for nothing; it records there.
func (s *Service) addElsewhere(ctx context.Context, p auth.Principal, src graph.Source) (graph.Source, error) {
	if err := s.cfg.Door.Decide(ctx, request(p, auth.SourceManage, src, "add")); err != nil {
		return graph.Source{}, s.cfg.Door.Do(ctx, request(p, auth.SourceManage, src, "add"), func(context.Context, *guard.Permit) (guard.Outcome, error) {
			return outcome(err)
		})
	}
	_, err := s.askNode(ctx, src.Node, ask{Source: src.Name, Who: whoIs(p), Add: &newcomer{src.Kind, src.Path, src.Audience}})
	if err != nil && !(errors.Is(err, ErrExists) && guard.OnceOf(ctx) != nil) {
		return graph.Source{}, err
	}
	now, getErr := s.source(ctx, src.Name)
	if getErr != nil {
		return graph.Source{}, getErr
	}
	if err != nil && (now.Kind != src.Kind || now.Path != src.Path || now.Node != src.Node || now.AddedBy != p.ID) {
		return graph.Source{}, err // it was there before: this is no repetition
	}
	return now, nil
}

func (s *Service) valid(src *graph.Source) error {
	if err := graph.CheckSourceName(src.Name); err != nil {
		return err
	}
	if s.connectors[src.Kind] == nil {
		return fmt.Errorf("there is no connector for a source of kind %q: use one of %v: %w", src.Kind, s.Kinds(), store.ErrInvalid)
	}
	if src.Path == "" {
		return fmt.Errorf("source %q needs a path: %w", src.Name, store.ErrInvalid)
	}
	if !filepath.IsAbs(src.Path) {
		return fmt.Errorf("the path %q of source %q is not absolute: give the whole path, for the node's folder is not yours: %w", src.Path, src.Name, store.ErrInvalid)
	}
	src.Path = filepath.Clean(src.Path)
	if len(src.Audience) == 0 {
		src.Audience = graph.DefaultAudience()
	}
	audience, err := graph.CheckAudience(src.Audience)
	src.Audience = audience
	return err
}

// Kinds lists the kinds of source that can be added.
func (s *Service) Kinds() []string {
	var out []string
	for _, c := range s.cfg.Connectors {
		out = append(out, c.Kind())
	}
	return out
}

func (s *Service) add(ctx context.Context, p auth.Principal, src graph.Source) error {
	err := s.cfg.Door.Do(ctx, request(p, auth.SourceFetch, src, "check"), func(ctx context.Context, permit *guard.Permit) (guard.Outcome, error) {
		return outcome(s.connectors[src.Kind].Check(ctx, permit, src))
	})
	if err != nil {
		return err
	}
	_, err = s.cfg.Store.Update(ctx, func(u *store.Update) error {
		if err := guard.OnceOf(ctx).Claim(u, nil); err != nil {
			return err
		}
		all, err := graph.AllSources(u.Snapshot)
		if err != nil {
			return err
		}
		if len(all) >= MaxSources {
			return fmt.Errorf("there are %d sources already, and that is the most: remove one first: %w", MaxSources, store.ErrLimit)
		}
		_, err = u.Get(graph.SpaceSource.Key(src.Name))
		if err == nil {
			return fmt.Errorf("source %q: %w", src.Name, ErrExists)
		}
		if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		return graph.PutSource(u.Tx, src, nil)
	})
	return once(err)
}

// once makes it no error that the request was carried out before.
func once(err error) error {
	var before *guard.DoneError
	if errors.As(err, &before) {
		return nil
	}
	return err
}

// Remove forgets a source and all that came from it; what was true stays under
// AS OF. From the moment it begins nobody reads the source any more. When ctx
// ends first, the rest is done in the background.
func (s *Service) Remove(ctx context.Context, p auth.Principal, name string) error {
	src, err := s.source(ctx, name)
	if err != nil {
		return unseen(name, err)
	}
	return s.cfg.Door.Do(ctx, request(p, auth.SourceManage, src, "remove"), func(ctx context.Context, permit *guard.Permit) (guard.Outcome, error) {
		if err := permit.Covers(auth.SourceManage, graph.SourceResource(src)); err != nil {
			return guard.Outcome{Status: guard.StatusFailed}, err
		}
		return outcome(s.remove(ctx, name))
	})
}

func (s *Service) remove(ctx context.Context, name string) error {
	_, err := s.cfg.Store.Update(ctx, func(u *store.Update) error {
		item, err := u.Get(graph.SpaceSource.Key(name))
		if err != nil {
			return fmt.Errorf("source %q: %w", name, err)
		}
		src, err := graph.DecodeSource(item.Value)
		if err != nil {
			return err
		}
		src.Removing = true
		return graph.PutSource(u.Tx, src, item.Value)
	})
	if err != nil {
		return err
	}
	if err := s.halt(ctx, name); err != nil {
		return err
	}
	h, err := s.take(ctx, name, "remove "+rand.Text(), false, true) // whatever another node is doing with it
	if err != nil {
		return err
	}
	return s.sweep(name, h)
}

// halt ends the sync under way and waits for it.
func (s *Service) halt(ctx context.Context, name string) error {
	s.mu.Lock()
	st := s.states[name]
	if st == nil || st.job == "" {
		s.mu.Unlock()
		return nil
	}
	st.cancel()
	ended := st.ended
	s.mu.Unlock()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// sweep removes what a source that is being removed left.
func (s *Service) sweep(name string, h *hold) error {
	err := graph.NewWriter(s.cfg.Store, s.cfg.Blobs, name).Fence(fenceOf(name), h.fenceAt).RemoveAll(h.ctx)
	released := h.release(func(tx *store.Tx) error {
		if err == nil {
			tx.Delete(graph.SpaceSource.Key(name))
			tx.Delete(spaceProgress.Key(name))
			tx.Delete(fenceOf(name))
		}
		return nil
	})
	if err != nil {
		return err // what is left is removed when the source is next looked at
	}
	if released != nil {
		return fmt.Errorf("remove source %q: %w", name, released)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.states[name]; st != nil {
		delete(s.states, name)
		st.tracker.update(true, func(p *Progress) { p.Running, p.Error = false, "the source was removed" })
	}
	return nil
}

// List returns the sources that the principal may read, by name.
func (s *Service) List(ctx context.Context, p auth.Principal) (out []Status, err error) {
	var all []graph.Source
	err = s.cfg.Store.View(ctx, store.Fresh, func(snap store.Snapshot) (err error) {
		all, err = graph.AllSources(snap)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, src := range all {
		switch err := graph.MayRead(ctx, s.cfg.Door, p, src); {
		case errors.Is(err, auth.ErrDenied):
			continue
		case err != nil:
			return nil, err
		}
		st, err := s.status(ctx, src)
		if err != nil {
			return nil, err
		}
		out = append(out, st)
	}
	return out, nil
}

// Get returns one source; one that the principal may not read is
// store.ErrNotFound, like one that does not exist.
func (s *Service) Get(ctx context.Context, p auth.Principal, name string) (Status, error) {
	src, err := s.source(ctx, name)
	if err == nil {
		err = graph.MayRead(ctx, s.cfg.Door, p, src)
	}
	if err != nil {
		return Status{}, unseen(name, err)
	}
	return s.status(ctx, src)
}

// Progress yields how far the source's sync is, at once and then whenever it
// changes, until the context ends.
func (s *Service) Progress(ctx context.Context, p auth.Principal, name string) iter.Seq2[Progress, error] {
	st, err := s.Get(ctx, p, name)
	if err != nil {
		return func(yield func(Progress, error) bool) { yield(Progress{}, err) }
	}
	return s.state(name, st.Progress).tracker.watch(ctx)
}

// unseen makes a source that may not be read look like one that is not there.
func unseen(name string, err error) error {
	if errors.Is(err, auth.ErrDenied) || errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("there is no source %q: %w", name, store.ErrNotFound)
	}
	return err
}

func (s *Service) source(ctx context.Context, name string) (src graph.Source, err error) {
	err = s.cfg.Store.View(ctx, store.Fresh, func(snap store.Snapshot) error {
		item, err := snap.Get(graph.SpaceSource.Key(name))
		if err != nil {
			return err
		}
		src, err = graph.DecodeSource(item.Value)
		return err
	})
	return src, err
}

func (s *Service) status(ctx context.Context, src graph.Source) (Status, error) {
	st := Status{Source: src}
	err := s.cfg.Store.View(ctx, store.Local, func(snap store.Snapshot) error {
		mark, err := graph.NewReader(snap, graph.AccessTo(src.Name), nil).Watermark(src.Name)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if err == nil {
			st.Watermark = mark.AsOf()
		}
		st.Progress, err = s.standing(snap, src.Name)
		return err
	})
	if err != nil {
		return st, err
	}
	st.Progress = s.state(src.Name, st.Progress).progress()
	if !s.here(src) {
		if since, away := s.cfg.Away(src.Node); away {
			if st.Away = since; since.IsZero() {
				st.Away = s.cfg.Now().UTC()
			}
		}
	}
	return st, nil
}

func (st *state) progress() Progress {
	p, _ := st.tracker.get()
	return p
}

// state returns the source's state in this process, made from the last progress
// on record when there is none.
func (s *Service) state(name string, last Progress) *state {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.states[name]
	if st == nil {
		st = &state{tracker: newTracker(s.cfg.Now, last), tried: last.Finished}
		s.states[name] = st
	}
	return st
}

func request(p auth.Principal, action auth.Action, src graph.Source, what string) guard.Request {
	r := guard.Request{Principal: p, Action: action, Resource: graph.SourceResource(src), Within: syncWithin,
		Args: map[string]any{"kind": src.Kind, "path": src.Path}, Detail: map[string]any{"act": what, "kind": src.Kind}}
	if what == "add" {
		r.Detail["audience"] = src.Audience
	}
	return r
}

func outcome(err error) (guard.Outcome, error) {
	if err != nil {
		return guard.Outcome{Status: guard.StatusFailed, Error: sentence(err)}, err
	}
	return guard.Outcome{Status: guard.StatusOK}, nil
}
