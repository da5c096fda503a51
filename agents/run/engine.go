package run

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/blob"
	leasing "github.com/cloister-os/cloister/store/lease"
)

// Blobs keeps what is too large for the journal. *blob.Store is one.
type Blobs interface {
	Put(ctx context.Context, r io.Reader) (blob.Hash, int64, error)
	Secure(ctx context.Context, hashes ...blob.Hash) error
	Name(tx *store.Tx, h blob.Hash, size int64)
	Open(h blob.Hash) (blob.File, int64, error)
}

// Config is what an Engine needs. Store, Door, Blobs and Node are required.
type Config struct {
	Store  store.Store
	Door   guard.Door
	Blobs  Blobs
	Node   string // this node's name; one process at a time has it
	Agents []Agent
	// Rights returns the owner's rights as they are now; a refusal ends the run.
	// nil: as they were when the run was started.
	Rights func(context.Context, auth.Principal) (auth.Principal, error)
	// Release looks at what a run tells each time that it is told, whether it is
	// still for the reader's eyes, and returns it or what to say instead. nil: all
	// of it is.
	Release func(ctx context.Context, reader auth.Principal, agent string, kind string, data json.RawMessage) (json.RawMessage, error)
	// Asked looks at runs before they are told, for an agent whose input holds only
	// the name of what was said: it puts the words in for whoever may read them (see
	// Run.Restate). nil: their inputs are told as they are.
	Asked    func(ctx context.Context, reader auth.Principal, runs []*Run) error
	Parallel int           // runs that are worked on at once; 0 = 32
	Waiting  int           // starts that may wait for one of those places; 0 = 256
	Lease    time.Duration // a worker silent for so long is dead; 0 = 6 s
	Longest  time.Duration // a run may take so long; 0 = 10 min
	Keep     time.Duration // a run that ended longer ago is forgotten; 0 = 90 days
	// Leave is how long a run of an agent that this node does not have, or has in
	// another version, is left to nodes that do. 0: it ends at once.
	Leave  time.Duration
	Leads  func() bool      // whether this node forgets old runs for all; nil = always
	Logger *slog.Logger     // nil = slog.Default()
	Now    func() time.Time // nil = time.Now; nodes that share a store give a store.Clock
}

// Engine works on runs. All methods are safe for concurrent use.
type Engine struct {
	cfg    Config
	boot   string // this process, to tell it from the one before on the same node
	agents map[string]*Agent
	ctx    context.Context // ends when the engine stops
	stop   context.CancelFunc
	places chan struct{} // one token a run that is worked on
	work   sync.WaitGroup

	mu      sync.Mutex // guards what follows
	waiting int
	active  map[ID]*working
	seen    leasing.Sightings // leases of others
	closed  bool
}

// working is a run that this process works on.
type working struct {
	epoch uint64                  // of the lease that it has, or is about to take
	stop  context.CancelCauseFunc // nil until it is launched
	done  chan struct{}           // closed when its worker has ended
}

// New returns an engine that works on nothing until Resume or Start.
func New(cfg Config) (*Engine, error) {
	if cfg.Store == nil || cfg.Door == nil || cfg.Blobs == nil || cfg.Node == "" {
		return nil, errors.New("run engine: needs a store, a door, blobs and a node's name")
	}
	cfg.Parallel = or(cfg.Parallel, 32)
	cfg.Waiting = or(cfg.Waiting, 256)
	cfg.Lease = or(cfg.Lease, 6*time.Second)
	cfg.Longest = or(cfg.Longest, 10*time.Minute)
	cfg.Keep = or(cfg.Keep, 90*24*time.Hour)
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Leads == nil {
		cfg.Leads = func() bool { return true }
	}
	e := &Engine{
		cfg: cfg, boot: rand.Text(), agents: map[string]*Agent{}, places: make(chan struct{}, cfg.Parallel),
		active: map[ID]*working{},
	}
	for i := range cfg.Agents {
		a := &cfg.Agents[i]
		if err := a.validate(); err != nil {
			return nil, err
		}
		if e.agents[a.Name] != nil {
			return nil, fmt.Errorf("agent %q is there twice", a.Name)
		}
		e.agents[a.Name] = a
	}
	e.ctx, e.stop = context.WithCancel(context.Background())
	return e, nil
}

func or[T int | time.Duration](v, other T) T {
	if v <= 0 {
		return other
	}
	return v
}

// Start begins a run of an agent for a principal and returns when its first
// step's intent is durable. Input must encode as CBOR.
func (e *Engine) Start(ctx context.Context, p auth.Principal, agent string, input any) (ID, error) {
	return e.StartOnce(ctx, p, "", agent, input)
}

// StartOnce is Start with an idempotency key: a second call of the same
// principal with the same key returns the first call's run.
func (e *Engine) StartOnce(ctx context.Context, p auth.Principal, key, agent string, input any) (ID, error) {
	return e.start(ctx, p, key, agent, input, nil)
}

// start begins a run, as the next turn of a conversation when one is given.
func (e *Engine) start(ctx context.Context, p auth.Principal, key, agent string, input any, in *kept) (ID, error) {
	a := e.agents[agent]
	if a == nil {
		return "", fmt.Errorf("%q: %w", agent, ErrUnknown)
	}
	b, err := encode(input)
	if err != nil {
		return "", fmt.Errorf("input of agent %s: %w", agent, err)
	}
	if len(b) > MaxInput || len(key) > 200 {
		return "", fmt.Errorf("input of agent %s: at most %d bytes, and 200 for its key", agent, MaxInput)
	}
	if auth.HoldsSecret(string(b) + " " + key) { // it would stay in the journal
		return "", fmt.Errorf("an API key or session token stands in the wrong place: take it out, and replace it, for it may have been seen: %w", store.ErrInvalid)
	}
	if err := e.place(ctx); err != nil {
		return "", err
	}
	w, err := e.create(ctx, p, key, a, b, in)
	if err != nil {
		e.leave()
		if errors.Is(err, store.ErrConflict) && key != "" {
			id, missing := e.started(ctx, p, key)
			if errors.Is(missing, store.ErrNotFound) {
				return "", err // the conversation went on meanwhile
			}
			return id, missing
		}
		return "", err
	}
	id := w.h.rec.ID
	e.launch(w)
	return id, nil
}

// place takes a place to work, waiting for one with few others.
func (e *Engine) place(ctx context.Context) error {
	select {
	case e.places <- struct{}{}:
		return nil
	default:
	}
	e.mu.Lock()
	if e.waiting >= e.cfg.Waiting {
		e.mu.Unlock()
		return ErrBusy
	}
	e.waiting++
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		e.waiting--
		e.mu.Unlock()
	}()
	select {
	case e.places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-e.ctx.Done():
		return ErrStopping
	}
}

func (e *Engine) leave() { <-e.places }

// create commits a run's first transaction: the run, the lease, the first
// step's intent and the first event; and that the conversation has it.
func (e *Engine) create(ctx context.Context, p auth.Principal, key string, a *Agent, in []byte, conv *kept) (*worker, error) {
	now := e.cfg.Now().UTC()
	id := newID(now)
	t := e.turn(a, held{
		rec: record{
			V: recordVersion, ID: id, Agent: a.Name, Version: a.Version(), Owner: ownerOf(p), Key: key, Input: in,
			State: Running, NextSeq: 1, Started: now,
		},
		lease: e.newLease(1),
	})
	root := id
	if conv != nil {
		root, t.h.rec.Root = conv.ID, conv.ID
		if err := conv.add(t.tx, p, id, now); err != nil {
			return nil, err
		}
	}
	value, err := encode(root)
	if err != nil {
		return nil, err
	}
	t.tx.Put(byOwner.Key(string(p.Kind), p.ID, string(id)), value)
	if key != "" {
		k := starts.Key(string(p.Kind), p.ID, key)
		if value, err = encode(id); err != nil {
			return nil, err
		}
		t.tx.Check(k, 0)
		t.tx.Put(k, value)
	}
	if err := t.begin(ctx, nil); err != nil {
		return nil, err
	}
	e.reserve(id, 1) // before the lease is there for a sweep to find
	h, err := t.commit(ctx)
	if err != nil {
		e.forget(id)
		return nil, err
	}
	return &worker{e: e, agent: a, h: h, permit: t.permit, results: map[string][]byte{}}, nil
}

// started is Fresh: it may have been started through another node.
func (e *Engine) started(ctx context.Context, p auth.Principal, key string) (ID, error) {
	var id ID
	err := e.cfg.Store.View(ctx, store.Fresh, func(s store.Snapshot) error {
		item, err := s.Get(starts.Key(string(p.Kind), p.ID, key))
		if err != nil {
			return err
		}
		return decode(item.Value, &id)
	})
	return id, err
}

// reserve marks a run as worked on here, so that no sweep takes it.
func (e *Engine) reserve(id ID, epoch uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.active[id] = &working{epoch: epoch, done: make(chan struct{})}
}

func (e *Engine) forget(id ID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if w := e.active[id]; w != nil {
		close(w.done)
		delete(e.active, id)
	}
}

// launch works on a run in the background. The worker has a place and the run
// is reserved.
func (e *Engine) launch(w *worker) {
	ctx, cancel := context.WithCancelCause(e.ctx)
	e.mu.Lock()
	defer e.mu.Unlock()
	id := w.h.rec.ID
	if e.closed {
		cancel(ErrStopping)
		close(e.active[id].done)
		delete(e.active, id)
		e.leave()
		return // its lease is on record: the next process goes on with it
	}
	e.active[id].stop = cancel
	e.work.Add(1)
	go func() {
		defer e.work.Done()
		defer e.leave()
		defer e.forget(id)
		defer cancel(nil)
		w.work(ctx)
		if e.ctx.Err() != nil && w.h.rec.State == Running {
			w.giveBack()
		}
	}()
}

// Cancel ends a run. Only the principal that started it may. It returns when the
// end is in the journal.
func (e *Engine) Cancel(ctx context.Context, p auth.Principal, id ID) error {
	req := guard.Request{Principal: p, Action: auth.Ask, Resource: auth.TheSystem, Run: string(id), Detail: map[string]any{"stop": true}}
	return e.cfg.Door.Do(ctx, req, func(ctx context.Context, _ *guard.Permit) (guard.Outcome, error) {
		h, err := e.load(ctx, id)
		if err != nil || h.rec.Owner.Kind != p.Kind || h.rec.Owner.ID != p.ID {
			// One that does not exist is refused like one that somebody else started.
			return guard.Outcome{Status: guard.StatusFailed}, fmt.Errorf("stop a run that you have not started: %w", errors.Join(auth.ErrDenied, err))
		}
		return guard.Outcome{}, e.cancel(ctx, id)
	})
}

// cancel lets the run's worker end it, when it is here and does so in time.
// Otherwise it takes the lease away, so that the worker, wherever it is, can no
// longer commit, and writes the end itself.
func (e *Engine) cancel(ctx context.Context, id ID) error {
	asked := e.interrupt(ctx, id)
	for range 100 {
		h, err := e.loadAt(ctx, store.Fresh, id) // its worker may be on another node
		if err != nil {
			return err
		}
		if h.rec.State == Cancelled && asked {
			return nil
		}
		if h.rec.State != Running {
			return ErrEnded
		}
		t := e.turn(e.agents[h.rec.Agent], h)
		if err := t.end(Cancelled, "", Event{Kind: KindCancelled, Data: []byte("{}")}); err != nil {
			return err
		}
		_, err = t.commit(ctx)
		if errors.Is(err, store.ErrConflict) {
			continue // its worker was quicker: a step has ended
		}
		return err
	}
	return ErrBusy
}

// obey is how long a step may take to end once its run is cancelled.
const obey = 5 * time.Second

// interrupt cancels the run's worker if it is here, and waits for its end.
func (e *Engine) interrupt(ctx context.Context, id ID) bool {
	e.mu.Lock()
	w := e.active[id]
	if w != nil && w.stop != nil {
		w.stop(ErrCancelled)
	}
	e.mu.Unlock()
	if w == nil {
		return false
	}
	timer := time.NewTimer(obey)
	defer timer.Stop()
	select {
	case <-w.done:
	case <-timer.C:
	case <-ctx.Done():
	}
	return true
}

// load reads a run as this node knows it; one that it does not know may have
// been started through another node just now.
func (e *Engine) load(ctx context.Context, id ID) (held, error) {
	h, err := e.loadAt(ctx, store.Local, id)
	if errors.Is(err, ErrNotFound) {
		h, err = e.loadAt(ctx, store.Fresh, id)
	}
	return h, err
}

func (e *Engine) loadAt(ctx context.Context, at store.ReadAt, id ID) (held, error) {
	var h held
	err := e.cfg.Store.View(ctx, at, func(s store.Snapshot) (err error) {
		h, err = load(s, id)
		return err
	})
	return h, err
}

// Close stops working. Steps under way are given up, and the runs handed over:
// another node goes on with them at once, or this one at its next start.
func (e *Engine) Close() error {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.stop()
	e.work.Wait()
	return nil
}

// newID is 48 bits of milliseconds and 80 random ones.
func newID(now time.Time) ID {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], uint64(now.UnixMilli())<<16)
	rand.Read(b[6:])
	return ID(strings.ToLower(sortable.EncodeToString(b[:])))
}

// sortable keeps the order of what it encodes, in either case.
var sortable = base32.HexEncoding.WithPadding(base32.NoPadding)
