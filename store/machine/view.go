package machine

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/machine/kv"
)

// View runs f on a snapshot at version v, 0 = the newest applied. The version
// must have been applied. It is ErrCompacted when history below it is gone; a
// state key is ErrCompacted when read at a version that only history still has.
func (m *Machine) View(v store.Version, f func(store.Snapshot) error) error {
	past := v != 0
	g, v, low, err := m.pin(v)
	if err != nil {
		return err
	}
	defer m.unpin(g, v)
	if past && v < low[1] {
		return fmt.Errorf("%w: version %d was asked for, history begins at %d", store.ErrCompacted, v, low[1])
	}
	s := &snapshot{version: v, low: low, pair: g.pair}
	defer s.close()
	return f(s)
}

var _ store.Snapshot = (*snapshot)(nil)

type snapshot struct {
	version store.Version
	low     [2]store.Version
	pair    kv.Pair
	readers [2]kv.Reader // opened when first used
	head    header
	known   bool // head was read
}

func (s *snapshot) close() {
	for _, r := range s.readers {
		if r != nil {
			r.Close()
		}
	}
}

func (s *snapshot) reader(db store.Database) (kv.Reader, error) {
	i := dbIndex(db)
	if s.version < s.low[i] {
		return nil, fmt.Errorf("%w: version %d of the state database, which begins at %d", store.ErrCompacted, s.version, s.low[i])
	}
	if s.readers[i] == nil {
		s.readers[i] = s.pair.At(i, uint64(s.version))
	}
	return s.readers[i], nil
}

// Version implements store.Snapshot.
func (s *snapshot) Version() store.Version { return s.version }

// Time implements store.Snapshot. It is zero when the header cannot be read,
// which every other read of a damaged database reports.
func (s *snapshot) Time() time.Time {
	if !s.known {
		if r, err := s.reader(store.History); err == nil {
			if h, err := readHeader(r); err == nil {
				s.head, s.known = h, true
			}
		}
	}
	return s.head.time
}

// Get implements store.Snapshot.
func (s *snapshot) Get(k store.Key) (store.Item, error) {
	db, ok := k.Database()
	if !ok {
		return store.Item{}, fmt.Errorf("%w: key %q is in neither database", store.ErrInvalid, k)
	}
	r, err := s.reader(db)
	if err != nil {
		return store.Item{}, err
	}
	b, v, err := r.Get(userKey(k))
	if errors.Is(err, kv.ErrNotFound) {
		return store.Item{}, store.ErrNotFound
	}
	if err != nil {
		return store.Item{}, fmt.Errorf("read key %q: %w", k, err)
	}
	return store.Item{Key: k, Value: b, Version: store.Version(v)}, nil
}

// Scan implements store.Snapshot.
func (s *snapshot) Scan(prefix, after store.Key) iter.Seq2[store.Item, error] {
	return s.scan(prefix, after, false)
}

// ScanBack implements store.Snapshot.
func (s *snapshot) ScanBack(prefix, before store.Key) iter.Seq2[store.Item, error] {
	return s.scan(prefix, before, true)
}

// databases lists the databases that hold keys with the prefix, in key order.
func databases(prefix store.Key) []store.Database {
	if prefix == "" {
		return []store.Database{store.History, store.State}
	}
	if db, ok := prefix.Database(); ok {
		return []store.Database{db}
	}
	return nil
}

func (s *snapshot) scan(prefix, edge store.Key, back bool) iter.Seq2[store.Item, error] {
	return func(yield func(store.Item, error) bool) {
		dbs := databases(prefix)
		if back && len(dbs) == 2 {
			dbs[0], dbs[1] = dbs[1], dbs[0]
		}
		for _, db := range dbs {
			r, err := s.reader(db)
			if err != nil {
				yield(store.Item{}, err)
				return
			}
			if !scanDatabase(r, prefix, edge, back, yield) {
				return
			}
		}
	}
}

// scanDatabase yields one database's part of a scan; false = stop.
func scanDatabase(r kv.Reader, prefix, edge store.Key, back bool, yield func(store.Item, error) bool) bool {
	c := r.Scan(kv.Range{Prefix: userKey(prefix), Reverse: back})
	defer c.Close()
	for c.Seek(scanFrom(prefix, edge, back)); c.Valid(); c.Next() {
		k := store.Key(c.Key()[1:])
		if back && edge != "" && k >= edge || !back && k <= edge {
			continue
		}
		v, err := c.Value()
		if err != nil {
			yield(store.Item{}, fmt.Errorf("read key %q: %w", k, err))
			return false
		}
		if !yield(store.Item{Key: k, Value: bytes.Clone(v), Version: store.Version(c.Version())}, nil) {
			return false
		}
	}
	return true
}

func scanFrom(prefix, edge store.Key, back bool) []byte {
	if !back {
		return userKey(max(prefix, edge))
	}
	end := prefix.After()
	if edge != "" && (end == "" || edge < end) {
		return userKey(edge)
	}
	if end == "" {
		return append(userKey(prefix), strings.Repeat("\xff", store.MaxKeyBytes)...)
	}
	return userKey(end)
}

// Sum implements store.Snapshot.
func (s *snapshot) Sum(counter store.Key, window time.Duration) (int64, error) {
	db, ok := counter.Database()
	if !ok {
		return 0, fmt.Errorf("%w: counter %q is in neither database", store.ErrInvalid, counter)
	}
	r, err := s.reader(db)
	if err != nil {
		return 0, err
	}
	return readCounter(r, counterKey(counter, window), bucket(window, s.Time()))
}

// Log implements store.Snapshot.
func (s *snapshot) Log(name string) store.Log {
	r, err := s.reader(store.History)
	return &logView{reader: r, name: name, err: err}
}

var _ store.Log = (*logView)(nil)

// logView is a log as a reader sees it.
type logView struct {
	reader   kv.Reader
	name     string
	err      error // why nothing can be read
	frontier *frontier
	edge0    []byte // of level 0, once it was computed
}

// Size implements store.Log. A log whose frontier cannot be read has size 0 and
// its Root tells why.
func (l *logView) Size() uint64 {
	f, err := l.load()
	if err != nil {
		return 0
	}
	return f.size
}

// Root implements store.Log.
func (l *logView) Root() ([32]byte, error) {
	f, err := l.load()
	if err != nil {
		return [32]byte{}, err
	}
	return f.root(), nil
}

// Leaf implements store.Log.
func (l *logView) Leaf(seq uint64) (store.Leaf, error) {
	f, err := l.load()
	if err != nil {
		return store.Leaf{}, err
	}
	if seq >= f.size {
		return store.Leaf{}, store.ErrNotFound
	}
	b, v, err := l.reader.Get(logKey(l.name, partLeaf, seq))
	if err != nil {
		return store.Leaf{}, l.broken(fmt.Sprintf("leaf %d", seq), err)
	}
	return leafOf(seq, b, v)
}

func leafOf(seq uint64, b []byte, version uint64) (store.Leaf, error) {
	t, data, err := splitLeaf(b)
	return store.Leaf{Seq: seq, Version: store.Version(version), Time: t, Data: data}, err
}

// Leaves implements store.Log.
func (l *logView) Leaves(from uint64) iter.Seq2[store.Leaf, error] {
	return func(yield func(store.Leaf, error) bool) {
		f, err := l.load()
		if err != nil {
			yield(store.Leaf{}, err)
			return
		}
		if from >= f.size {
			return
		}
		c := l.reader.Scan(kv.Range{Prefix: logKey(l.name, partLeaf)})
		defer c.Close()
		c.Seek(logKey(l.name, partLeaf, from))
		for seq := from; seq < f.size; seq++ {
			if !c.Valid() || string(c.Key()) != string(logKey(l.name, partLeaf, seq)) {
				yield(store.Leaf{}, l.broken(fmt.Sprintf("leaf %d", seq), kv.ErrNotFound))
				return
			}
			b, err := c.Value()
			var leaf store.Leaf
			if err == nil {
				leaf, err = leafOf(seq, bytes.Clone(b), c.Version())
			}
			if !yield(leaf, err) || err != nil {
				return
			}
			c.Next()
		}
	}
}

// Hashes implements store.Log.
func (l *logView) Hashes(indexes []int64) ([][32]byte, error) {
	f, err := l.load()
	if err != nil {
		return nil, err
	}
	out := make([][32]byte, len(indexes))
	for i, x := range indexes {
		if x < 0 || x >= tlog.StoredHashIndex(0, int64(f.size)) {
			return nil, fmt.Errorf("hash %d of log %q: %w", x, l.name, store.ErrNotFound)
		}
		if out[i], err = l.hash(tlog.SplitStoredHashIndex(x)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// hash folds the run of tile hashes that lies under a node of the tree.
func (l *logView) hash(level int, n int64) (tlog.Hash, error) {
	height := level % tileLevels
	first := uint64(n) << height
	tile, err := l.tile(level/tileLevels, first/tileWidth)
	if err != nil {
		return tlog.Hash{}, err
	}
	from := int(first%tileWidth) * hashBytes
	if from+hashBytes<<height > len(tile) {
		return tlog.Hash{}, l.broken("a tile", errMalformed)
	}
	run := make([]tlog.Hash, 1<<height)
	for i := range run {
		copy(run[i][:], tile[from+i*hashBytes:])
	}
	for len(run) > 1 {
		for i := range len(run) / 2 {
			run[i] = tlog.NodeHash(run[2*i], run[2*i+1])
		}
		run = run[:len(run)/2]
	}
	return run[0], nil
}
