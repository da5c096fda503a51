package search

import (
	"context"
	"fmt"

	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/store"
)

// startFresh fills an empty index. A store that still keeps its first version
// is simply followed; the scan is the same work without the history.
func (x *Index) startFresh(ctx context.Context) error { return x.rebuild(ctx) }

// rebuild empties the index and fills it from a scan of one version, after which
// following goes on from there.
func (x *Index) rebuild(ctx context.Context) error {
	at := x.cfg.Store.Applied()
	for at == 0 {
		// Nothing was ever written: wait for the first change.
		for _, err := range x.cfg.Store.Watch(ctx, watched, 0) {
			if err != nil {
				return err
			}
			break
		}
		at = x.cfg.Store.Applied()
	}
	if err := x.wipe(); err != nil {
		return err
	}
	var sources []graph.Source
	err := x.cfg.Store.View(ctx, store.At(at), func(s store.Snapshot) (err error) {
		sources, err = graph.AllSources(s)
		return err
	})
	if err != nil {
		return err
	}
	for _, src := range sources {
		if err := x.scanRecords(ctx, src.Name, at); err != nil {
			return fmt.Errorf("rebuild the index of source %s: %w", src.Name, err)
		}
	}
	if err := x.scanNames(ctx, at); err != nil {
		return fmt.Errorf("rebuild the index of names: %w", err)
	}
	x.advance(at)
	x.writeMark()
	x.wakeEmbedding()
	return nil
}

// scanRecords indexes the records of a source as they stood at a version, a
// bounded number in each view.
func (x *Index) scanRecords(ctx context.Context, source string, at store.Version) error {
	part, err := x.partition(source, at)
	if err != nil {
		return err
	}
	for after := store.Key(""); ; {
		records := map[graph.RecordID]store.Version{}
		err := x.cfg.Store.View(ctx, store.At(at), func(s store.Snapshot) error {
			for item, err := range s.Scan(graph.SpaceRecord.Prefix(source), after) {
				if err != nil {
					return err
				}
				after = item.Key
				if id, ok := graph.ParseRecordKey(item.Key); ok {
					records[id] = item.Version
				}
				if len(records) == scanAtOnce {
					break
				}
			}
			r := graph.NewReader(s, graph.AccessTo(source), x.cfg.Blobs)
			return part.update(ctx, r, records, nil, at)
		})
		if err != nil {
			return err
		}
		if len(records) < scanAtOnce {
			return part.touch(at)
		}
	}
}

// scanNames indexes all identifiers as they stood at a version.
func (x *Index) scanNames(ctx context.Context, at store.Version) error {
	for after := store.Key(""); ; {
		p := newPending()
		seen := 0
		err := x.cfg.Store.View(ctx, store.At(at), func(s store.Snapshot) error {
			for item, err := range s.Scan(store.Key(graph.SpaceIdent), after) {
				if err != nil {
					return err
				}
				after = item.Key
				p.noteName(item.Key)
				if seen++; seen == 4*scanAtOnce {
					break
				}
			}
			for source, names := range p.names {
				part, err := x.partition(source, at)
				if err != nil {
					return err
				}
				r := graph.NewReader(s, graph.AccessTo(source), x.cfg.Blobs)
				if err := part.update(ctx, r, nil, names, at); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil || seen < 4*scanAtOnce {
			return err
		}
	}
}
