// Package kv is all that the state machine asks of a disk: pairs of databases
// that keep versions, a durable mark, and one word that says which pair counts.
//
// It promises nothing itself; its implementations are store/machine/disk, over
// Badger, and store/storetest/memory, which forgets on command what was not
// synced. What it asks is as little as Badger gives: commits that are not durable
// until Sync, of which a power cut may leave any subset, and versions below a
// bound that may vanish at any time.
//
// It may import nothing of Cloister, and nobody outside store needs it.
package kv

import "errors"

// ErrNotFound is returned by Reader.Get for a key that does not exist.
var ErrNotFound = errors.New("no such key")

// The two databases of a pair.
const (
	State   = 0
	History = 1
)

// Volume holds generations of the data, of which one is current. Its methods are
// called by one goroutine at a time.
type Volume interface {
	// Current is the number of the current generation. The first is made when
	// there is none, and what an interrupted restore left is removed.
	Current() (uint64, error)
	// Open opens a generation, making an empty one when it does not exist.
	Open(generation uint64) (Pair, error)
	// SetCurrent makes a generation current for certain: after a crash at any
	// moment Current is the old one or the new one.
	SetCurrent(generation uint64) error
	// Remove removes a generation that is closed, or was never finished.
	Remove(generation uint64) error
}

// Pair is the two databases of a generation and their durable mark. Commit and
// Load are called by one goroutine, Sync, SetMark and Discard by one at a time,
// the rest by any.
type Pair interface {
	// At reads one of the databases as of a version.
	At(db int, version uint64) Reader
	// Commit writes to both databases at a version; each takes its writes wholly
	// or not at all. A key appears once. The slices and what they point to are not
	// used after it returns.
	Commit(version uint64, writes [2][]Write) error
	// Load fills an empty pair.
	Load() Loader
	// Sync makes durable what was committed before it was called. An error means
	// that nothing may be believed any more.
	Sync() error
	// Mark is the durable mark, zero in an empty pair.
	Mark() Mark
	// SetMark replaces the mark for certain: after a crash it is the old one or
	// the new one.
	SetMark(Mark) error
	// Discard lets go of the versions below a bound, but for the newest one at or
	// below it of each key that exists there.
	Discard(state, history uint64)
	// Verify reads a database through and compares its checksums. It tells pace,
	// which may wait, of what it has read, and ends at pace's error.
	Verify(db int, pace func(bytes int) error) error
	// Bytes is about how much the databases take on disk.
	Bytes() int64
	// Close closes the databases. It implies neither Sync nor SetMark.
	Close() error
}

// Mark is what a pair holds for certain, and how much of its past it may have
// let go.
type Mark struct {
	Index   uint64 // every commit up to here is whole on disk
	State   uint64 // bound of the state database: versions below it may be gone
	History uint64 // likewise
}

// Write is one key's new value, or its end.
type Write struct {
	Key     []byte
	Value   []byte
	Deleted bool
}

// Reader reads one database at one version, by one goroutine at a time.
type Reader interface {
	// Get returns a copy of the value, and the version that wrote it.
	Get(key []byte) (value []byte, version uint64, err error)
	// Version is Get without the value: 0 when the key does not exist.
	Version(key []byte) (uint64, error)
	// Scan returns a cursor that is not yet at any key: Seek first.
	Scan(Range) Cursor
	// Close ends the reader; its cursors are closed before.
	Close()
}

// Range chooses what a cursor passes.
type Range struct {
	Prefix  []byte
	Reverse bool
	// AllVersions passes each version of each key, newest first, and the ends of
	// keys too. A commit that was repeated at its version may be passed twice.
	AllVersions bool
	Since       uint64 // only versions above it; a hint, lower ones may be passed
}

// Cursor walks a range in the order of keys. What it returns is valid until the
// next move.
type Cursor interface {
	// Seek moves to the first key at or after key: at or before, in reverse. nil
	// is the first of the range.
	Seek(key []byte)
	Valid() bool
	Next()
	Key() []byte
	Version() uint64
	Deleted() bool
	Value() ([]byte, error)
	Close()
}

// Loader fills an empty pair with keys at versions of their own, in any order.
// Nothing is durable before Sync.
type Loader interface {
	// Add copies what it needs of the write.
	Add(db int, version uint64, w Write) error
	// Finish ends the loading. The pair may be read after it.
	Finish() error
	// Abort ends the loading where it is. It does nothing after Finish.
	Abort()
}
