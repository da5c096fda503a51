package machine

import (
	"encoding/binary"
	"sort"
	"time"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/machine/kv"
)

// retention knows how far back versions are kept and who still reads them. It
// is guarded by Machine.mu. Managed Badger does not track readers, so this does:
// what it hands out as the databases' discardTs never passes the durable mark,
// nor the version of any open view.
type retention struct {
	keep    time.Duration
	floor   store.Version // of history, from its replicated key
	granted kv.Mark       // what may have been discarded
	readers map[store.Version]int
	samples []header // about one a second, over keep
}

func newRetention(keep time.Duration, at kv.Mark, floor store.Version) retention {
	return retention{keep: keep, floor: floor, granted: at, readers: map[store.Version]int{}}
}

const sampleEvery = time.Second

// note remembers when versions were made.
func (r *retention) note(h header) {
	if n := len(r.samples); n > 0 && h.time.Sub(r.samples[n-1].time) < sampleEvery {
		return
	}
	r.samples = append(r.samples, header{version: h.version, time: h.time})
	drop := 0
	for drop+1 < len(r.samples) && h.time.Sub(r.samples[drop+1].time) >= r.keep {
		drop++
	}
	r.samples = r.samples[drop:]
}

// next fills in what may be discarded once the mark is at its index.
func (r *retention) next(m kv.Mark, head header) kv.Mark {
	bound := m.Index
	for v := range r.readers {
		bound = min(bound, uint64(v))
	}
	if len(r.samples) > 0 && head.time.Sub(r.samples[0].time) >= r.keep {
		m.State = max(m.State, min(bound, uint64(r.samples[0].version)))
	}
	// History holds the headers, with the time of every version that state keeps.
	m.History = max(m.History, min(bound, uint64(r.floor), m.State))
	r.granted = m
	return m
}

// low is the lowest version that a database can be read at.
func (r *retention) low(db store.Database) store.Version {
	if db == store.State {
		return store.Version(r.granted.State)
	}
	return max(r.floor, store.Version(r.granted.History))
}

func decodeFloor(b []byte) store.Version {
	if len(b) != 8 {
		return 0
	}
	return store.Version(binary.BigEndian.Uint64(b))
}

// pin registers a reader at a version, 0 = the newest, and returns the version
// and the lowest at which each database could be read at that moment. What could
// be read stays readable, and its databases open, until unpin.
func (m *Machine) pin(v store.Version) (g *generation, at store.Version, low [2]store.Version, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, 0, low, store.ErrClosed
	}
	if v == 0 {
		v = m.head.version
	}
	g = m.cur
	g.hold(v)
	return g, v, [2]store.Version{g.retain.low(store.State), g.retain.low(store.History)}, nil
}

// hold registers a reader; Machine.mu is held.
func (g *generation) hold(v store.Version) {
	g.users++
	g.retain.readers[v]++
}

// kept is what a generation may have let go of by now.
func (m *Machine) kept(g *generation) kv.Mark {
	m.mu.Lock()
	defer m.mu.Unlock()
	return g.retain.granted
}

func (m *Machine) unpin(g *generation, v store.Version) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if g.retain.readers[v]--; g.retain.readers[v] == 0 {
		delete(g.retain.readers, v)
	}
	if g.users--; g.users == 0 && g.idle != nil {
		close(g.idle)
	}
}

// retire returns a channel that is closed when no view uses a generation any
// more. No new view can begin on it: the machine is closed or has another.
func (m *Machine) retire(g *generation) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	g.idle = make(chan struct{})
	if g.users == 0 {
		close(g.idle)
	}
	return g.idle
}

// VersionAt is the newest version that was made at or before a leader time, as
// far as history goes back; 0 when there is none.
func (m *Machine) VersionAt(t time.Time) (store.Version, error) {
	g, top, low, err := m.pin(0)
	if err != nil {
		return 0, err
	}
	defer m.unpin(g, top)
	var failed error
	from := uint64(max(low[1], 1))
	n := sort.Search(int(uint64(top)-from+1), func(i int) bool { // the first version made after t
		h, err := g.header(from + uint64(i))
		if err != nil {
			failed = err
		}
		return h.time.After(t)
	})
	if n == 0 || failed != nil {
		return 0, failed
	}
	h, err := g.header(from + uint64(n) - 1)
	return h.version, err
}

// header is that of the newest group at or below a version.
func (g *generation) header(v uint64) (header, error) {
	r := g.pair.At(kv.History, v)
	defer r.Close()
	return readHeader(r)
}
