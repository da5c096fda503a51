// Package machine is the state machine of the store: it applies groups of
// transactions to two Badger databases and answers reads at any version kept.
//
// It promises: the same groups at the same indexes give the same bytes at the
// same versions on every node and in every replay; a group is visible wholly or
// not at all; a transaction that comes twice is applied once; what the durable
// mark covers survives a power cut, and what lies above it is written again by
// the replay of the log, whatever the cut left of it; nothing that an open view
// or the mark needs is ever discarded.
//
// It knows the five operations of store.Tx and nothing of their meaning, and
// neither clock nor randomness. store/consensus drives it. What it keeps, it
// keeps through store/machine/kv: Badger's files in truth (store/machine/disk), a
// memory that forgets in simulations. It may import store, store/sealed and its own
// parts and, of Cloister, nothing else.
package machine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/machine/disk"
	"github.com/cloister-os/cloister/store/machine/kv"
	"github.com/cloister-os/cloister/store/sealed"
)

// Config says where a machine keeps its data.
type Config struct {
	Dir    string       // holds CURRENT and gen-N; created when missing
	Logger *slog.Logger // slog.Default when nil

	// MemtableBytes is the size of each database's memtable, 16 MiB when 0. A
	// Badger transaction may take 15 % of it, which a group never passes: see
	// MaxGroupBytes and MaxGroupLogs.
	MemtableBytes int64
	// RingBytes bounds the recent changes kept in memory for watchers, 8 MiB
	// when 0. A watcher that falls behind them reads the databases.
	RingBytes int
	// Fatal is called when a database fails in the background, where no caller
	// waits for an error: the process must end. Nil ignores it.
	Fatal func(error)
	// StateKeep is how long old versions of state keys are kept, 5 minutes when 0.
	StateKeep time.Duration
	// Ring encrypts the databases; nil leaves them plain.
	Ring sealed.Ring
	// Observe, when not nil, is told of each group that was applied. Simulations
	// keep the log by it.
	Observe func(index uint64, data []byte, a *Applied)
	// Volume is where the data is kept, Badger's files in Dir when nil.
	// Simulations give one that forgets.
	Volume kv.Volume
}

// Machine is the state machine. Apply, Snapshot staging and Restore are called
// by one goroutine; views and watches by any.
type Machine struct {
	cfg    Config
	log    *slog.Logger
	volume kv.Volume

	// Owned by the applying goroutine.
	sessions map[string]*session
	tails    map[string]*tail
	batch    [2][]kv.Write // of the group being committed, kept for the next
	broken   error         // the first failure; nothing is applied after it

	lost     atomic.Bool    // a database failed in the background; closing it would wait for ever
	unsynced atomic.Int64   // bytes of groups applied since the last sync
	bytes    atomic.Int64   // of groups applied since Open
	syncing  turn           // one Sync, Restore or Close at a time
	leaving  sync.WaitGroup // old generations being removed

	mu      sync.Mutex  // guards all below
	cur     *generation // written by the applying goroutine, which may read it without mu
	head    header      // likewise
	format  int         // the cluster format
	ring    ring
	changed chan struct{} // closed and replaced at each version
	closed  bool
}

// header is what each group leaves behind beside its writes.
type header struct {
	version store.Version
	time    time.Time
	chain   [32]byte
	leader  string // whose clock gave the time; "" below store.FormatLeader
}

// headerBytes is a header without the node that led.
const headerBytes = 40

func (h header) encode() []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, headerBytes+len(h.leader)), uint64(h.time.UnixNano()))
	return append(append(b, h.chain[:]...), h.leader...)
}

func readHeader(r kv.Reader) (header, error) {
	b, version, err := r.Get(headerKey)
	if errors.Is(err, kv.ErrNotFound) {
		return header{}, nil
	}
	if err != nil {
		return header{}, err
	}
	if len(b) < headerBytes {
		return header{}, fmt.Errorf("%w: a header of %d bytes", errMalformed, len(b))
	}
	h := header{version: store.Version(version), time: time.Unix(0, int64(binary.BigEndian.Uint64(b))).UTC()}
	copy(h.chain[:], b[8:])
	h.leader = string(b[headerBytes:])
	return h, nil
}

// Open opens the machine at its durable mark: Applied then says which entry of
// the log must be applied next. Until the log's replay has passed what was
// applied before, views show the past.
func Open(cfg Config) (*Machine, error) {
	if cfg.MemtableBytes == 0 {
		cfg.MemtableBytes = 16 << 20
	}
	if cfg.RingBytes == 0 {
		cfg.RingBytes = 8 << 20
	}
	if cfg.StateKeep == 0 {
		cfg.StateKeep = 5 * time.Minute
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	m := &Machine{cfg: cfg, log: cfg.Logger, volume: cfg.Volume, changed: make(chan struct{}), syncing: newTurn()}
	if m.volume == nil {
		m.volume = disk.New(disk.Config{Dir: cfg.Dir, MemtableBytes: cfg.MemtableBytes, Logger: cfg.Logger, Ring: cfg.Ring, Failed: m.failed})
	}
	n, err := m.volume.Current()
	if err != nil {
		return nil, err
	}
	g, err := m.openGeneration(n)
	if err != nil {
		return nil, err
	}
	if err := m.adopt(g); err != nil {
		return nil, errors.Join(err, g.pair.Close())
	}
	return m, nil
}

// adopt makes a generation the one that is applied to and read, and loads what
// Apply keeps in memory.
func (m *Machine) adopt(g *generation) error {
	at := g.pair.Mark()
	s := g.pair.At(kv.State, at.Index)
	defer s.Close()
	h := g.pair.At(kv.History, at.Index)
	defer h.Close()
	// The format comes first: nothing else can be read if it is a newer one.
	raised, _, err := h.Get(userKey(store.ClusterFormat))
	if err != nil && !errors.Is(err, kv.ErrNotFound) {
		return fmt.Errorf("load the cluster format: %w", err)
	}
	format, err := decodeFormat(raised)
	if err == nil {
		err = store.CheckFormat(format)
	}
	if err != nil {
		return fmt.Errorf("this data cannot be used by this program: %w", err)
	}
	sessions, err := loadSessions(s)
	if err != nil {
		return fmt.Errorf("load the outcomes of transactions: %w", err)
	}
	head, err := readHeader(h)
	if err != nil {
		return fmt.Errorf("load the newest group's header: %w", err)
	}
	floor, _, err := h.Get(userKey(store.RetentionFloor))
	if err != nil && !errors.Is(err, kv.ErrNotFound) {
		return fmt.Errorf("load the retention floor: %w", err)
	}
	head.version = store.Version(at.Index)
	g.retain = newRetention(m.cfg.StateKeep, at, decodeFloor(floor))
	g.pair.Discard(at.State, at.History)
	m.sessions, m.tails = sessions, map[string]*tail{}
	m.mu.Lock()
	m.cur, m.head, m.format = g, head, format
	m.ring = ring{limit: m.cfg.RingBytes, after: head.version}
	changed := m.changed
	m.changed = make(chan struct{})
	m.mu.Unlock()
	close(changed)
	return nil
}

// Applied is the newest version that is visible.
func (m *Machine) Applied() store.Version {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.head.version
}

// Head is the newest version, its leader time and the chain over all that was
// decided up to it, which is equal on all nodes.
func (m *Machine) Head() (store.Version, time.Time, [32]byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.head.version, m.head.time, m.head.chain
}

// Changed returns the newest version and a channel that is closed when there is
// a newer one.
func (m *Machine) Changed() (store.Version, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.head.version, m.changed
}

// Close syncs, writes the mark, waits for open views and closes the databases.
func (m *Machine) Close() error {
	m.mu.Lock()
	closed := m.closed
	m.closed = true
	changed := m.changed
	m.changed = make(chan struct{})
	m.mu.Unlock()
	if closed {
		return nil
	}
	close(changed) // watchers see that it is closed
	if m.lost.Load() {
		return nil // the process ends
	}
	var err error
	if m.broken == nil {
		err = m.Sync()
	}
	m.syncing.Lock()
	defer m.syncing.Unlock()
	<-m.retire(m.cur)
	m.leaving.Wait()
	return errors.Join(err, m.cur.pair.Close())
}

// failed is told of a database that fails in the background.
func (m *Machine) failed(err error) {
	m.lost.Store(true)
	if m.cfg.Fatal != nil {
		m.cfg.Fatal(err)
	}
}

// Abandon makes Close leave the databases as they are, for a process that ends
// because they failed.
func (m *Machine) Abandon() { m.lost.Store(true) }
