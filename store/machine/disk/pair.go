package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/ristretto/v2/z"

	"github.com/cloister-os/cloister/store/machine/kv"
	"github.com/cloister-os/cloister/store/sealed"
)

var _ kv.Pair = (*pair)(nil)

// pair is the two databases of a generation and the file with their mark.
type pair struct {
	dir     string
	ring    sealed.Ring
	dbs     [2]*badger.DB
	entries [2][]badger.Entry // of the commit under way, kept for the next
	level0  [2]level0         // of Sync

	keys   [2]*badger.KeyRegistry // that the databases were opened with; nil without a ring
	spares [2]*z.AllocatorPool    // of the databases; see letGo
	since  int                    // bytes that were committed since they were emptied

	mu     sync.Mutex // guards all below
	marks  *marks
	tables [2][]uint64 // of level 0, as the last Sync found them
}

// names are the databases' folders.
var names = [2]string{kv.State: "state", kv.History: "history"}

// Open implements kv.Volume.
func (v *Volume) Open(gen uint64) (kv.Pair, error) {
	p := &pair{dir: v.path(gen), ring: v.cfg.Ring}
	var err error
	if p.marks, err = openMarks(filepath.Join(p.dir, "mark")); err != nil {
		return nil, err
	}
	for i, c := range []options.CompressionType{kv.State: options.None, kv.History: options.Snappy} {
		if p.dbs[i], p.keys[i], err = v.openDatabase(filepath.Join(p.dir, names[i]), c, p.marks.last.tables[i]); err != nil {
			return nil, errors.Join(err, p.Close())
		}
		p.spares[i] = sparesOf(p.dbs[i])
	}
	if err := p.vouch(); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// So many flushed memtables, at least and at most, wait until they are compacted: with
// few, and a next level much smaller than they are together, each byte is written again
// and again. The next level is twice as large as they are, so a database of less than a
// gigabyte has no other. Each database chooses at its start: all nodes apply the same,
// and would all compact in the same seconds, when nobody is left to answer.
const (
	levelZeroLeast = 18
	levelZeroMost  = 24
)

// openDatabase opens one database with every memory size set: Badger's defaults
// take 5 memtables of 64 MB and 256 MB of cache. Writes are not synced, since
// the raft log is; values stay in the tree, since Sync would not cover a value
// log. The keys are those of all its tables for as long as it is open.
func (v *Volume) openDatabase(dir string, c options.CompressionType, tables []uint64) (db *badger.DB, keys *badger.KeyRegistry, err error) {
	if err := repair(dir, tables, v.cfg.Logger); err != nil {
		return nil, nil, fmt.Errorf("repair the database %s: %w", dir, err)
	}
	key, err := openKeys(dir, v.cfg.Ring)
	if err == nil && key != nil {
		keys, err = readKeys(dir, key)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("open the database %s: %w", dir, err)
	}
	levelZero := levelZeroLeast + rand.IntN(levelZeroMost-levelZeroLeast+1)
	o := badger.DefaultOptions(dir).
		WithLogger(badgerLog{v.cfg.Logger, v.cfg.Failed}).
		WithSyncWrites(false).
		WithDetectConflicts(false).
		WithMetricsEnabled(false).
		WithMemTableSize(v.cfg.MemtableBytes).
		WithNumMemtables(3).
		WithNumLevelZeroTables(levelZero).
		WithNumLevelZeroTablesStall(3 * levelZero).
		WithBaseLevelSize(int64(2*levelZero) * v.cfg.MemtableBytes).
		WithNumCompactors(2).
		WithCompression(c).
		WithBaseTableSize(4 << 20).
		WithBlockCacheSize(8 << 20).
		WithIndexCacheSize(indexBytes).
		WithEncryptionKey(key).
		WithEncryptionKeyRotationDuration(dataKeyAge).
		WithValueThreshold(min(1<<20, v.cfg.MemtableBytes*15/100)).
		WithValueLogFileSize(1 << 20).
		WithNumVersionsToKeep(1) // of those at or below discardTs; all above it are kept
	o.TableSizeMultiplier = 1 // a compaction builds a dozen tables at once, in memory
	db, err = badger.OpenManaged(o)
	if errors.Is(err, badger.ErrEncryptionKeyMismatch) { // without a ring
		err = fmt.Errorf("%w: it is encrypted", ErrKey)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("open the database %s: %w", dir, err)
	}
	return db, keys, nil
}

// Commit implements kv.Pair. The databases write side by side.
func (p *pair) Commit(version uint64, writes [2][]kv.Write) error {
	defer p.letGo(size(writes))
	var txns [2]*badger.Txn
	for i, db := range p.dbs {
		txns[i] = db.NewTransactionAt(version-1, true)
		defer txns[i].Discard()
		if err := p.fill(txns[i], i, writes[i]); err != nil {
			return err
		}
	}
	done := make(chan error, len(txns))
	for _, t := range txns {
		if err := t.CommitAt(version, func(err error) { done <- err }); err != nil {
			return err
		}
	}
	for range txns {
		if err := <-done; err != nil {
			return fmt.Errorf("commit: %w", err)
		}
	}
	return nil
}

func size(writes [2][]kv.Write) (bytes int) {
	for _, list := range writes {
		for _, w := range list {
			bytes += len(w.Key) + len(w.Value)
		}
	}
	return bytes
}

func (p *pair) fill(t *badger.Txn, db int, writes []kv.Write) error {
	entries := slices.Grow(p.entries[db][:0], len(writes))[:len(writes)]
	p.entries[db] = entries
	for i, w := range writes {
		if w.Deleted {
			if err := t.Delete(w.Key); err != nil {
				return err
			}
			continue
		}
		entries[i] = badger.Entry{Key: w.Key, Value: w.Value}
		if err := t.SetEntry(&entries[i]); err != nil {
			return err
		}
	}
	return nil
}

// Sync implements kv.Pair. Badger's own Sync covers the active memtable only and
// a rotated one is not synced at all, so every memtable's file is synced here,
// then the folder; tables are synced when Badger creates them.
func (p *pair) Sync() error {
	var tables [2][]uint64
	for i, db := range p.dbs {
		var err error
		if tables[i], err = p.level0[i].tables(db); err != nil {
			return fmt.Errorf("sync the database: %w", err)
		}
		if err := syncMemtables(db.Opts().Dir); err != nil {
			return fmt.Errorf("sync the database: %w", err)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tables = tables // they are on disk with their names
	return nil
}

// level0 is the tables of level 0. Badger lists them only by reading something of
// the index of every table, which a large database should not do each second; so
// it is asked only after files came or went.
type level0 struct {
	files []string
	ids   []uint64
}

func (l *level0) tables(db *badger.DB) ([]uint64, error) {
	files, err := filepath.Glob(filepath.Join(db.Opts().Dir, "*.sst"))
	if err != nil || slices.Equal(files, l.files) {
		return l.ids, err
	}
	l.files, l.ids = files, nil
	for _, t := range db.Tables() {
		if t.Level == 0 {
			l.ids = append(l.ids, t.ID)
		}
	}
	return l.ids, nil
}

// vouch takes the tables that closing and opening made into the mark.
func (p *pair) vouch() error {
	if err := p.Sync(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.marks.last
	if slices.Equal(p.tables[0], old.tables[0]) && slices.Equal(p.tables[1], old.tables[1]) {
		return nil
	}
	return p.marks.write(mark{old.Mark, p.tables})
}

// Mark implements kv.Pair.
func (p *pair) Mark() kv.Mark {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.marks.last.Mark
}

// SetMark implements kv.Pair.
func (p *pair) SetMark(m kv.Mark) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.marks.write(mark{m, p.tables})
}

// Discard implements kv.Pair.
func (p *pair) Discard(state, history uint64) {
	p.dbs[kv.State].SetDiscardTs(state)
	p.dbs[kv.History].SetDiscardTs(history)
}

// Bytes implements kv.Pair.
func (p *pair) Bytes() int64 {
	sum := int64(0)
	for _, name := range names {
		files, err := filepath.Glob(filepath.Join(p.dir, name, "*.sst"))
		if err != nil {
			continue
		}
		for _, f := range files {
			if fi, err := os.Stat(f); err == nil { // else it has just been compacted
				sum += fi.Size()
			}
		}
	}
	return sum
}

// Close implements kv.Pair.
func (p *pair) Close() error {
	var errs []error
	for _, db := range p.dbs {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(append(errs, p.marks.close())...)
}

// syncMemtables syncs the folder of a database and every memtable's file in it.
// A file that vanishes meanwhile has become a table, which is on disk. The
// folder comes last, so that it holds the tables as well.
func syncMemtables(dir string) error {
	all, err := filepath.Glob(filepath.Join(dir, "*.mem"))
	if err != nil {
		return err
	}
	for _, path := range all {
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return syncDir(dir)
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
