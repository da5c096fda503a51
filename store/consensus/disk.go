package consensus

import (
	"errors"
	"io"
	"log/slog"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"

	"github.com/cloister-os/cloister/store/machine"
	"github.com/cloister-os/cloister/store/sealed"
)

// Disk is where a node keeps its log and raft's snapshots. Each is opened once.
type Disk interface {
	OpenLog() (Log, error)
	OpenSnapshots() (raft.SnapshotStore, error)
}

// Log is raft's log and the few values that raft keeps beside it. What was stored
// is durable when the call returns.
type Log interface {
	raft.LogStore
	raft.MonotonicLogStore
	raft.StableStore
	io.Closer
}

// files is the disk of every node but a simulated one.
type files struct {
	dir  string
	ring sealed.Ring
	log  *slog.Logger
}

// OpenLog implements Disk.
func (f files) OpenLog() (Log, error) {
	if err := machine.MakeDir(f.dir); err != nil {
		return nil, err
	}
	meta := &metadb.BoltMetaDB{}
	w, err := wal.Open(f.dir, wal.WithMetaStore(meta), wal.WithLogger(raftLogger(f.log)), wal.WithSegmentSize(segmentBytes))
	if err != nil {
		return nil, errors.Join(err, meta.Close())
	}
	return &walLog{w, meta}, nil
}

// OpenSnapshots implements Disk.
func (f files) OpenSnapshots() (raft.SnapshotStore, error) {
	s, err := openSnapshots(f.dir, f.ring, f.log)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// walLog is raft-wal with its own meta store, whose lock raft-wal leaves behind
// when it is closed.
type walLog struct {
	*wal.WAL
	meta *metadb.BoltMetaDB
}

// Close closes the log and its meta store.
func (l *walLog) Close() error { return errors.Join(l.WAL.Close(), l.meta.Close()) }

// lock is a mutex that may be held while waiting for other nodes. It is a
// channel, so that the virtual time of a test goes on while others wait for it.
type lock chan struct{}

func newLock() lock { return make(lock, 1) }

// Lock waits for the lock.
func (l lock) Lock() { l <- struct{}{} }

// Unlock gives it back.
func (l lock) Unlock() { <-l }
