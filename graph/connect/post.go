package connect

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/store"
	leasing "github.com/cloister-os/cloister/store/lease"
)

// Folders and repositories are of one machine: the source names its node. Any
// node can be asked for a sync; it posts the request in the store for the node
// that has the folder, which answers there.
const (
	spaceAsk store.Space = "S/sync-ask/" // node, id → ask

	answerWithin = 5 * time.Second
	askKept      = time.Minute // a request that nobody came back for
)

// ErrAway means that the node whose machine has a source's folder cannot be
// reached.
var ErrAway = errors.New("the node that holds the source is away")

// ask is a request to another node, and then its answer.
type ask struct {
	V      uint      `cbor:"v"`
	Source string    `cbor:"source"`
	Who    who       `cbor:"who"`
	At     time.Time `cbor:"at"`
	Add    *newcomer `cbor:"add,omitempty"` // connect this source; else sync the one named
	Done   bool      `cbor:"done,omitempty"`
	Job    string    `cbor:"job,omitempty"`
	Kind   string    `cbor:"kind,omitempty"` // of the error: see askErrors
	Error  string    `cbor:"error,omitempty"`
}

// newcomer is a source to be connected.
type newcomer struct {
	Kind     string   `cbor:"kind"`
	Path     string   `cbor:"path"`
	Audience []string `cbor:"audience,omitempty"`
}

// who is in whose name something is asked for.
type who struct {
	Kind    auth.Kind   `cbor:"kind"`
	ID      string      `cbor:"id"`
	Name    string      `cbor:"name"`
	Roles   []auth.Role `cbor:"roles,omitempty"`
	Scopes  []string    `cbor:"scopes,omitempty"`
	Sources []string    `cbor:"sources,omitempty"`
	Session string      `cbor:"session,omitempty"`
	Groups  []string    `cbor:"groups,omitempty"`
}

func whoIs(p auth.Principal) who {
	return who{p.Kind, p.ID, p.Name, p.Roles, p.Scopes, p.Sources, p.Session, p.Groups}
}

func (w who) principal() auth.Principal {
	return auth.Principal{Kind: w.Kind, ID: w.ID, Name: w.Name, Roles: w.Roles, Scopes: w.Scopes, Sources: w.Sources, Session: w.Session, Groups: w.Groups}
}

// askErrors are the kinds of error that keep their kind on the way back.
var askErrors = map[string]error{
	"invalid": store.ErrInvalid, "exists": ErrExists, "removed": ErrRemoved, "denied": auth.ErrDenied, "limit": store.ErrLimit,
	"busy": store.ErrBusy, "read-only": store.ErrReadOnly,
}

// here reports whether this node reads the source.
func (s *Service) here(src graph.Source) bool { return src.Node == "" || src.Node == s.cfg.Node.ID }

// askNode has another node do something and returns its answer.
func (s *Service) askNode(ctx context.Context, node string, a ask) (ask, error) {
	if since, away := s.cfg.Away(node); away {
		return a, s.away(node, a, since)
	}
	a.V, a.At = leaseV, s.cfg.Now().UTC()
	value, err := encode(a)
	if err != nil {
		return a, err
	}
	key := spaceAsk.Key(node, rand.Text())
	tx := store.NewTx()
	tx.Check(key, 0)
	tx.Put(key, value)
	res, err := leasing.Insist(ctx, s.cfg.Store, tx)
	if err != nil {
		return a, err
	}
	defer s.forgetAsk(key)
	answered, err := s.awaitAnswer(ctx, key, res.Version)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		since, _ := s.cfg.Away(node)
		return a, s.away(node, a, since)
	}
	if err == nil && answered.Error != "" {
		err = fmt.Errorf("node %s: %s", node, answered.Error)
		if kind := askErrors[answered.Kind]; kind != nil {
			err = fmt.Errorf("%w: %w", err, kind)
		}
	}
	return answered, err
}

func (s *Service) awaitAnswer(ctx context.Context, key store.Key, from store.Version) (ask, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	for change, err := range s.cfg.Store.Watch(ctx, key, from) {
		if err != nil {
			return ask{}, err
		}
		for _, w := range change.Writes {
			var a ask
			if w.Key == key && !w.Deleted && decode(w.Value, &a) == nil && a.Done {
				return a, nil
			}
		}
	}
	return ask{}, ctx.Err()
}

func (s *Service) away(node string, a ask, since time.Time) error {
	what := fmt.Sprintf("source %q lies on node %s", a.Source, node)
	if a.Add != nil {
		what = fmt.Sprintf("%s is a folder of node %s", a.Add.Path, node)
	}
	if since.IsZero() {
		return fmt.Errorf("%s, which does not answer: look whether it runs: %w", what, ErrAway)
	}
	return fmt.Errorf("%s, which has been away since %s: start it, or connect the folder on another node: %w", what, since.UTC().Format("2006-01-02 15:04:05 UTC"), ErrAway)
}

// forgetAsk removes a request that was answered, or that nobody waits for.
func (s *Service) forgetAsk(key store.Key) {
	tx := store.NewTx()
	tx.Delete(key)
	s.cfg.Store.Submit(context.WithoutCancel(s.ctx), tx, store.Bulk)
}

// serveAsks does what other nodes ask of this one, until the context ends.
func (s *Service) serveAsks(ctx context.Context) error {
	for ctx.Err() == nil {
		from, err := s.pendingAsks(ctx)
		for err == nil {
			for change, watchErr := range s.cfg.Store.Watch(ctx, spaceAsk.Prefix(s.cfg.Node.ID), from) {
				if err = watchErr; err != nil {
					break
				}
				from = change.Version
				for _, w := range change.Writes {
					if !w.Deleted {
						s.serveAsk(ctx, w.Key, w.Value, change.Version)
					}
				}
			}
		}
		if !errors.Is(err, store.ErrCompacted) {
			return err
		}
	}
	return ctx.Err()
}

// pendingAsks serves what stands there already.
func (s *Service) pendingAsks(ctx context.Context) (store.Version, error) {
	var items []store.Item
	var at store.Version
	err := s.cfg.Store.View(ctx, store.Local, func(snap store.Snapshot) error {
		at = snap.Version()
		for item, err := range snap.Scan(spaceAsk.Prefix(s.cfg.Node.ID), "") {
			if err != nil {
				return err
			}
			items = append(items, item)
		}
		return nil
	})
	for _, item := range items {
		s.serveAsk(ctx, item.Key, item.Value, item.Version)
	}
	return at, err
}

func (s *Service) serveAsk(ctx context.Context, key store.Key, value []byte, at store.Version) {
	var a ask
	if decode(value, &a) != nil || a.Done {
		return
	}
	if s.cfg.Now().Sub(a.At) > askKept {
		s.forgetAsk(key)
		return
	}
	s.jobs.Go(func() {
		var err error
		if a.Job, err = s.answer(ctx, a); err != nil {
			a.Error = sentence(err)
			for name, kind := range askErrors {
				if errors.Is(err, kind) {
					a.Kind = name
				}
			}
		}
		a.Done = true
		value, err := encode(a)
		if err != nil {
			return
		}
		tx := store.NewTx()
		tx.Check(key, at)
		tx.Put(key, value)
		if _, err := leasing.Insist(ctx, s.cfg.Store, tx); err != nil && !errors.Is(err, store.ErrConflict) {
			s.cfg.Logger.Warn("A request of another node was done and could not be answered.", "source", a.Source, "error", err)
		}
	})
}

// answer does what was asked for. The one who asked has passed the guard for
// SourceManage there; a new source passes it here, where its folder is.
func (s *Service) answer(ctx context.Context, a ask) (job string, err error) {
	if a.Add != nil {
		_, err := s.Add(ctx, a.Who.principal(), graph.Source{Name: a.Source, Kind: a.Add.Kind, Path: a.Add.Path, Audience: a.Add.Audience, Node: s.cfg.Node.ID})
		return "", err
	}
	src, err := s.source(ctx, a.Source)
	if err != nil {
		return "", err
	}
	if src.Removing {
		return "", fmt.Errorf("source %q: %w", a.Source, ErrRemoved)
	}
	return s.begin(src, a.Who.principal(), false)
}

// mirror keeps this node's view of what other nodes sync, until the context ends.
func (s *Service) mirror(ctx context.Context) error {
	from := s.cfg.Store.Applied()
	for ctx.Err() == nil {
		var err error
		for change, watchErr := range s.cfg.Store.Watch(ctx, spaceProgress.Prefix(), from) {
			if err = watchErr; err != nil {
				break
			}
			from = change.Version
			for _, w := range change.Writes {
				s.mirrorOne(w)
			}
		}
		if err != nil && !errors.Is(err, store.ErrCompacted) {
			return err
		}
		from = s.cfg.Store.Applied()
		if err := s.mirrorAll(ctx); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (s *Service) mirrorAll(ctx context.Context) error {
	return s.cfg.Store.View(ctx, store.Local, func(snap store.Snapshot) error {
		for item, err := range snap.Scan(spaceProgress.Prefix(), "") {
			if err != nil {
				return err
			}
			s.mirrorOne(store.Write{Key: item.Key, Value: item.Value})
		}
		return nil
	})
}

func (s *Service) mirrorOne(w store.Write) {
	parts, ok := spaceProgress.Parts(w.Key)
	if !ok || len(parts) != 1 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.states[parts[0]]
	if st == nil || st.job != "" {
		return
	}
	if w.Deleted {
		delete(s.states, parts[0])
		st.tracker.update(true, func(p *Progress) { p.Running, p.Error = false, "the source was removed" })
		return
	}
	var p Progress
	if decode(w.Value, &p) != nil {
		return
	}
	st.tried = p.Finished
	st.tracker.update(true, func(was *Progress) { *was = p })
}
