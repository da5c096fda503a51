package crash

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/cloister-os/cloister/store"
)

// Check sees whether everything acknowledged is wholly there, nothing by half
// and nothing twice, whether the log's root is that of its leaves, and whether
// Watch from the beginning yields each change once.
func Check(ctx context.Context, s store.Store, acks []Ack) error {
	var version store.Version
	var leaves map[string]store.Leaf
	err := s.View(ctx, store.Fresh, func(v store.Snapshot) error {
		var err error
		version = v.Version()
		if leaves, err = checkLeaves(v.Log(logName)); err != nil {
			return err
		}
		if err := checkKeys(v, stateSpace, leaves); err != nil {
			return err
		}
		if err := checkKeys(v, historySpace, leaves); err != nil {
			return err
		}
		for _, k := range []store.Key{stateCount, historyCount} {
			if n, err := v.Sum(k, 0); err != nil || n != int64(len(leaves)) {
				return fmt.Errorf("counter %q is %d (%v), there are %d leaves", k, n, err, len(leaves))
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, a := range acks {
		if l, ok := leaves[a.ID]; !ok || l.Seq != a.Seq || l.Version != a.Version {
			return fmt.Errorf("transaction %s was acknowledged at version %d as leaf %d: it is there: %v, at %d as leaf %d",
				a.ID, a.Version, a.Seq, ok, l.Version, l.Seq)
		}
	}
	return checkWatch(ctx, s, version, leaves)
}

// checkLeaves reads the log, recomputes its root and returns the leaves by id.
func checkLeaves(l store.Log) (map[string]store.Leaf, error) {
	found := make(map[string]store.Leaf, l.Size())
	var hashes hashes
	for lf, err := range l.Leaves(0) {
		if err != nil {
			return nil, err
		}
		if before, twice := found[string(lf.Data)]; twice {
			return nil, fmt.Errorf("transaction %s was applied twice, as leaf %d and %d", lf.Data, before.Seq, lf.Seq)
		}
		found[string(lf.Data)] = lf
		hs, err := tlog.StoredHashes(int64(lf.Seq), lf.Data, hashes)
		if err != nil {
			return nil, err
		}
		hashes = append(hashes, hs...)
	}
	if uint64(len(found)) != l.Size() {
		return nil, fmt.Errorf("the log of size %d has %d leaves", l.Size(), len(found))
	}
	want, err := tlog.TreeHash(int64(len(found)), hashes)
	if err != nil {
		return nil, err
	}
	root, err := l.Root()
	if err != nil || root != [32]byte(want) {
		return nil, fmt.Errorf("the log's root is %x (%v), its leaves give %x", root, err, want)
	}
	stored := make([]int64, len(hashes))
	for i := range stored {
		stored[i] = int64(i)
	}
	got, err := l.Hashes(stored)
	if err != nil {
		return nil, err
	}
	for i := range got {
		if tlog.Hash(got[i]) != hashes[i] {
			return nil, fmt.Errorf("stored hash %d differs from that of the leaves", i)
		}
	}
	return found, nil
}

// checkKeys compares the keys of a space with the leaves: as many, each with its
// own value and its leaf's version.
func checkKeys(v store.Snapshot, space store.Space, leaves map[string]store.Leaf) error {
	n := 0
	for item, err := range v.Scan(store.Key(space), "") {
		if err != nil {
			return err
		}
		parts, ok := space.Parts(item.Key)
		if !ok || len(parts) != 1 {
			return fmt.Errorf("key %q is not one that was written", item.Key)
		}
		l, ok := leaves[parts[0]]
		if !ok || l.Version != item.Version {
			return fmt.Errorf("key %q is at version %d; leaf there: %v, at %d", item.Key, item.Version, ok, l.Version)
		}
		if string(item.Value) != string(value(parts[0])) {
			return fmt.Errorf("key %q holds %q", item.Key, item.Value)
		}
		n++
	}
	if n != len(leaves) {
		return fmt.Errorf("%d keys in %s and %d leaves", n, space, len(leaves))
	}
	return nil
}

var errDone = errors.New("done")

func checkWatch(ctx context.Context, s store.Store, top store.Version, leaves map[string]store.Leaf) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(errDone)
	seen := map[string]bool{}
	last := store.Version(0)
	for len(seen) < len(leaves) {
		from := last
		for c, err := range s.Watch(ctx, store.Key(historySpace), last) {
			if err != nil {
				return fmt.Errorf("watch from %d: %w", from, err)
			}
			if c.Version <= last || c.Version > top {
				return fmt.Errorf("watch gave version %d after %d of %d", c.Version, last, top)
			}
			last = c.Version
			for _, w := range c.Writes {
				parts, _ := historySpace.Parts(w.Key)
				if len(parts) != 1 || seen[parts[0]] || leaves[parts[0]].Version != c.Version {
					return fmt.Errorf("watch gave %q at version %d again or wrongly", w.Key, c.Version)
				}
				seen[parts[0]] = true
			}
			if len(seen) == len(leaves) || len(seen)%1000 == 999 { // resume now and then
				break
			}
		}
	}
	return nil
}

type hashes []tlog.Hash

// ReadHashes implements tlog.HashReader.
func (h hashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		out[i] = h[x]
	}
	return out, nil
}
