package policy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/schema"
)

const (
	policies store.Space = "H/policy/"
	seeded   store.Space = "H/policies-seeded/" // one key: which starter policies were offered, see offer
	// changed is one key, written with every change: its version is that of the
	// newest one, so that a node knows with one look whether it has them all.
	changed store.Space = "S/policies-changed/"
)

// stored is the value of a policy's key.
type stored struct {
	V    uint   `cbor:"v"`
	Text string `cbor:"text"`
}

// Put checks the policy's text and adds it to the transaction under its @id,
// which it returns. Once the transaction is applied the policy counts for the
// next decision. The error is one sentence that matches ErrInvalid.
func (p *Policies) Put(tx *store.Tx, text string) (string, error) {
	c, err := compile(text)
	if err != nil {
		return "", err
	}
	known := p.now().byID
	if known[c.ID] == nil && len(known) >= MaxPolicies {
		return "", fmt.Errorf("%w: there are already %d policies, remove some first", ErrInvalid, MaxPolicies)
	}
	tx.Put(policies.Key(c.ID), schema.MustEncode(stored{V: 1, Text: c.Text}))
	tx.Put(changed.Key(), nil)
	p.follow(tx, c.ID, c)
	return c.ID, tx.Err()
}

// Remove adds the removal of a policy to the transaction. The policy must exist:
// else the error is store.ErrNotFound.
func (p *Policies) Remove(tx *store.Tx, id string) error {
	if p.now().byID[id] == nil {
		return fmt.Errorf("policy %q: %w", id, store.ErrNotFound)
	}
	tx.Delete(policies.Key(id))
	tx.Put(changed.Key(), nil)
	p.follow(tx, id, nil)
	return tx.Err()
}

// List returns the policies in the order of their ids.
func (p *Policies) List() []Policy { return p.now().list() }

// follow makes the change count on this node as soon as the transaction is
// applied, before whoever applied it goes on: the next decision takes it in.
func (p *Policies) follow(tx *store.Tx, id string, c *compiled) {
	tx.After(func(res store.Result, err error) {
		if err != nil {
			return
		}
		if c != nil {
			dated := *c
			dated.Version, dated.Updated = res.Version, res.Time
			c = &dated
		}
		p.note(change{id: id, policy: c, version: res.Version})
	})
}

// note queues a change for the next decision. It is quick, for it runs where the
// store applies.
func (p *Policies) note(list ...change) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.changes = append(p.changes, list...)
	p.dirty.Store(true)
	close(p.moved)
	p.moved = make(chan struct{})
}

// now is the set with every noted change in it.
func (p *Policies) now() *set {
	if !p.dirty.Load() {
		return p.current.Load()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.changes) > 0 {
		p.current.Store(p.current.Load().with(p.changes))
		p.changes = nil
	}
	p.dirty.Store(false)
	return p.current.Load()
}

// reload replaces the set by what the store holds.
func (p *Policies) reload(ctx context.Context) error {
	byID := map[string]*compiled{}
	var version store.Version
	// Local is enough: what comes after is watched, and whoever decides asks
	// CatchUp first.
	err := p.store.View(ctx, store.Local, func(s store.Snapshot) error {
		version = s.Version()
		for item, err := range s.Scan(policies.Prefix(), "") {
			if err != nil {
				return err
			}
			if c := p.read(item.Key, item.Value, item.Version, time.Time{}); c != nil {
				byID[c.ID] = c
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	next := newSet(byID, map[string]store.Version{}, version)
	if old := p.current.Load(); old != nil {
		next = next.with(old.since(version)) // committed here while the store was read
	}
	p.current.Store(next)
	return nil
}

// Changed is the version of the newest change of any policy in the snapshot.
func (p *Policies) Changed(s store.Snapshot) (store.Version, error) {
	item, err := s.Get(changed.Key())
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil
	}
	return item.Version, err
}

// CatchUp returns once every change up to the version counts here.
func (p *Policies) CatchUp(ctx context.Context, v store.Version) error {
	for {
		p.mu.Lock()
		moved := p.moved
		p.mu.Unlock()
		if p.now().version >= v {
			return nil
		}
		if !p.follows.Load() {
			if err := p.reload(ctx); err != nil {
				return fmt.Errorf("read the policies: %w", err)
			}
			continue
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// read decodes a stored policy. One that cannot be read is kept as broken, for to
// skip it might skip a forbid.
func (p *Policies) read(key store.Key, value []byte, version store.Version, updated time.Time) *compiled {
	parts, ok := policies.Parts(key)
	if !ok || len(parts) != 1 {
		return nil
	}
	id := parts[0]
	c, err := decode(id, value)
	if err != nil {
		p.logger.Error("A stored policy cannot be read; until it is removed or replaced, everything else is refused.", "policy", id, "error", err)
		c = &compiled{Policy: Policy{ID: id}}
	}
	c.Version, c.Updated = version, updated
	return c
}

func decode(id string, value []byte) (*compiled, error) {
	var v stored
	if err := cbor.Unmarshal(value, &v); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	c, err := compile(v.Text)
	if err != nil {
		return nil, err
	}
	if c.ID != id {
		return nil, fmt.Errorf("%w: it is stored as %q and calls itself %q", ErrInvalid, id, c.ID)
	}
	return c, nil
}

// Run follows the store until the context ends. It must run on every node.
func (p *Policies) Run(ctx context.Context) error {
	p.follows.Store(true)
	defer p.follows.Store(false)
	for {
		err := p.watch(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if !errors.Is(err, store.ErrCompacted) {
			return fmt.Errorf("follow the policies: %w", err)
		}
		if err := p.reload(ctx); err != nil {
			return fmt.Errorf("read the policies: %w", err)
		}
	}
}

func (p *Policies) watch(ctx context.Context) error {
	for ch, err := range p.store.Watch(ctx, policies.Prefix(), p.now().version) {
		if err != nil {
			return err
		}
		list := make([]change, 0, len(ch.Writes))
		for _, w := range ch.Writes {
			parts, ok := policies.Parts(w.Key)
			if !ok || len(parts) != 1 {
				continue
			}
			c := change{id: parts[0], version: ch.Version, watched: true}
			if !w.Deleted {
				c.policy = p.read(w.Key, w.Value, ch.Version, ch.Time)
			}
			list = append(list, c)
		}
		p.note(list...)
	}
	return store.ErrClosed
}
