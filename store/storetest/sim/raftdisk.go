package sim

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/cloister-os/cloister/store/consensus"
	"github.com/cloister-os/cloister/store/storetest/memory"
)

// raftDisk is raft's log and snapshots on a memory.Disk. What was stored is
// durable, as raft-wal's is: a crash can cost the end of an append that had not
// returned, and nothing else.
type raftDisk struct {
	disk *memory.Disk

	mu        sync.Mutex // guards all below
	first     uint64     // 0 = empty
	entries   []raft.Log
	values    map[string][]byte
	numbers   map[string]uint64
	snapshots []*snapshot // newest first
}

type snapshot struct {
	meta raft.SnapshotMeta
	data []byte
}

func newRaftDisk(d *memory.Disk) *raftDisk {
	return &raftDisk{disk: d, values: map[string][]byte{}, numbers: map[string]uint64{}}
}

// life is the disk as one life of a node sees it.
func (d *raftDisk) life() consensus.Disk { return &raftLife{d, d.disk.Life()} }

type raftLife struct {
	*raftDisk
	life int
}

// step changes the disk.
func (l *raftLife) step(change func()) error {
	return l.disk.Step(l.life, memory.OpLog, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		change()
	})
}

// OpenLog implements consensus.Disk.
func (l *raftLife) OpenLog() (consensus.Log, error) { return l, nil }

// OpenSnapshots implements consensus.Disk.
func (l *raftLife) OpenSnapshots() (raft.SnapshotStore, error) { return (*snapshotStore)(l), nil }

// Close implements io.Closer.
func (*raftLife) Close() error { return nil }

// IsMonotonic implements raft.MonotonicLogStore, as raft-wal does.
func (*raftLife) IsMonotonic() bool { return true }

// FirstIndex implements raft.LogStore.
func (l *raftLife) FirstIndex() (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first, nil
}

// LastIndex implements raft.LogStore.
func (l *raftLife) LastIndex() (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last(), nil
}

func (d *raftDisk) last() uint64 {
	if len(d.entries) == 0 {
		return 0
	}
	return d.first + uint64(len(d.entries)) - 1
}

// GetLog implements raft.LogStore.
func (l *raftLife) GetLog(index uint64, e *raft.Log) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.entries) == 0 || index < l.first || index > l.last() {
		return raft.ErrLogNotFound
	}
	*e = l.entries[index-l.first]
	e.Data = slices.Clone(e.Data)
	return nil
}

// StoreLog implements raft.LogStore.
func (l *raftLife) StoreLog(e *raft.Log) error { return l.StoreLogs([]*raft.Log{e}) }

// StoreLogs implements raft.LogStore. A crash can leave its first entries.
func (l *raftLife) StoreLogs(all []*raft.Log) error {
	for _, e := range all {
		gap := false
		err := l.step(func() {
			if gap = len(l.entries) > 0 && e.Index != l.last()+1; gap {
				return
			}
			if len(l.entries) == 0 {
				l.first = e.Index
			}
			c := *e
			c.Data, c.Extensions = slices.Clone(e.Data), slices.Clone(e.Extensions)
			l.entries = append(l.entries, c)
		})
		if gap {
			err = fmt.Errorf("entry %d does not follow %d", e.Index, l.last())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// DeleteRange implements raft.LogStore, which takes away a beginning or an end.
func (l *raftLife) DeleteRange(from, to uint64) error {
	var wrong error
	err := l.step(func() {
		last := l.last()
		switch {
		case len(l.entries) == 0 || to < l.first || from > last:
		case from <= l.first && to >= last:
			l.first, l.entries = 0, nil
		case from <= l.first:
			l.entries = slices.Clone(l.entries[to+1-l.first:])
			l.first = to + 1
		case to >= last:
			l.entries = l.entries[:from-l.first]
		default:
			wrong = fmt.Errorf("entries %d to %d are in the middle", from, to)
		}
	})
	return errors.Join(err, wrong)
}

// Set implements raft.StableStore.
func (l *raftLife) Set(k, v []byte) error {
	return l.step(func() { l.values[string(k)] = slices.Clone(v) })
}

// Get implements raft.StableStore.
func (l *raftLife) Get(k []byte) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if v, ok := l.values[string(k)]; ok {
		return slices.Clone(v), nil
	}
	return nil, nil
}

// SetUint64 implements raft.StableStore.
func (l *raftLife) SetUint64(k []byte, n uint64) error {
	return l.step(func() { l.numbers[string(k)] = n })
}

// GetUint64 implements raft.StableStore.
func (l *raftLife) GetUint64(k []byte) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.numbers[string(k)], nil
}

// snapshotStore implements raft.SnapshotStore: a snapshot is there when its sink
// is closed, and two are kept.
type snapshotStore raftLife

// Create implements raft.SnapshotStore.
func (s *snapshotStore) Create(v raft.SnapshotVersion, index, term uint64, c raft.Configuration, ci uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	l := (*raftLife)(s)
	l.mu.Lock()
	defer l.mu.Unlock()
	id := fmt.Sprintf("%d-%d-%d-%d", term, index, l.life, len(l.snapshots))
	return &sink{l: l, snapshot: &snapshot{meta: raft.SnapshotMeta{
		Version: v, ID: id, Index: index, Term: term, Configuration: c, ConfigurationIndex: ci,
	}}}, nil
}

// List implements raft.SnapshotStore.
func (s *snapshotStore) List() ([]*raft.SnapshotMeta, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*raft.SnapshotMeta
	for _, x := range s.snapshots {
		meta := x.meta
		all = append(all, &meta)
	}
	return all, nil
}

// Open implements raft.SnapshotStore.
func (s *snapshotStore) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.snapshots {
		if x.meta.ID == id {
			meta := x.meta
			return &meta, io.NopCloser(bytes.NewReader(x.data)), nil
		}
	}
	return nil, nil, fmt.Errorf("no snapshot %s", id)
}

// sink implements raft.SnapshotSink.
type sink struct {
	l        *raftLife
	snapshot *snapshot
	ended    bool
}

// ID implements raft.SnapshotSink.
func (s *sink) ID() string { return s.snapshot.meta.ID }

// Write implements io.Writer.
func (s *sink) Write(b []byte) (int, error) {
	s.snapshot.data = append(s.snapshot.data, b...)
	return len(b), nil
}

// Cancel implements raft.SnapshotSink.
func (s *sink) Cancel() error {
	s.ended = true
	return nil
}

// Close implements io.Closer.
func (s *sink) Close() error {
	if s.ended {
		return nil
	}
	s.ended = true
	s.snapshot.meta.Size = int64(len(s.snapshot.data))
	return s.l.step(func() {
		all := append([]*snapshot{s.snapshot}, s.l.snapshots...)
		slices.SortStableFunc(all, func(a, b *snapshot) int {
			if a.meta.Term != b.meta.Term {
				return int(b.meta.Term) - int(a.meta.Term)
			}
			return int(b.meta.Index) - int(a.meta.Index)
		})
		s.l.snapshots = all[:min(2, len(all))]
	})
}
