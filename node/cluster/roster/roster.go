// Package roster keeps who belongs to the cluster: who was invited, joined, moved
// and was removed.
//
// It promises: every change by a person passes the guard and is on the record; an
// invitation is good once and for half an hour at most, and the store holds only
// its hash; a name belongs to one node at a time, and a node that was removed, or
// an older one of the same name, is told so when it knocks. What raft believes
// (consensus.Members) decides who votes; the roster only says who may try.
//
// It may import store, store/consensus, auth and node/cluster.
package roster

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/auth/seal"
	"github.com/cloister-os/cloister/node/cluster"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/consensus"
	"github.com/cloister-os/cloister/store/schema"
)

const (
	nodes   store.Space = "H/cluster/node/"
	invites store.Space = "S/cluster/invite/"
)

// entry is what the store holds of a node.
type entry struct {
	V       int    `cbor:"1,keyasint"`
	Address string `cbor:"2,keyasint"` // peer address, as the others dial it
	URL     string `cbor:"3,keyasint"` // where people reach it
	Joined  int64  `cbor:"4,keyasint"` // see seal.Identity
	Removed bool   `cbor:"5,keyasint,omitempty"`
}

const entryVersion = 1

// Raft is what the roster asks of the store's consensus. *consensus.Node is one.
type Raft interface {
	Members(ctx context.Context) ([]consensus.Member, error)
	Leads() bool
	AddNonvoter(ctx context.Context, p consensus.Peer) error
	Remove(ctx context.Context, id string) error
	Transfer(ctx context.Context, id string) error
	Readdress(ctx context.Context, p consensus.Peer) error
}

// Config is what a roster works with.
type Config struct {
	Store   store.Store
	Raft    Raft
	Door    guard.Door
	Cluster string // the cluster's id
	Node    string // this node
	Address string // this node's peer address; "" = its peer port is closed
	Service string // the service's name, which a node that joins takes over
	CA      *x509.Certificate
	// Handover packs what a node that joins needs: see seal.Keys.
	Handover func() ([]byte, error)
	// Facts asks a node for what only it knows of itself.
	Facts  func(ctx context.Context, node string) (Facts, error)
	Logger *slog.Logger
	Now    func() time.Time // time.Now when nil
}

// Facts is what only a node itself knows.
type Facts struct {
	URL          string    `json:"url"`
	Certificate  time.Time `json:"certificate"`  // until when its own certificate is valid
	Organisation time.Time `json:"organisation"` // until when the organisation's is; zero = none
	Warning      string    `json:"warning"`      // what to see to about them
}

// Roster is open. It is safe for concurrent use.
type Roster struct {
	cfg Config
	log *slog.Logger

	mu      sync.RWMutex // guards all below
	entries map[string]entry
	version store.Version
}

// New reads the roster. Run keeps it up to date.
func New(ctx context.Context, cfg Config) (*Roster, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	r := &Roster{cfg: cfg, log: cfg.Logger}
	return r, r.reload(ctx)
}

func (r *Roster) reload(ctx context.Context) error {
	err := r.cfg.Store.View(ctx, store.Local, func(s store.Snapshot) error {
		all := map[string]entry{}
		for item, err := range s.Scan(nodes.Prefix(), "") {
			if err != nil {
				return err
			}
			if err := read(all, item.Key, item.Value); err != nil {
				return err
			}
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.entries, r.version = all, s.Version()
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the roster of nodes: %w", err)
	}
	return nil
}

func read(all map[string]entry, key store.Key, value []byte) error {
	parts, ok := nodes.Parts(key)
	if !ok || len(parts) != 1 {
		return fmt.Errorf("%w: a key of the roster of nodes is damaged", store.ErrInvalid)
	}
	var e entry
	if err := cbor.Unmarshal(value, &e); err != nil {
		return fmt.Errorf("%w: the entry of node %s is damaged: %w", store.ErrInvalid, parts[0], err)
	}
	all[parts[0]] = e
	return nil
}

// Run follows the roster until the context ends; changed is called after each
// change. On the leader it also finishes removals that were interrupted.
func (r *Roster) Run(ctx context.Context, changed func()) error {
	var mend sync.WaitGroup
	mend.Go(func() { r.mend(ctx) })
	defer mend.Wait()
	for {
		err := r.watch(ctx, changed)
		if ctx.Err() != nil {
			return nil
		}
		if !errors.Is(err, store.ErrCompacted) {
			return fmt.Errorf("follow the roster of nodes: %w", err)
		}
		if err := r.reload(ctx); err != nil {
			return err
		}
		changed()
	}
}

func (r *Roster) watch(ctx context.Context, changed func()) error {
	r.mu.RLock()
	from := r.version
	r.mu.RUnlock()
	for change, err := range r.cfg.Store.Watch(ctx, nodes.Prefix(), from) {
		if err != nil {
			return err
		}
		if err := r.take(change); err != nil {
			return err
		}
		if len(change.Writes) > 0 {
			changed()
		}
	}
	return ctx.Err()
}

func (r *Roster) take(change store.Change) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range change.Writes {
		if w.Deleted {
			if parts, ok := nodes.Parts(w.Key); ok && len(parts) == 1 {
				delete(r.entries, parts[0])
			}
			continue
		}
		if err := read(r.entries, w.Key, w.Value); err != nil {
			return err
		}
	}
	r.version = change.Version
	return nil
}

// mendEvery is how often the leader looks for removals that were interrupted.
const mendEvery = 10 * time.Second

func (r *Roster) mend(ctx context.Context) {
	tick := time.NewTicker(mendEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !r.cfg.Raft.Leads() {
			continue
		}
		members, err := r.cfg.Raft.Members(ctx)
		if err != nil {
			continue // the next time
		}
		for _, m := range members {
			if e, ok := r.entry(m.ID); !ok || !e.Removed || m.Self {
				continue
			}
			if err := r.cfg.Raft.Remove(ctx, m.ID); err != nil && ctx.Err() == nil {
				r.log.Warn("a node that was removed is still a member; trying again", "node", m.ID, "error", err)
			}
		}
	}
}

func (r *Roster) entry(node string) (entry, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	e, ok := r.entries[node]
	return e, ok
}

// Admit says why a node may not connect. A node that the roster does not know may:
// this node may have been off while it joined.
func (r *Roster) Admit(id seal.Identity) error {
	e, ok := r.entry(id.Node)
	switch {
	case !ok || id.Joined > e.Joined:
		return nil
	case id.Joined < e.Joined:
		return fmt.Errorf("%w: another node joined as %s after this one; let this one join again under another name, with an empty data folder", cluster.ErrRemoved, id.Node)
	case e.Removed:
		return fmt.Errorf("%w: node %s was removed from the cluster; let it join again with an empty data folder", cluster.ErrRemoved, id.Node)
	}
	return nil
}

// Removed reports whether this node, which joined then, was removed.
func (r *Roster) Removed(joined int64) bool {
	e, ok := r.entry(r.cfg.Node)
	return ok && (e.Joined > joined || e.Removed)
}

// Addresses is the peer address of every other node.
func (r *Roster) Addresses() map[string]string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	out := map[string]string{}
	for node, e := range r.entries {
		if !e.Removed && e.Address != "" && node != r.cfg.Node {
			out[node] = e.Address
		}
	}
	return out
}

// put adds a node's entry to a transaction.
func put(u *store.Update, node string, e entry) error {
	e.V = entryVersion
	old, err := u.Get(nodes.Key(node))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	b, err := schema.Rewrite(old.Value, e) // what a newer program wrote stays
	if err != nil {
		return err
	}
	u.Put(nodes.Key(node), b)
	return nil
}

// get reads a node's entry in a transaction.
func get(u *store.Update, node string) (entry, bool, error) {
	item, err := u.Get(nodes.Key(node))
	if errors.Is(err, store.ErrNotFound) {
		return entry{}, false, nil
	}
	if err != nil {
		return entry{}, false, err
	}
	var e entry
	if err := cbor.Unmarshal(item.Value, &e); err != nil {
		return e, false, fmt.Errorf("%w: the entry of node %s is damaged: %w", store.ErrInvalid, node, err)
	}
	return e, true, nil
}
