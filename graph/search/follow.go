package search

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/store"
)

// Bounds of following.
const (
	maxPending  = 512                    // records and names gathered before they are written
	quiet       = 20 * time.Millisecond  // how long nothing must come before they are written anyway
	markEvery   = 30 * time.Second       // how often the index's own mark is written
	retryAfter  = 500 * time.Millisecond // between attempts after a failure
	maxRetry    = 30 * time.Second
	scanAtOnce  = 256 // records read in one view while rebuilding
	changeQueue = 16
)

// Run follows the store until the context ends and returns its error. A failure
// is logged and tried again; it never stops what the index already answers.
func (x *Index) Run(ctx context.Context) error {
	done := make(chan struct{})
	x.wakeEmbedding()
	go func() {
		defer close(done)
		x.embedLoop(ctx)
	}()
	wait := retryAfter
	for ctx.Err() == nil {
		began := time.Now()
		err := x.follow(ctx)
		if ctx.Err() != nil {
			break
		}
		if errors.Is(err, store.ErrCompacted) {
			x.log.Info("search index is rebuilt: the versions it had not seen are no longer kept")
			err = x.rebuild(ctx)
		}
		if err == nil {
			continue
		}
		x.log.Warn("search index fell behind", "error", err, "again_in", wait)
		if time.Since(began) > maxRetry {
			wait = retryAfter
		}
		if !sleep(ctx, wait) {
			break
		}
		wait = min(2*wait, maxRetry)
	}
	<-done
	x.writeMark()
	return ctx.Err()
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// follow watches from where the index stands.
func (x *Index) follow(ctx context.Context) error {
	from := x.Applied()
	if from == 0 {
		return x.startFresh(ctx)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changes := make(chan store.Change, changeQueue)
	failed := make(chan error, 1)
	go func() {
		defer close(changes)
		for c, err := range x.cfg.Store.Watch(ctx, watched, from) {
			if err != nil {
				failed <- err
				return
			}
			select {
			case changes <- c:
			case <-ctx.Done():
				failed <- ctx.Err()
				return
			}
		}
		failed <- nil
	}()
	if err := x.consume(ctx, changes); err != nil {
		return err
	}
	return <-failed
}

// watched covers all spaces of the graph; which of them matter is said by note.
const watched store.Key = "H/"

// consume gathers changes and writes them when there are many or it is quiet.
func (x *Index) consume(ctx context.Context, changes <-chan store.Change) error {
	p := newPending()
	marked := time.Now()
	timer := time.NewTimer(quiet)
	defer timer.Stop()
	for {
		flush := false
		select {
		case c, ok := <-changes:
			if !ok {
				return x.flush(ctx, p)
			}
			p.note(c)
			flush = p.size() >= maxPending
		case <-timer.C:
			flush = true
		}
		if flush && p.version > 0 {
			if err := x.flush(ctx, p); err != nil {
				return err
			}
			p = newPending()
			if time.Since(marked) > markEvery {
				x.writeMark()
				marked = time.Now()
			}
		}
		timer.Reset(quiet)
	}
}

// name is an identifier by which a source says that an entity is known.
type name struct {
	namespace string
	value     string
	entity    graph.EntityID
}

// pending is what changed since the last write to the partitions.
type pending struct {
	version store.Version
	records map[string]map[graph.RecordID]store.Version // by source
	names   map[string]map[name]bool
	dropped map[string]bool // sources that are gone
	count   int
}

func newPending() *pending {
	return &pending{records: map[string]map[graph.RecordID]store.Version{}, names: map[string]map[name]bool{}, dropped: map[string]bool{}}
}

func (p *pending) size() int { return p.count }

func (p *pending) note(c store.Change) {
	p.version = c.Version
	for _, w := range c.Writes {
		switch {
		case strings.HasPrefix(string(w.Key), string(graph.SpaceRecord)):
			if id, ok := graph.ParseRecordKey(w.Key); ok {
				p.noteRecord(id, c.Version)
			}
		case strings.HasPrefix(string(w.Key), string(graph.SpaceIdent)):
			p.noteName(w.Key)
		case strings.HasPrefix(string(w.Key), string(graph.SpaceSource)):
			if parts, ok := graph.SpaceSource.Parts(w.Key); ok && len(parts) == 1 {
				if w.Deleted {
					p.dropped[parts[0]] = true
				} else {
					delete(p.dropped, parts[0])
				}
			}
		}
	}
}

func (p *pending) noteRecord(id graph.RecordID, v store.Version) {
	m := p.records[id.Source]
	if m == nil {
		m = map[graph.RecordID]store.Version{}
		p.records[id.Source] = m
	}
	if _, ok := m[id]; !ok {
		p.count++
	}
	m[id] = v
}

func (p *pending) noteName(k store.Key) {
	parts, ok := graph.SpaceIdent.Parts(k)
	if !ok || len(parts) != 6 || len(parts[2]) != len(graph.EntityID{}) || parts[0] == graph.NamespaceSHA {
		return
	}
	m := p.names[parts[3]]
	if m == nil {
		m = map[name]bool{}
		p.names[parts[3]] = m
	}
	n := name{parts[0], parts[1], graph.EntityID([]byte(parts[2]))}
	if !m[n] {
		m[n] = true
		p.count++
	}
}

// flush brings the partitions to the pending version and publishes it.
func (x *Index) flush(ctx context.Context, p *pending) error {
	if p.version == 0 || ctx.Err() != nil {
		return ctx.Err()
	}
	for source := range p.dropped {
		if err := x.dropPartition(source); err != nil {
			return err
		}
		delete(p.records, source)
		delete(p.names, source)
	}
	sources := map[string]bool{}
	for s := range p.records {
		sources[s] = true
	}
	for s := range p.names {
		sources[s] = true
	}
	err := x.cfg.Store.View(ctx, store.At(p.version), func(s store.Snapshot) error {
		for _, source := range slices.Sorted(maps.Keys(sources)) {
			part, err := x.partition(source, 0)
			if err != nil {
				return err
			}
			r := graph.NewReader(s, graph.AccessTo(source), x.cfg.Blobs)
			if err := part.update(ctx, r, p.records[source], p.names[source], p.version); err != nil {
				return fmt.Errorf("index source %s: %w", source, err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	x.advance(p.version)
	x.wakeEmbedding()
	return nil
}

// partition returns the source's partition, making it when there is none. What
// was replaced up to the version floor is not known to a new one.
func (x *Index) partition(source string, floor store.Version) (*partition, error) {
	x.mu.RLock()
	p := x.parts[source]
	x.mu.RUnlock()
	if p != nil {
		return p, nil
	}
	p, err := openPartition(filepath.Join(x.textDir(), source), source)
	if err != nil {
		return nil, err
	}
	p.floor = max(p.floor, floor)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.parts[source] = p
	return p, nil
}

func (x *Index) dropPartition(source string) error {
	x.mu.Lock()
	p := x.parts[source]
	delete(x.parts, source)
	x.mu.Unlock()
	if p == nil {
		return nil
	}
	p.close()
	if err := os.RemoveAll(p.dir); err != nil {
		return fmt.Errorf("remove the index of source %s: %w", source, err)
	}
	if err := os.Remove(x.vectorPath(source)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the vectors of source %s: %w", source, err)
	}
	return nil
}

// lastChange is the version that must be indexed for a reader at v: that of the
// newest write to the graph, when it is not above v.
func (x *Index) lastChange(ctx context.Context, v store.Version) (store.Version, error) {
	var last store.Version
	err := x.cfg.Store.View(ctx, store.Local, func(s store.Snapshot) error {
		item, err := s.Get(graph.KeyMoved)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		last = item.Version
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("find the newest change of the graph: %w", err)
	}
	return min(last, v), nil
}

// The mark is a version that every partition has reached, in a file of its own:
// following begins there.

func (x *Index) markPath() string { return filepath.Join(x.textDir(), "MARK") }

func (x *Index) readMark() (store.Version, error) {
	b, err := os.ReadFile(x.markPath())
	if err != nil {
		return 0, err
	}
	layout, number, _ := strings.Cut(strings.TrimSpace(string(b)), " ")
	if layout != format {
		return 0, fmt.Errorf("the files have layout %q, this program writes %q", layout, format)
	}
	v, err := strconv.ParseUint(number, 10, 64)
	return store.Version(v), err
}

// writeMark brings every partition's own version to the index's, then writes
// the mark. It is an optimisation: a mark that is missing or old costs time.
func (x *Index) writeMark() {
	x.mu.RLock()
	applied, parts, closed := x.applied, slices.Collect(maps.Values(x.parts)), x.closed
	x.mu.RUnlock()
	if applied == 0 || closed {
		return
	}
	for _, p := range parts {
		if err := p.touch(applied); err != nil {
			x.log.Warn("search index mark not written", "error", err)
			return
		}
	}
	tmp := x.markPath() + ".new"
	err := os.WriteFile(tmp, []byte(format+" "+strconv.FormatUint(uint64(applied), 10)+"\n"), 0o600)
	if err == nil {
		err = os.Rename(tmp, x.markPath())
	}
	if err != nil {
		x.log.Warn("search index mark not written", "error", err)
	}
}
