package replica

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/blob"
)

// pageSize is how many entries one look at the store reads.
const pageSize = 1024

// aloneFactor is how much more seldom a node alone looks at everything.
const aloneFactor = 12

// follow looks at everything, then follows what is named, and looks again when
// it is time. It is the only goroutine that deletes: so no deletion follows from
// a state of the store that is older than one that was followed already.
func (r *Replica) follow(ctx context.Context) {
	for ctx.Err() == nil {
		from := r.cfg.Store.Applied()
		if err := r.look(ctx); err != nil && ctx.Err() == nil {
			r.log.Warn("Which blobs this node lacks could not be found out; it will be tried again.", "error", err)
			pause(ctx, wantAgain)
			continue
		}
		every := r.cfg.Every
		if r.alone() {
			every *= aloneFactor
		}
		r.watch(ctx, from, every)
	}
}

// watch follows the names of blobs until it is time to look at everything again,
// or the other nodes are others.
func (r *Replica) watch(ctx context.Context, from store.Version, every time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, every)
	defer cancel()
	alone := r.alone()
	go func() {
		tick := time.NewTicker(min(every, time.Second))
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if r.alone() != alone {
					cancel()
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	for change, err := range r.cfg.Store.Watch(ctx, blob.SpaceName.Prefix(), from) {
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, store.ErrCompacted) {
				r.log.Warn("The names of blobs could not be followed; everything is looked at again.", "error", err)
				pause(ctx, wantAgain)
			}
			return
		}
		for _, w := range change.Writes {
			if h, ok := blob.ParseNameKey(w.Key); ok && !w.Deleted {
				r.heard(ctx, h, w.Value)
			}
		}
	}
}

// heard acts on an entry that was written.
func (r *Replica) heard(ctx context.Context, h blob.Hash, value []byte) {
	e, err := blob.DecodeEntry(value)
	if err != nil {
		r.log.Warn("A blob's entry cannot be read.", "blob", h, "error", err)
		return
	}
	switch {
	case e.Gone:
		if err := r.drop(ctx, h); err != nil && ctx.Err() == nil {
			r.log.Warn("Garbage could not be deleted; it will be tried again.", "blob", h, "error", err)
		}
	case !r.cfg.Blobs.Has(h):
		r.wants.add(h, e.Size, e.Node)
	}
}

// look compares the disk with the store, both ways.
func (r *Replica) look(ctx context.Context) error {
	if err := r.lookForMissing(ctx); err != nil {
		return err
	}
	if err := r.lookForUnnamed(ctx); err != nil {
		return err
	}
	if r.alone() {
		return nil
	}
	return r.lookForLost(ctx)
}

// lookForMissing wants what is named and not here, and deletes what is condemned.
func (r *Replica) lookForMissing(ctx context.Context) error {
	return r.pages(ctx, blob.SpaceName.Prefix(), func(items []store.Item) error {
		for _, item := range items {
			if h, ok := blob.ParseNameKey(item.Key); ok {
				r.heard(ctx, h, item.Value)
			}
		}
		return ctx.Err()
	})
}

// pages reads a prefix a page at a time, so that no view stays open for long.
func (r *Replica) pages(ctx context.Context, prefix store.Key, on func([]store.Item) error) error {
	for after := store.Key(""); ; {
		var items []store.Item
		err := r.cfg.Store.View(ctx, store.Local, func(s store.Snapshot) error {
			items = items[:0]
			for item, err := range s.Scan(prefix, after) {
				if err != nil {
					return err
				}
				if items = append(items, item); len(items) == pageSize {
					break
				}
			}
			return nil
		})
		if err != nil || len(items) == 0 {
			return err
		}
		after = items[len(items)-1].Key
		if err := on(items); err != nil {
			return err
		}
	}
}

// lookForUnnamed goes through the disk: it deletes what was put and never named,
// once its lease has passed, and tells the others of what they do not know is
// here.
func (r *Replica) lookForUnnamed(ctx context.Context) error {
	var page []blob.Info
	var orphans []blob.Info
	for info, err := range r.cfg.Blobs.List() {
		if err != nil {
			return err
		}
		if page = append(page, info); len(page) < pageSize {
			continue
		}
		more, err := r.unnamed(ctx, page)
		if err != nil {
			return err
		}
		orphans, page = append(orphans, more...), page[:0]
		if len(orphans) >= collectAtOnce {
			break
		}
	}
	more, err := r.unnamed(ctx, page)
	if err != nil {
		return err
	}
	return r.dropOrphans(ctx, append(orphans, more...))
}

// dropOrphans deletes what has no entry. One that is referred to all the same was
// written by something that does not name blobs: it gets its entry.
func (r *Replica) dropOrphans(ctx context.Context, list []blob.Info) error {
	if len(list) == 0 || len(r.cfg.Referencers) == 0 {
		return nil
	}
	var refs references
	err := r.cfg.Store.View(ctx, store.Fresh, func(s store.Snapshot) (err error) {
		refs, err = r.references(s)
		return err
	})
	if err != nil {
		return err
	}
	for _, info := range list {
		if !refs.has(info.Hash) {
			err = r.drop(ctx, info.Hash)
		} else {
			err = r.apply(ctx, []change{{blob.NameKey(info.Hash), 0, &blob.Entry{Size: info.Size, Node: r.cfg.Node}}})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// unnamed finds those of a page that nothing has named and whose lease has passed,
// and tells that the others are here.
func (r *Replica) unnamed(ctx context.Context, page []blob.Info) (orphans []blob.Info, err error) {
	before := r.cfg.Now().Add(-r.cfg.Lease)
	var untold []blob.Hash
	err = r.cfg.Store.View(ctx, store.Local, func(s store.Snapshot) error {
		orphans, untold = nil, nil
		for _, info := range page {
			_, err := s.Get(blob.NameKey(info.Hash))
			switch {
			case errors.Is(err, store.ErrNotFound) && info.Changed.Before(before):
				orphans = append(orphans, info)
				continue
			case err != nil && !errors.Is(err, store.ErrNotFound):
				return err
			}
			_, err = s.Get(blob.HeldKey(info.Hash, r.cfg.Node))
			if errors.Is(err, store.ErrNotFound) {
				untold = append(untold, info.Hash)
			} else if err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && !r.alone() {
		for _, h := range untold {
			r.held.add(h, true)
		}
	}
	return orphans, errors.Join(err, ctx.Err())
}

// lookForLost takes back what this node said it holds and does not any more, and,
// on the leader, what nodes said that are no longer of the cluster.
func (r *Replica) lookForLost(ctx context.Context) error {
	members := append(r.cfg.Client.Others(), r.cfg.Node)
	return r.pages(ctx, blob.SpaceHeld.Prefix(), func(items []store.Item) error {
		tx := store.NewTx()
		for _, item := range items {
			h, node, ok := blob.ParseHeldKey(item.Key)
			switch {
			case !ok:
			case node == r.cfg.Node && !r.cfg.Blobs.Has(h):
				r.held.add(h, false)
			case !slices.Contains(members, node) && r.cfg.Cluster.Leads() && tx.Fits(1, len(item.Key)):
				tx.Delete(item.Key)
			}
		}
		if tx.Len() == 0 {
			return ctx.Err()
		}
		_, err := r.cfg.Store.Submit(ctx, tx, store.Bulk).Wait(ctx)
		return err
	})
}

// drop deletes a blob that nothing names, once its lease has passed.
func (r *Replica) drop(ctx context.Context, h blob.Hash) error {
	before := r.cfg.Now().Add(-r.cfg.Lease)
	if young, err := r.cfg.Blobs.Younger(h, before); young || err != nil {
		return err
	}
	named := true
	err := r.cfg.Store.View(ctx, store.Fresh, func(s store.Snapshot) error {
		item, err := s.Get(blob.NameKey(h))
		if errors.Is(err, store.ErrNotFound) {
			named = false
			return nil
		}
		if err != nil {
			return err
		}
		e, err := blob.DecodeEntry(item.Value)
		named = !e.Gone
		return err
	})
	if err != nil || named {
		return err
	}
	deleted, err := r.cfg.Blobs.DeleteOlder(h, before)
	if deleted {
		r.counts.deleted.Add(1)
		if !r.alone() {
			r.held.add(h, false)
		}
	}
	return err
}
