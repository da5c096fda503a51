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
// neither clock nor randomness. store/consensus drives it. It may import store
// and, of Cloister, nothing else; with store/consensus it is the only importer
// of Badger.
package machine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"

	"github.com/cloister-os/cloister/store"
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
}

// Machine is the state machine. Apply, Snapshot staging and Restore are called
// by one goroutine; views and watches by any.
type Machine struct {
	cfg Config
	log *slog.Logger

	// Owned by the applying goroutine.
	sessions map[string]*session
	tails    map[string]*tail
	broken   error // the first failure; nothing is applied after it

	lost     atomic.Bool    // a database failed in the background; closing it would wait for ever
	unsynced atomic.Int64   // bytes of groups applied since the last sync
	bytes    atomic.Int64   // of groups applied since Open
	syncing  sync.Mutex     // one Sync, Restore or Close at a time
	leaving  sync.WaitGroup // old generations being removed

	mu      sync.Mutex  // guards all below
	cur     *generation // written by the applying goroutine, which may read it without mu
	head    header      // likewise
	ring    ring
	changed chan struct{} // closed and replaced at each version
	closed  bool
}

// header is what each group leaves behind beside its writes.
type header struct {
	version store.Version
	time    time.Time
	chain   [32]byte
}

func (h header) encode() []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 40), uint64(h.time.UnixNano()))
	return append(b, h.chain[:]...)
}

func readHeader(txn *badger.Txn) (header, error) {
	item, err := txn.Get(headerKey)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return header{}, nil
	}
	if err != nil {
		return header{}, err
	}
	h := header{version: store.Version(item.Version())}
	err = item.Value(func(b []byte) error {
		if len(b) != 40 {
			return fmt.Errorf("%w: a header of %d bytes", errMalformed, len(b))
		}
		h.time = time.Unix(0, int64(binary.BigEndian.Uint64(b))).UTC()
		copy(h.chain[:], b[8:])
		return nil
	})
	return h, err
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
	m := &Machine{cfg: cfg, log: cfg.Logger, changed: make(chan struct{})}
	n, err := currentGeneration(cfg.Dir)
	if err != nil {
		return nil, err
	}
	g, err := m.openGeneration(n)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(g.vouch(), m.adopt(g)); err != nil {
		return nil, errors.Join(err, g.close())
	}
	return m, nil
}

// adopt makes a generation the one that is applied to and read, and loads what
// Apply keeps in memory.
func (m *Machine) adopt(g *generation) error {
	at := g.marks.last
	s := g.state.NewTransactionAt(at.index, false)
	defer s.Discard()
	h := g.history.NewTransactionAt(at.index, false)
	defer h.Discard()
	sessions, err := loadSessions(s)
	if err != nil {
		return fmt.Errorf("load the outcomes of transactions: %w", err)
	}
	head, err := readHeader(h)
	if err != nil {
		return fmt.Errorf("load the newest group's header: %w", err)
	}
	floor, err := read(h, userKey(store.RetentionFloor))
	if err != nil && !errors.Is(err, badger.ErrKeyNotFound) {
		return fmt.Errorf("load the retention floor: %w", err)
	}
	head.version = store.Version(at.index)
	g.retain = newRetention(m.cfg.StateKeep, at, decodeFloor(floor))
	g.state.SetDiscardTs(at.state)
	g.history.SetDiscardTs(at.history)
	m.sessions, m.tails = sessions, map[string]*tail{}
	m.mu.Lock()
	m.cur, m.head = g, head
	m.ring = ring{limit: m.cfg.RingBytes, after: head.version}
	changed := m.changed
	m.changed = make(chan struct{})
	m.mu.Unlock()
	close(changed)
	return nil
}

// openDatabase opens one database with every memory size set: Badger's defaults
// take 5 memtables of 64 MB and 256 MB of cache. Writes are not synced, since
// the raft log is; values stay in the tree, since Sync would not cover a value
// log.
func (m *Machine) openDatabase(dir string, c options.CompressionType, tables []uint64) (*badger.DB, error) {
	if err := repair(dir, tables, m.log); err != nil {
		return nil, fmt.Errorf("repair the database %s: %w", dir, err)
	}
	o := badger.DefaultOptions(dir).
		WithLogger(badgerLog{m.log, m.failed}).
		WithSyncWrites(false).
		WithDetectConflicts(false).
		WithMetricsEnabled(false).
		WithMemTableSize(m.cfg.MemtableBytes).
		WithNumMemtables(3).
		WithNumLevelZeroTables(4).
		WithNumLevelZeroTablesStall(12).
		WithNumCompactors(2).
		WithCompression(c).
		WithBaseTableSize(4 << 20).
		WithBlockCacheSize(8 << 20).
		WithIndexCacheSize(8 << 20).
		WithValueThreshold(min(1<<20, m.cfg.MemtableBytes*15/100)).
		WithValueLogFileSize(1 << 20).
		WithNumVersionsToKeep(1) // of those at or below discardTs; all above it are kept
	db, err := badger.OpenManaged(o)
	if err != nil {
		return nil, fmt.Errorf("open the database %s: %w", dir, err)
	}
	return db, nil
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
	return errors.Join(err, m.cur.close())
}

// failed is told of a database that fails in the background.
func (m *Machine) failed(err error) {
	m.lost.Store(true)
	if m.cfg.Fatal != nil {
		m.cfg.Fatal(err)
	}
}

// badgerLog passes Badger's warnings and errors on; its chatter is dropped. A
// memtable that cannot be written as a table is heard of only here: Badger tries
// again for ever, and its Close waits for that.
type badgerLog struct {
	*slog.Logger
	failed func(error)
}

// Errorf implements badger.Logger.
func (l badgerLog) Errorf(f string, a ...any) {
	msg := strings.TrimSpace(fmt.Sprintf(f, a...))
	if strings.HasPrefix(msg, "error flushing memtable") {
		l.failed(errors.New("badger: " + msg))
		return
	}
	l.Error("badger: " + msg)
}

// Warningf implements badger.Logger.
func (l badgerLog) Warningf(f string, a ...any) { l.Warn("badger: " + fmt.Sprintf(f, a...)) }

// Infof implements badger.Logger.
func (badgerLog) Infof(string, ...any) {}

// Debugf implements badger.Logger.
func (badgerLog) Debugf(string, ...any) {}

// Abandon makes Close leave the databases as they are, for a process that ends
// because they failed.
func (m *Machine) Abandon() { m.lost.Store(true) }
