// Package replica keeps every blob that the replicated state names on every node
// of the cluster.
//
// It promises: a blob is named only once min(2, voters) nodes hold it; a node
// that lacks a blob it is asked for brings it from another while the reader
// waits; whatever is missing here (a new node, a lost disk, an emptied folder) is
// brought without an operator; a damaged blob is replaced from another node and
// the log says so; all blobs are read again at a slow pace to find damage before
// a reader does. What nothing names, at no version that can still be read, is
// deleted after a grace period, and nothing that a transaction under way is
// about to name (see collect.go for why). On a node alone it costs nothing.
//
// It may import store, store/blob and store/blob/exchange.
package replica

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/blob"
	"github.com/cloister-os/cloister/store/blob/exchange"
)

// Defaults of Config.
const (
	DefaultGrace = 24 * time.Hour
	DefaultEvery = 5 * time.Minute
	DefaultScrub = 8 << 20
)

// Cluster is what a Replica asks of the membership.
type Cluster interface {
	Voters() int // how many nodes vote, this one among them
	Leads() bool // whether this node leads
}

// Config is what a Replica is made of. Node, Store, Blobs, Client and Cluster
// are required.
type Config struct {
	Node        string
	Store       store.Store
	Blobs       *blob.Store
	Client      *exchange.Client
	Cluster     Cluster
	Referencers []blob.Referencer // all that may name a blob; none = nothing is ever garbage
	Grace       time.Duration     // how long garbage is kept; DefaultGrace when 0
	Lease       time.Duration     // how long a blob is kept since it was put, named or not; DefaultGrace when 0
	Every       time.Duration     // between looks at everything; DefaultEvery when 0
	Collect     time.Duration     // between collections of garbage; an hour when 0
	ScrubBytes  int64             // a second, when looking for damage; DefaultScrub when 0, never when negative
	Logger      *slog.Logger      // nil = slog.Default()
	Now         func() time.Time  // nil = time.Now
}

// Replica is this node's part in keeping the blobs. Call Run.
type Replica struct {
	cfg     Config
	log     *slog.Logger
	push    *pusher
	held    *announcer
	wants   *wants
	doubted chan blob.Hash
	counts  counts

	mu      sync.Mutex
	flights map[blob.Hash]*flight // blobs on their way here
	ctx     context.Context       // of flights: Run's
	ready   chan struct{}         // closed when ctx is set
}

// counts are for Status.
type counts struct {
	pulled, pulledBytes, repaired, damaged, deleted, pushed atomic.Int64
	scrubbed                                                atomic.Int64
}

// Status is how a node stands.
type Status struct {
	Missing      int   // blobs that this node should hold and does not yet
	MissingBytes int64 // their bytes
	Waiting      int   // blobs that another node must take before they are named
	Pulled       int64 // since the start: blobs that came from other nodes
	PulledBytes  int64
	Pushed       int64 // that other nodes took
	Damaged      int64 // found damaged
	Repaired     int64 // and brought again from another node
	Deleted      int64 // as garbage
	Scrubbed     int64 // bytes read to find damage
}

// New returns a Replica and joins it to the blobs.
func New(c Config) (*Replica, error) {
	if c.Node == "" || c.Store == nil || c.Blobs == nil || c.Client == nil || c.Cluster == nil {
		return nil, errors.New("the blobs' replica needs a node, a store, blobs, a client and a cluster")
	}
	if c.Grace == 0 {
		c.Grace = DefaultGrace
	}
	if c.Lease == 0 {
		c.Lease = DefaultGrace
	}
	if c.Every == 0 {
		c.Every = DefaultEvery
	}
	if c.Collect == 0 {
		c.Collect = time.Hour
	}
	if c.ScrubBytes == 0 {
		c.ScrubBytes = DefaultScrub
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	r := &Replica{
		cfg: c, log: c.Logger, push: newPusher(), held: newAnnouncer(), wants: newWants(c.Now), doubted: make(chan blob.Hash, 256),
		flights: map[blob.Hash]*flight{}, ready: make(chan struct{}),
	}
	c.Blobs.Join(r)
	return r, nil
}

var _ blob.Remote = (*Replica)(nil)

// Node implements blob.Remote.
func (r *Replica) Node() string { return r.cfg.Node }

// Run works until the context ends.
func (r *Replica) Run(ctx context.Context) error {
	r.mu.Lock()
	r.ctx = ctx
	r.mu.Unlock()
	close(r.ready)
	var all sync.WaitGroup
	for range pushers {
		all.Go(func() { r.runPusher(ctx) })
	}
	for range pullers {
		all.Go(func() { r.runPuller(ctx) })
	}
	all.Go(func() { r.runAnnouncer(ctx) })
	all.Go(func() { r.runDoubts(ctx) })
	all.Go(func() { r.runScrub(ctx) })
	all.Go(func() { r.runCollector(ctx) })
	r.follow(ctx)
	all.Wait()
	return nil
}

// alone reports that there is no other node.
func (r *Replica) alone() bool { return len(r.cfg.Client.Others()) == 0 }

// Status says how this node stands.
func (r *Replica) Status() Status {
	missing, bytes := r.wants.count()
	return Status{
		Missing: missing, MissingBytes: bytes, Waiting: r.push.waiting(),
		Pulled: r.counts.pulled.Load(), PulledBytes: r.counts.pulledBytes.Load(), Pushed: r.counts.pushed.Load(),
		Damaged: r.counts.damaged.Load(), Repaired: r.counts.repaired.Load(), Deleted: r.counts.deleted.Load(),
		Scrubbed: r.counts.scrubbed.Load(),
	}
}

// pause waits, or until the context ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
