package consensus

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/cloister-os/cloister/store/sealed"
)

// logStore is a log with what it needs around it: encryption, since raft-wal
// cannot be opened again with a codec of its own, and the end of the node on the
// first error, since one failed append wedges it.
type logStore struct {
	Log
	box  *sealed.Box
	fail func(error)

	mu      sync.Mutex // guards all below: what StoreLogs uses again and again
	buf     []byte
	entries []raft.Log
	sealed  []*raft.Log
}

var (
	_ raft.LogStore          = (*logStore)(nil)
	_ raft.StableStore       = (*logStore)(nil)
	_ raft.MonotonicLogStore = (*logStore)(nil)
)

const (
	segmentBytes = 32 << 20
	keepBytes    = 4 << 20 // a larger buffer is not kept
)

func openLogStore(disk Disk, ring sealed.Ring, fail func(error)) (*logStore, error) {
	l, err := disk.OpenLog()
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	return &logStore{Log: l, box: sealed.NewBox(ring, "log"), fail: fail}, nil
}

// entryAAD binds an entry's data to its place in the log.
type entryAAD [17]byte

func (a *entryAAD) of(e *raft.Log) []byte {
	binary.BigEndian.PutUint64(a[:], e.Index)
	binary.BigEndian.PutUint64(a[8:], e.Term)
	a[16] = byte(e.Type)
	return a[:]
}

// StoreLog implements raft.LogStore.
func (l *logStore) StoreLog(e *raft.Log) error { return l.StoreLogs([]*raft.Log{e}) }

// StoreLogs implements raft.LogStore. raft keeps the entries to send them to
// others, so they stay as they are; raft-wal keeps nothing, so the buffers are
// used again.
func (l *logStore) StoreLogs(e []*raft.Log) error {
	if l.box.Plain() {
		return l.check("write the log", l.Log.StoreLogs(e))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	out, err := l.seal(e)
	if err == nil {
		err = l.Log.StoreLogs(out)
	}
	return l.check("write the log", err)
}

// seal returns copies of the entries with their data sealed. l.mu is held.
func (l *logStore) seal(e []*raft.Log) ([]*raft.Log, error) {
	size := 0
	for _, x := range e {
		size += len(x.Data) + sealed.RecordOverhead
	}
	if cap(l.buf) < size || cap(l.buf) > keepBytes {
		l.buf = make([]byte, 0, max(size, 64<<10))
	}
	buf := l.buf[:0]
	l.entries, l.sealed = l.entries[:0], l.sealed[:0]
	for _, x := range e {
		if len(x.Extensions) > 0 {
			return nil, fmt.Errorf("entry %d has extensions, which nothing here writes", x.Index)
		}
		var aad entryAAD
		at := len(buf)
		var err error
		if buf, err = l.box.Seal(buf, aad.of(x), x.Data); err != nil {
			return nil, err
		}
		c := *x
		c.Data = buf[at:len(buf):len(buf)]
		l.entries = append(l.entries, c)
	}
	for i := range l.entries {
		l.sealed = append(l.sealed, &l.entries[i])
	}
	return l.sealed, nil
}

// GetLog implements raft.LogStore.
func (l *logStore) GetLog(index uint64, e *raft.Log) error {
	if err := l.Log.GetLog(index, e); err != nil || l.box.Plain() {
		return err
	}
	var aad entryAAD
	if e.Index != index {
		return fmt.Errorf("entry %d of the log: %w", index, sealed.ErrDamaged)
	}
	data, err := l.box.OpenInPlace(aad.of(e), e.Data)
	if err != nil {
		return fmt.Errorf("entry %d of the log: %w", index, err)
	}
	e.Data = data
	return nil
}

// DeleteRange implements raft.LogStore.
func (l *logStore) DeleteRange(from, to uint64) error {
	return l.check("cut the log", l.Log.DeleteRange(from, to))
}

// raft's one secret value: who was voted for. Its numbers (terms, counts of starts)
// are none.
var votedFor = []byte("LastVoteCand")

// Set implements raft.StableStore.
func (l *logStore) Set(k, v []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.check("write the log", l.set(k, v))
}

// set seals a value; rekey must know its key. l.mu is held.
func (l *logStore) set(k, v []byte) error {
	if !bytes.Equal(k, votedFor) {
		return fmt.Errorf("nothing here writes %q", k)
	}
	rec, err := l.box.Seal(nil, stableAAD(k), v)
	if err != nil {
		return err
	}
	return l.Log.Set(k, rec)
}

// Get implements raft.StableStore.
func (l *logStore) Get(k []byte) ([]byte, error) {
	rec, err := l.Log.Get(k)
	if err != nil || len(rec) == 0 || l.box.Plain() {
		return rec, err
	}
	v, err := l.box.Open(nil, stableAAD(k), rec)
	if err != nil {
		return nil, fmt.Errorf("the log's %q: %w", k, err)
	}
	return v, nil
}

func stableAAD(k []byte) []byte { return append([]byte("stable/"), k...) }

// SetUint64 implements raft.StableStore.
func (l *logStore) SetUint64(k []byte, v uint64) error {
	return l.check("write the log", l.Log.SetUint64(k, v))
}

func (l *logStore) check(op string, err error) error {
	if err != nil {
		err = fmt.Errorf("%s: %w", op, err)
		l.fail(err)
	}
	return err
}

var bootKey = []byte("cloister/boot")

// nextBoot counts the node's lives; known is the highest that the databases know.
func (l *logStore) nextBoot(known uint64) (uint64, error) {
	n, err := l.GetUint64(bootKey)
	if err != nil {
		return 0, fmt.Errorf("read the count of starts: %w", err)
	}
	n = max(n, known) + 1
	return n, l.setBoot(n)
}

func (l *logStore) setBoot(n uint64) error { return l.SetUint64(bootKey, n) }
