package machine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/cloister-os/cloister/store"
)

// mark is what both databases hold for certain after a power cut, and how much
// of their past they may have let go.
type mark struct {
	index   uint64 // every group up to here is whole on disk
	state   uint64 // discardTs of the databases: versions below them may be gone
	history uint64
	tables  [2][]uint64 // level-0 tables whose files are on disk by name, state's and history's
}

// marks is the file with the durable mark: two slots written in turn, each with
// a count and a checksum, so that a torn write costs the newer mark only.
type marks struct {
	file  *os.File
	last  mark
	count uint64
}

const (
	markMagic = "cloistermark 1\n\x00"
	slotBytes = 4096 // a slot is never torn together with the other
	// maxTables bounds the tables of level 0 that a mark vouches for; Badger
	// stalls its writers at fewer.
	maxTables = 32
	slotUsed  = len(markMagic) + (4+2*(1+maxTables))*8 + 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func openMarks(path string) (*marks, error) {
	if err := MakeDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the durable mark: %w", err)
	}
	m := &marks{file: f}
	buf := make([]byte, 2*slotBytes)
	n, err := f.ReadAt(buf, 0)
	if n == 0 {
		return m, nil
	}
	if n < len(buf) {
		return nil, errors.Join(fmt.Errorf("the durable mark %s is cut short: %w", path, err), f.Close())
	}
	found := false
	for _, slot := range [][]byte{buf[:slotUsed], buf[slotBytes : slotBytes+slotUsed]} {
		if v, count, ok := decodeMark(slot); ok && count > m.count {
			m.last, m.count, found = v, count, true
		}
	}
	if !found && bytes.ContainsFunc(buf, func(r rune) bool { return r != 0 }) {
		return nil, errors.Join(fmt.Errorf("the durable mark %s is damaged: restore a backup", path), f.Close())
	}
	return m, nil
}

func decodeMark(b []byte) (v mark, count uint64, ok bool) {
	body, sum := b[:len(b)-4], binary.BigEndian.Uint32(b[len(b)-4:])
	if !bytes.HasPrefix(b, []byte(markMagic)) || crc32.Checksum(body, castagnoli) != sum {
		return mark{}, 0, false
	}
	n := func(i int) uint64 { return binary.BigEndian.Uint64(b[len(markMagic)+8*i:]) }
	v = mark{index: n(1), state: n(2), history: n(3)}
	for db := range v.tables {
		first := 4 + db*(1+maxTables)
		for i := range min(int(n(first)), maxTables) {
			v.tables[db] = append(v.tables[db], n(first+1+i))
		}
	}
	return v, n(0), true
}

// write makes the mark durable.
func (m *marks) write(v mark) error {
	b := append(make([]byte, 0, slotBytes), markMagic...)
	for _, n := range []uint64{m.count + 1, v.index, v.state, v.history} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	for _, t := range v.tables {
		t = t[:min(len(t), maxTables)]
		b = binary.BigEndian.AppendUint64(b, uint64(len(t)))
		for _, id := range t {
			b = binary.BigEndian.AppendUint64(b, id)
		}
		b = append(b, make([]byte, 8*(maxTables-len(t)))...)
	}
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	b = b[:slotBytes]
	first := m.count == 0
	at := int64(m.count+1) % 2 * slotBytes
	if first { // the file is created whole
		if err := m.file.Truncate(2 * slotBytes); err != nil {
			return fmt.Errorf("write the durable mark: %w", err)
		}
	}
	if _, err := m.file.WriteAt(b, at); err != nil {
		return fmt.Errorf("write the durable mark: %w", err)
	}
	if err := m.file.Sync(); err != nil {
		return fmt.Errorf("sync the durable mark: %w", err)
	}
	if first {
		if err := syncDir(filepath.Dir(m.file.Name())); err != nil {
			return err
		}
	}
	m.last, m.count = v, m.count+1
	return nil
}

func (m *marks) close() error { return m.file.Close() }

// Unsynced is how many bytes of groups were applied since the last Sync began.
func (m *Machine) Unsynced() int64 { return m.unsynced.Load() }

// Bytes is how many bytes of groups were applied since Open.
func (m *Machine) Bytes() int64 { return m.bytes.Load() }

// Mark is the durable mark. The log must be kept above it.
func (m *Machine) Mark() store.Version {
	m.syncing.Lock()
	defer m.syncing.Unlock()
	return store.Version(m.cur.marks.last.index)
}

// Sync makes all that is applied durable and moves the durable mark there.
// badger's own Sync covers the active memtable only and a rotated one is not
// synced at all, so every memtable's file is synced here, then the folder;
// tables are synced when Badger creates them. Then, and only then, may versions
// below the new mark be discarded. An error is fatal: after a failed sync the
// kernel may have dropped the pages, so trying again proves nothing.
func (m *Machine) Sync() error {
	m.syncing.Lock()
	defer m.syncing.Unlock()
	m.mu.Lock()
	g, head := m.cur, m.head
	m.mu.Unlock()
	old := g.marks.last
	if uint64(head.version) == old.index {
		return nil
	}
	m.unsynced.Store(0)
	next := old
	next.index = uint64(head.version)
	var err error
	if next.tables, err = g.syncFiles(); err != nil {
		return err
	}
	m.mu.Lock()
	next = g.retain.next(next, head)
	m.mu.Unlock()
	if err := g.marks.write(next); err != nil {
		return err
	}
	g.state.SetDiscardTs(next.state)
	g.history.SetDiscardTs(next.history)
	return nil
}

// syncFiles makes both databases durable as they are now and returns their tables
// of level 0, which are then on disk with their names.
func (g *generation) syncFiles() (tables [2][]uint64, err error) {
	for i, db := range g.databases() {
		for _, t := range db.Tables() {
			if t.Level == 0 {
				tables[i] = append(tables[i], t.ID)
			}
		}
		if err := syncMemtables(db.Opts().Dir); err != nil {
			return tables, fmt.Errorf("sync the database: %w", err)
		}
	}
	return tables, nil
}

// vouch takes the tables that closing and opening made into the mark.
func (g *generation) vouch() error {
	next := g.marks.last
	var err error
	if next.tables, err = g.syncFiles(); err != nil {
		return err
	}
	if slices.Equal(next.tables[0], g.marks.last.tables[0]) && slices.Equal(next.tables[1], g.marks.last.tables[1]) {
		return nil
	}
	return g.marks.write(next)
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

// MakeDir creates a folder and those above it that are missing, for certain: the
// name of each is on disk when it returns.
func MakeDir(dir string) error {
	dir = filepath.Clean(dir)
	if fi, err := os.Stat(dir); err == nil {
		if fi.IsDir() {
			return nil
		}
		return fmt.Errorf("create the folder %s: a file is in its place", dir)
	}
	parent := filepath.Dir(dir)
	if err := MakeDir(parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("create the folder: %w", err)
	}
	return syncDir(parent)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync the folder: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync the folder %s: %w", dir, err)
	}
	return nil
}
