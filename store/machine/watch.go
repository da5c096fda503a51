package machine

import (
	"bytes"
	"container/heap"
	"context"
	"fmt"
	"iter"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/machine/kv"
)

// ring keeps the newest groups' writes in memory for watchers, so that following
// costs no reads. It is guarded by Machine.mu.
type ring struct {
	limit  int
	bytes  int
	after  store.Version // holds every group above this version
	groups []*recent
}

// recent is one group in the ring.
type recent struct {
	version store.Version
	time    time.Time
	bytes   int
	raw     []kv.Write
	once    sync.Once
	writes  []store.Write // sorted, made from raw by the first watcher that looks
}

func (r *recent) sorted() []store.Write {
	r.once.Do(func() {
		r.writes = make([]store.Write, 0, len(r.raw))
		for _, w := range r.raw {
			out := store.Write{Key: store.Key(w.Key[1:]), Value: w.Value, Deleted: w.Deleted}
			if w.Deleted {
				out.Value = nil
			}
			r.writes = append(r.writes, out)
		}
		sort.Slice(r.writes, func(i, j int) bool { return r.writes[i].Key < r.writes[j].Key })
		r.raw = nil
	})
	return r.writes
}

func (r *ring) add(g *recent) {
	r.groups = append(r.groups, g)
	r.bytes += g.bytes
	drop := 0
	for drop < len(r.groups)-1 && r.bytes > r.limit {
		r.bytes -= r.groups[drop].bytes
		r.after = r.groups[drop].version
		drop++
	}
	if drop > 0 {
		clear(r.groups[:drop])
		r.groups = r.groups[drop:]
	}
}

// above returns the groups above a version; ok is false when the ring no longer
// holds them all.
func (r *ring) above(v store.Version) (groups []*recent, ok bool) {
	if v < r.after {
		return nil, false
	}
	i := sort.Search(len(r.groups), func(i int) bool { return r.groups[i].version > v })
	return slices.Clone(r.groups[i:min(len(r.groups), i+64)]), true
}

// Watch yields each version's changes to keys with the prefix, from memory while
// it follows closely and from the databases when it does not; see store.Store.
// A watch that was overtaken by Restore goes on in the restored databases.
func (m *Machine) Watch(ctx context.Context, prefix store.Key, from store.Version) iter.Seq2[store.Change, error] {
	return func(yield func(store.Change, error) bool) {
		for {
			m.mu.Lock()
			groups, ok := m.ring.above(from)
			top, changed, closed := m.head.version, m.changed, m.closed
			m.mu.Unlock()
			switch {
			case closed:
				yield(store.Change{}, store.ErrClosed)
				return
			case ctx.Err() != nil:
				yield(store.Change{}, ctx.Err())
				return
			case !ok:
				if from = m.catchUp(prefix, from, top, yield); from == 0 {
					return
				}
				continue
			}
			for _, g := range groups {
				c := store.Change{Version: g.version, Time: g.time, Writes: within(g.sorted(), prefix)}
				if len(c.Writes) > 0 && !yield(c, nil) {
					return
				}
				from = g.version
			}
			if len(groups) > 0 {
				continue
			}
			select {
			case <-changed:
			case <-ctx.Done():
			}
		}
	}
}

// within is the part of sorted writes that has the prefix.
func within(w []store.Write, prefix store.Key) []store.Write {
	i := sort.Search(len(w), func(i int) bool { return w[i].Key >= prefix })
	j := i
	for j < len(w) && strings.HasPrefix(string(w[j].Key), string(prefix)) {
		j++
	}
	return w[i:j:j]
}

// catchUpBytes bounds what one pass over the databases holds in memory.
const catchUpBytes = 4 << 20

// catchUp yields what lies in (from, top] from the databases and returns the
// version it reached, or 0 to stop. Each pass reads the keys with the prefix and
// keeps the lowest versions that fit into catchUpBytes.
func (m *Machine) catchUp(prefix store.Key, from, top store.Version, yield func(store.Change, error) bool) store.Version {
	changes, reached, err := m.collect(prefix, from, top)
	if err != nil {
		yield(store.Change{}, err)
		return 0
	}
	for _, c := range changes {
		if !yield(c, nil) {
			return 0
		}
	}
	return reached
}

// collect makes one pass.
func (m *Machine) collect(prefix store.Key, from, top store.Version) ([]store.Change, store.Version, error) {
	g, at, low, err := m.pin(max(from, 1))
	if err != nil {
		return nil, 0, err
	}
	defer m.unpin(g, at)
	p := pass{reached: top}
	for _, db := range databases(prefix) {
		if from < low[dbIndex(db)] {
			return nil, 0, fmt.Errorf("%w: changes after version %d were asked for, they are kept from %d on",
				store.ErrCompacted, from, low[dbIndex(db)])
		}
		r := g.pair.At(dbIndex(db), uint64(top))
		err := p.read(r, prefix, from)
		r.Close()
		if err != nil {
			return nil, 0, err
		}
	}
	changes, err := p.changes(g)
	return changes, p.reached, err
}

// pass gathers the writes of the lowest versions above from, at most
// catchUpBytes of them beside the lowest version itself, which is always whole.
type pass struct {
	found   versionHeap
	bytes   int
	reached store.Version // everything in (from, reached] has been found
}

type versionWrite struct {
	version store.Version
	write   store.Write
}

func (p *pass) read(r kv.Reader, prefix store.Key, from store.Version) error {
	c := r.Scan(kv.Range{Prefix: userKey(prefix), AllVersions: true, Since: uint64(from)})
	defer c.Close()
	var last versionWrite
	for c.Seek(nil); c.Valid(); c.Next() {
		v := store.Version(c.Version())
		if v <= from || v > p.reached {
			continue
		}
		w := versionWrite{v, store.Write{Key: store.Key(c.Key()[1:]), Deleted: c.Deleted()}}
		if w.version == last.version && w.write.Key == last.write.Key {
			continue // the replay wrote it again
		}
		last = w
		if !w.write.Deleted {
			b, err := c.Value()
			if err != nil {
				return fmt.Errorf("read key %q: %w", w.write.Key, err)
			}
			w.write.Value = bytes.Clone(b)
		}
		p.add(w)
	}
	return nil
}

func (p *pass) add(w versionWrite) {
	heap.Push(&p.found, w)
	p.bytes += size(w)
	for p.bytes > catchUpBytes && p.found[0].version > p.lowest() {
		v := p.found[0].version
		for len(p.found) > 0 && p.found[0].version == v {
			p.bytes -= size(heap.Pop(&p.found).(versionWrite))
		}
		p.reached = v - 1
	}
}

// lowest is the lowest version found. It is looked for only when memory is
// short, once for each version that is let go.
func (p *pass) lowest() store.Version {
	low := p.found[0].version
	for _, w := range p.found {
		low = min(low, w.version)
	}
	return low
}

func size(w versionWrite) int { return len(w.write.Key) + len(w.write.Value) + 64 }

// changes groups what was found by version.
func (p *pass) changes(g *generation) ([]store.Change, error) {
	sort.Slice(p.found, func(i, j int) bool {
		a, b := p.found[i], p.found[j]
		return a.version < b.version || a.version == b.version && a.write.Key < b.write.Key
	})
	var out []store.Change
	for _, w := range p.found {
		if len(out) == 0 || out[len(out)-1].Version != w.version {
			h, err := g.header(uint64(w.version))
			if err != nil {
				return nil, err
			}
			out = append(out, store.Change{Version: w.version, Time: h.time})
		}
		c := &out[len(out)-1]
		c.Writes = append(c.Writes, w.write)
	}
	return out, nil
}

// versionHeap has the highest version on top.
type versionHeap []versionWrite

func (h versionHeap) Len() int           { return len(h) }
func (h versionHeap) Less(i, j int) bool { return h[i].version > h[j].version }
func (h versionHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *versionHeap) Push(x any)        { *h = append(*h, x.(versionWrite)) }

// Pop implements heap.Interface.
func (h *versionHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
