package replica

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/blob"
)

// How garbage is found, and why nothing else is deleted.
//
// The leader, once an hour, reads at one version which blobs the Referencers'
// values refer to and goes through the names (mark). A name that nothing refers
// to becomes idle at that version; idle names whose version the retention floor
// has reached, and that have been so for the grace period, become gone (sweep).
// Then each node deletes its copy.
//
//   - A transaction that refers to a blob puts the name's entry in the same
//     transaction. So an entry is never older than the newest reference, and
//     idle means: nothing referred to it at that version, nor since. References
//     in the past are those below it, and the floor says that nobody can read
//     them.
//   - The leader changes an entry under Check with the version it read. If a
//     reference came in between, it is the sweep that fails.
//   - A transaction that comes after finds the name gone and puts it again: the
//     blob is wanted again by all nodes. Two of them still have it, since whoever
//     refers to a blob puts it first and makes it secure (blob.Store.Secure), and
//     no node deletes what was put within the lease (blob.Store.DeleteOlder), as
//     the file's own time says. That lease is what pins a blob from its Put to
//     the transaction that names it, through crashes too; it is renewed when the
//     blob is put again.
//   - What cannot be read (an unknown value in a Referencer's space) ends the
//     collection.
//
// What was put and never named has no entry; each node deletes its own copy once
// the lease has passed (follow.go).

// collectAtOnce bounds what one collection changes.
const collectAtOnce = 100_000

// runCollector collects on the leader.
func (r *Replica) runCollector(ctx context.Context) {
	tick := time.NewTicker(r.cfg.Collect)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if !r.cfg.Cluster.Leads() {
			continue
		}
		if err := r.Collect(ctx); err != nil && ctx.Err() == nil {
			r.log.Warn("Garbage among the blobs could not be collected; it will be tried again.", "error", err)
		}
	}
}

// Collect marks and sweeps once. Several nodes may do it at once; only one needs
// to.
func (r *Replica) Collect(ctx context.Context) error {
	if len(r.cfg.Referencers) == 0 {
		return nil
	}
	var changes []change
	err := r.cfg.Store.View(ctx, store.Fresh, func(s store.Snapshot) error {
		refs, err := r.references(s)
		if err != nil {
			return err
		}
		changes, err = r.judge(s, refs)
		return err
	})
	if err != nil {
		return err
	}
	for len(changes) > 0 && ctx.Err() == nil {
		n := min(len(changes), pageSize/4)
		if err := r.apply(ctx, changes[:n]); err != nil {
			return err
		}
		changes = changes[n:]
	}
	return ctx.Err()
}

// references are the beginnings of the hashes that are referred to, sorted: eight
// bytes tell a billion blobs apart, and if they did not, garbage would stay.
type references []uint64

func short(h blob.Hash) uint64 { return binary.BigEndian.Uint64(h[:]) }

func (refs references) has(h blob.Hash) bool {
	_, ok := slices.BinarySearch(refs, short(h))
	return ok
}

func (r *Replica) references(s store.Snapshot) (refs references, err error) {
	for _, ref := range r.cfg.Referencers {
		for item, err := range s.Scan(ref.Prefix, "") {
			if err != nil {
				return nil, err
			}
			list, err := ref.Refs(item)
			if err != nil {
				return nil, fmt.Errorf("what %q refers to cannot be read: %w", item.Key, err)
			}
			for _, h := range list {
				refs = append(refs, short(h))
			}
		}
	}
	slices.Sort(refs)
	return slices.Compact(refs), nil
}

// change is one entry to be rewritten, or removed when next is nil.
type change struct {
	key  store.Key
	at   store.Version
	next *blob.Entry
}

// judge goes through the names and says which are to change.
func (r *Replica) judge(s store.Snapshot, refs references) (out []change, err error) {
	floor, err := retentionFloor(s)
	if err != nil {
		return nil, err
	}
	for item, err := range s.Scan(blob.SpaceName.Prefix(), "") {
		if err != nil {
			return nil, err
		}
		h, ok := blob.ParseNameKey(item.Key)
		if !ok {
			continue
		}
		e, err := blob.DecodeEntry(item.Value)
		if err != nil {
			return nil, err
		}
		next, changed, err := r.judgeOne(s, h, e, refs.has(h), floor)
		if err != nil {
			return nil, err
		}
		if changed {
			out = append(out, change{item.Key, item.Version, next})
		}
		if len(out) == collectAtOnce {
			break
		}
	}
	return out, nil
}

func (r *Replica) judgeOne(s store.Snapshot, h blob.Hash, e blob.Entry, referred bool, floor store.Version) (next *blob.Entry, changed bool, err error) {
	old := s.Time().Sub(time.Unix(0, e.IdleNs)) >= r.cfg.Grace
	switch {
	case referred && (e.Idle > 0 || e.Gone):
		return &blob.Entry{Size: e.Size, Node: e.Node}, true, nil
	case referred:
		return nil, false, nil
	case e.Gone:
		held, err := isHeld(s, h)
		return nil, old && !held, err
	case e.Idle == 0:
		return &blob.Entry{Size: e.Size, Node: e.Node, Idle: s.Version(), IdleNs: s.Time().UnixNano()}, true, nil
	case old && e.Idle <= floor:
		return &blob.Entry{Size: e.Size, Node: e.Node, Idle: e.Idle, IdleNs: e.IdleNs, Gone: true}, true, nil
	}
	return nil, false, nil
}

func isHeld(s store.Snapshot, h blob.Hash) (bool, error) {
	for _, err := range s.Scan(blob.SpaceHeld.Prefix(string(h[:])), "") {
		return err == nil, err
	}
	return false, nil
}

func retentionFloor(s store.Snapshot) (store.Version, error) {
	item, err := s.Get(store.RetentionFloor)
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil
	}
	n, _ := store.ParseNumber(string(item.Value))
	return store.Version(n), err
}

// apply writes changes in one transaction, or each alone when one of them was
// overtaken by a reference.
func (r *Replica) apply(ctx context.Context, list []change) error {
	tx := store.NewTx()
	for _, c := range list {
		tx.Check(c.key, c.at)
		if c.next == nil {
			tx.Delete(c.key)
		} else {
			tx.Put(c.key, c.next.Encode())
		}
	}
	_, err := r.cfg.Store.Submit(ctx, tx, store.Bulk).Wait(ctx)
	if !errors.Is(err, store.ErrConflict) {
		return err
	}
	if len(list) == 1 {
		return nil // it is named again
	}
	for _, c := range list {
		if err := r.apply(ctx, []change{c}); err != nil {
			return err
		}
	}
	return nil
}
