// Package store is the contract of Cloister's replicated state.
//
// It promises: a transaction is applied wholly or not at all, exactly once
// whatever the retries, durable on a quorum when Apply returns; all nodes see
// the same versions; history can be read at any version inside the retention
// window; whatever is derived follows Watch and can be rebuilt.
//
// Business logic stays above: the state machine knows only the five operations
// of Tx. Store is implemented by store/consensus (raft over store/machine) and,
// as the oracle for tests, by storetest.Model; storetest.Run is the suite that
// both pass.
//
// It may import nothing of Cloister.
package store

import (
	"context"
	"iter"
	"time"
)

// Version numbers a group of transactions: it is the raft index of the group's
// entry, so it is the same on every node. All transactions of one group that
// succeed share a version. Versions grow but not by one.
type Version uint64

// Result is the outcome of a transaction that succeeded.
type Result struct {
	Version Version
	Time    time.Time // leader time of the group, UTC
	Seqs    []uint64  // one for each Append, in order
	Sums    []int64   // one for each Add, in order
}

// Class says how urgent a transaction is. Bulk work takes at most a quarter of
// a group while interactive work waits.
type Class uint8

// The classes.
const (
	Interactive Class = iota
	Bulk
)

// Future is a transaction on its way.
type Future interface {
	// Wait returns the outcome, or the context's error; the transaction goes on
	// when the context ends first. It may be called again.
	Wait(ctx context.Context) (Result, error)
}

// ReadAt chooses what a View sees. Positive values are versions: see At.
type ReadAt int64

// Fresh is linearizable: it sees every transaction acknowledged anywhere before
// the View began. Local sees what this node has applied.
const (
	Fresh ReadAt = 0
	Local ReadAt = -1
)

// At reads the past (history keys only; a state key read at a version that is no
// longer kept is ErrCompacted). A version not yet applied here is waited for.
func At(v Version) ReadAt { return ReadAt(v) }

// Item is a key's value and the version that wrote it.
type Item struct {
	Key     Key
	Value   []byte // owned by the caller
	Version Version
}

// Snapshot is one version of everything. It is valid only inside the View that
// gave it and may be used by one goroutine at a time.
type Snapshot interface {
	Version() Version
	Time() time.Time // leader time of the newest group at or below Version
	// Get returns ErrNotFound when the key does not exist at this version.
	Get(k Key) (Item, error)
	// Scan yields the keys with the prefix that are greater than after (""
	// = from the first), in order.
	Scan(prefix, after Key) iter.Seq2[Item, error]
	// ScanBack yields the keys with the prefix that are less than before ("" =
	// from the last), in descending order.
	ScanBack(prefix, before Key) iter.Seq2[Item, error]
	// Sum reads a counter: the current window's sum for a counter that was added
	// to with that window.
	Sum(counter Key, window time.Duration) (int64, error)
	// Log returns a log as it stood at this version; an unused name is empty.
	Log(name string) Log
}

// Leaf is one record of a log.
type Leaf struct {
	Seq     uint64
	Version Version
	Time    time.Time // leader time of its group
	Data    []byte
}

// Log is an append-only Merkle log (RFC 6962 hashing as in
// golang.org/x/mod/sumdb/tlog) as it stood at a snapshot's version.
type Log interface {
	Size() uint64
	// Root is the tree's hash; the empty tree has the SHA-256 of nothing.
	Root() ([32]byte, error)
	// Leaf returns ErrNotFound for a sequence that is not below Size.
	Leaf(seq uint64) (Leaf, error)
	// Leaves yields the leaves from a sequence on.
	Leaves(from uint64) iter.Seq2[Leaf, error]
	// Hashes returns stored hashes by tlog.StoredHashIndex.
	Hashes(indexes []int64) ([][32]byte, error)
}

// Change is what one version did to the keys with a watched prefix, sorted by
// key. A key that was written more than once appears once, as it ended.
type Change struct {
	Version Version
	Time    time.Time
	Writes  []Write
}

// Write is one key's new value, or its end.
type Write struct {
	Key     Key
	Value   []byte // nil when Deleted; must not be changed
	Deleted bool
}

// Store is the replicated state. All methods are safe for concurrent use.
type Store interface {
	// Apply returns when the transaction is durable on a quorum and visible to a
	// Local view of this node, or with one of the definite errors, or with
	// ErrUnknown.
	Apply(ctx context.Context, tx *Tx) (Result, error)
	// Submit is Apply without waiting. Its queue is bounded in bytes; when it is
	// full the future fails with ErrBusy at once.
	Submit(ctx context.Context, tx *Tx, class Class) Future
	// Update runs f on a Local snapshot, turns each Get into a Check, and
	// applies; on a conflict it runs f again, at most 100 times. An error from f
	// ends it with that error.
	Update(ctx context.Context, f func(*Update) error) (Result, error)
	// View runs f on a snapshot.
	View(ctx context.Context, at ReadAt, f func(Snapshot) error) error
	// Watch yields, for each version greater than from that touched a key with
	// the prefix, one Change, in order, without gap or repeat, for ever or until
	// the context ends (its error is yielded last). When from is no longer kept
	// it yields ErrCompacted: scan at a version V, then watch from V.
	Watch(ctx context.Context, prefix Key, from Version) iter.Seq2[Change, error]
	// Applied is the newest version visible on this node.
	Applied() Version
}

// Update is a read-modify-write transaction in the making.
type Update struct {
	Snapshot Snapshot // reads through it are not checked; use Get for those that matter
	Tx       *Tx
}

// Get reads a key and makes the transaction fail if it changes before commit.
// A missing key is ErrNotFound, and must then still be missing at commit.
func (u *Update) Get(k Key) (Item, error) {
	item, err := u.Snapshot.Get(k)
	if err == nil || err == ErrNotFound {
		u.Tx.Check(k, item.Version)
	}
	return item, err
}

// Put sets a key.
func (u *Update) Put(k Key, value []byte) { u.Tx.Put(k, value) }

// Delete removes a key.
func (u *Update) Delete(k Key) { u.Tx.Delete(k) }

// RetentionFloor is the key that says how far history goes back: its value is a
// version as made by Number. Once it is applied, reading below it is
// ErrCompacted everywhere. It never moves back.
const RetentionFloor Key = "H/store/retention-floor"
