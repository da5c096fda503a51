package store

import (
	"fmt"
	"time"
)

// Bounds of a transaction. They are checked when it is built and again by the
// leader before it enters the log.
const (
	MaxTxBytes    = 256 << 10 // keys, values, leaves and per-operation overhead together
	MaxTxOps      = 1000
	MaxValueBytes = 64 << 10
	MaxKeyBytes   = 2 << 10
	OpOverhead    = 16 // bytes an operation is charged beside its key and value
)

// OpKind is the kind of an operation. The set is closed: the state machine
// stops at a kind that it does not know, it never skips.
type OpKind uint8

// The operations.
const (
	OpCheck  OpKind = 1
	OpPut    OpKind = 2
	OpDelete OpKind = 3
	OpAppend OpKind = 4
	OpAdd    OpKind = 5
)

// Op is one operation of a transaction. Which fields count depends on Kind.
// Once in a Tx its bytes must not change.
type Op struct {
	Kind    OpKind
	Key     Key           // all but Append
	Value   []byte        // Put: the value; Append: the leaf
	Version Version       // Check: the version that must be current, 0 = must not exist
	Log     string        // Append
	Delta   int64         // Add
	Limit   int64         // Add: the sum may not pass it; NoLimit = none
	Window  time.Duration // Add: the sum is of the current window of this length; 0 = for ever
}

// NoLimit is the Limit of an Add that may grow without one.
const NoLimit int64 = 1<<63 - 1

// Tx is a transaction: preconditions and changes that happen together or not at
// all. It is built by one goroutine; after Apply or Submit it must not change.
// The first error while building is kept and returned by Err and by Apply.
type Tx struct {
	ops   []Op
	bytes int
	err   error
	stamp uint64
	after []func(Result, error)
}

// NewTx returns an empty transaction.
func NewTx() *Tx { return &Tx{} }

// Check makes the transaction conditional: the key's current version must be v.
// Version 0 means that the key must not exist.
func (t *Tx) Check(k Key, v Version) { t.add(Op{Kind: OpCheck, Key: k, Version: v}) }

// Put sets a key to a value of at most MaxValueBytes.
func (t *Tx) Put(k Key, value []byte) { t.add(Op{Kind: OpPut, Key: k, Value: value}) }

// Delete removes a key; removing what is not there is no error.
func (t *Tx) Delete(k Key) { t.add(Op{Kind: OpDelete, Key: k}) }

// Append adds a leaf to a log. The state machine assigns the sequence, which
// Result.Seqs returns in the order of the Append calls, and extends the log's
// Merkle tree.
func (t *Tx) Append(log string, leaf []byte) { t.add(Op{Kind: OpAppend, Log: log, Value: leaf}) }

// Add changes a counter by delta and fails the whole transaction with ErrLimit
// when the sum would pass limit. With a window the sum is of the current window
// only: the state machine picks the bucket from the leader's time. Result.Sums
// returns the sums in the order of the Add calls. A counter's key is not
// readable by Get; see Snapshot.Sum.
func (t *Tx) Add(counter Key, delta, limit int64, window time.Duration) {
	t.add(Op{Kind: OpAdd, Key: counter, Delta: delta, Limit: limit, Window: window})
}

// After registers f to be called once with the transaction's outcome, before
// Apply or the Future returns it. It is local to this process and never enters
// the log. f must be quick and must not call the store.
func (t *Tx) After(f func(Result, error)) { t.after = append(t.after, f) }

// Done calls the After functions. Only implementations of Store call it, once.
func (t *Tx) Done(r Result, err error) {
	after := t.after
	t.after = nil
	for _, f := range after {
		f(r, err)
	}
}

// Stamp is the sequence under which a transaction of unknown outcome was sent, 0
// when there is none. It is what lets the same Tx be sent again without being
// applied twice. Only implementations of Store read and set it.
func (t *Tx) Stamp() uint64 { return t.stamp }

// SetStamp sets the stamp.
func (t *Tx) SetStamp(seq uint64) { t.stamp = seq }

// Ops returns the operations in the order they were added. The slice and what
// it points to must not be changed.
func (t *Tx) Ops() []Op { return t.ops }

// Len is the number of operations.
func (t *Tx) Len() int { return len(t.ops) }

// Bytes is what the transaction counts against MaxTxBytes.
func (t *Tx) Bytes() int { return t.bytes }

// Fits reports whether n more operations of together size bytes of keys and
// values would still be within the bounds. Callers that batch use it to decide
// when to start the next transaction.
func (t *Tx) Fits(n, size int) bool {
	return len(t.ops)+n <= MaxTxOps && t.bytes+size+n*OpOverhead <= MaxTxBytes
}

// Err returns the first error made while building: always ErrTooLarge or
// ErrInvalid.
func (t *Tx) Err() error { return t.err }

func (t *Tx) add(op Op) {
	if t.err != nil {
		return
	}
	if t.err = op.valid(); t.err != nil {
		return
	}
	size := len(op.Key) + len(op.Value) + len(op.Log)
	if !t.Fits(1, size) {
		t.err = fmt.Errorf("%w: a transaction holds at most %d operations and %d bytes", ErrTooLarge, MaxTxOps, MaxTxBytes)
		return
	}
	t.ops = append(t.ops, op)
	t.bytes += size + OpOverhead
}

func (op Op) valid() error {
	if len(op.Value) > MaxValueBytes {
		return fmt.Errorf("%w: a value holds at most %d bytes, this one has %d", ErrTooLarge, MaxValueBytes, len(op.Value))
	}
	if op.Kind == OpAppend {
		if op.Log == "" || len(op.Log) > MaxKeyBytes {
			return fmt.Errorf("%w: a log's name has 1 to %d bytes", ErrInvalid, MaxKeyBytes)
		}
		return nil
	}
	if _, ok := op.Key.Database(); !ok {
		return fmt.Errorf("%w: key %q is in neither database", ErrInvalid, op.Key)
	}
	if len(op.Key) > MaxKeyBytes {
		return fmt.Errorf("%w: a key holds at most %d bytes", ErrTooLarge, MaxKeyBytes)
	}
	if op.Kind == OpAdd && (op.Window < 0 || op.Window%time.Second != 0) {
		return fmt.Errorf("%w: a window is a whole number of seconds", ErrInvalid)
	}
	return nil
}

// CheckOp validates a single operation; the leader runs it on what arrives.
func CheckOp(op Op) error { return op.valid() }
