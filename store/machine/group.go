package machine

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/cloister-os/cloister/store"
)

// Bounds of a group. A single transaction is always a group, whatever its size.
const (
	MaxGroupTxs   = 1024
	MaxGroupBytes = 256 << 10
	// MaxGroupLogs bounds how many logs one group extends: each costs a frontier
	// of up to a kilobyte, and a Badger transaction is bounded.
	MaxGroupLogs = 64
)

// The versions of a group. The second is written from store.FormatLeader on.
const (
	groupVersion = 1
	groupLed     = 2
)

// Origin is the proposer of transactions: a node in one of its lives.
type Origin struct {
	Node string
	Boot uint64 // grows with each start of the node
	// Lowest is the lowest sequence of this origin that may still be repeated;
	// outcomes below it are forgotten, and what comes below it is refused.
	Lowest uint64
}

// Entry is one transaction of a group.
type Entry struct {
	Origin int // index into Group.Origins
	Seq    uint64
	Ops    []store.Op
	// Raw is the operations as AppendOps wrote them elsewhere; AppendTo takes it
	// instead of Ops when it is not nil. A group that was read has none.
	Raw []byte
}

// Group is what one entry of the log carries.
type Group struct {
	Time    time.Time // leader time before it is bounded by the previous group's
	Leader  string    // the node that led; "" below store.FormatLeader
	Origins []Origin
	Entries []Entry
}

// AppendTo appends the group's encoding.
//
//	group  = [1, time in ns, [origin…], [entry…]]
//	       | [2, time in ns, [origin…], [entry…], leader]
//	origin = [node, boot, lowest]
//	entry  = [origin's index, sequence, [op…]]
//	op     = [1, key, version] check     | [2, key, value] put | [3, key] delete
//	       | [4, log, leaf] append       | [5, key, delta, limit, window in s] add
func (g *Group) AppendTo(b []byte) []byte {
	if g.Leader == "" {
		b = appendUint(appendArray(b, 4), groupVersion)
	} else {
		b = appendUint(appendArray(b, 5), groupLed)
	}
	b = appendInt(b, g.Time.UnixNano())
	b = appendArray(b, len(g.Origins))
	for _, o := range g.Origins {
		b = appendBytes(appendArray(b, 3), o.Node)
		b = appendUint(appendUint(b, o.Boot), o.Lowest)
	}
	b = appendArray(b, len(g.Entries))
	for _, e := range g.Entries {
		b = appendUint(appendArray(b, 3), uint64(e.Origin))
		b = appendUint(b, e.Seq)
		if e.Raw != nil {
			b = append(b, e.Raw...)
		} else {
			b = AppendOps(b, e.Ops)
		}
	}
	if g.Leader != "" {
		b = appendBytes(b, g.Leader)
	}
	return b
}

// AppendOps appends a transaction's operations as a group holds them, so that a
// node can encode what another one puts into a group.
func AppendOps(b []byte, ops []store.Op) []byte {
	b = appendArray(b, len(ops))
	for i := range ops {
		b = appendOp(b, &ops[i])
	}
	return b
}

// CheckOps checks what AppendOps wrote against every bound of a transaction and
// returns its size as store.Tx counts it and the logs that it appends to. What
// it returns points into b.
func CheckOps(b []byte) (size int, logs []string, err error) {
	r := &reader{b: b}
	n := r.array()
	if n > store.MaxTxOps {
		return 0, nil, fmt.Errorf("%w: a transaction of %d operations", store.ErrTooLarge, n)
	}
	for range n {
		op := readOp(r)
		if r.err != nil {
			return 0, nil, r.err
		}
		if err := store.CheckOp(op); err != nil {
			return 0, nil, err
		}
		size += len(op.Key) + len(op.Value) + len(op.Log) + store.OpOverhead
		if op.Kind == store.OpAppend && !slices.Contains(logs, op.Log) {
			logs = append(logs, op.Log)
		}
	}
	if size > store.MaxTxBytes {
		return 0, nil, fmt.Errorf("%w: a transaction of %d bytes", store.ErrTooLarge, size)
	}
	return size, logs, r.end()
}

func appendOp(b []byte, op *store.Op) []byte {
	switch op.Kind {
	case store.OpCheck:
		b = appendBytes(appendUint(appendArray(b, 3), uint64(op.Kind)), op.Key)
		return appendUint(b, uint64(op.Version))
	case store.OpPut:
		b = appendBytes(appendUint(appendArray(b, 3), uint64(op.Kind)), op.Key)
		return appendBytes(b, op.Value)
	case store.OpDelete:
		return appendBytes(appendUint(appendArray(b, 2), uint64(op.Kind)), op.Key)
	case store.OpAppend:
		b = appendBytes(appendUint(appendArray(b, 3), uint64(op.Kind)), op.Log)
		return appendBytes(b, op.Value)
	default: // store.OpAdd; what is unknown is refused on reading
		b = appendBytes(appendUint(appendArray(b, 5), uint64(op.Kind)), op.Key)
		b = appendInt(appendInt(b, op.Delta), op.Limit)
		return appendUint(b, uint64(op.Window/time.Second))
	}
}

// DecodeGroup reads a group. Its keys and values point into b, which must never
// change. An operation that this version does not know is an error: the node
// must stop, since skipping it would part it from its peers.
func DecodeGroup(b []byte) (*Group, error) {
	r := &reader{b: b}
	n := r.array()
	v := r.uint()
	if r.err == nil && v > groupLed {
		return nil, fmt.Errorf("%w: the log holds a group of version %d and this program knows versions up to %d; install the newer program", store.ErrFormat, v, groupLed)
	}
	if r.err == nil && (v < groupVersion || n != int(3+v)) {
		r.fail("a group of version %d with %d parts", v, n)
	}
	g := &Group{Time: time.Unix(0, r.int()).UTC()}
	g.Origins = make([]Origin, r.array())
	for i := range g.Origins {
		r.fixed(3)
		g.Origins[i] = Origin{Node: alias(r.bytes()), Boot: r.uint(), Lowest: r.uint()}
	}
	g.Entries = make([]Entry, r.array())
	ops := make([]store.Op, 0, len(g.Entries))
	for i := range g.Entries {
		r.fixed(3)
		e := &g.Entries[i]
		e.Origin, e.Seq = int(r.uint()), r.uint()
		if r.err == nil && e.Origin >= len(g.Origins) {
			r.fail("origin %d of %d", e.Origin, len(g.Origins))
		}
		n, first := r.array(), len(ops)
		for range n {
			ops = append(ops, readOp(r))
		}
		e.Ops = ops[first:len(ops):len(ops)]
		if r.err != nil {
			return nil, r.err
		}
	}
	if v == groupLed {
		if g.Leader = string(r.bytes()); r.err == nil && g.Leader == "" {
			r.fail("a group without the node that led")
		}
	}
	return g, r.end()
}

func readOp(r *reader) store.Op {
	n := r.array()
	op := store.Op{Kind: store.OpKind(r.uint())}
	want := 3
	switch op.Kind {
	case store.OpCheck:
		op.Key, op.Version = store.Key(alias(r.bytes())), store.Version(r.uint())
	case store.OpPut:
		op.Key, op.Value = store.Key(alias(r.bytes())), r.bytes()
	case store.OpDelete:
		want = 2
		op.Key = store.Key(alias(r.bytes()))
	case store.OpAppend:
		op.Log, op.Value = alias(r.bytes()), r.bytes()
	case store.OpAdd:
		want = 5
		op.Key, op.Delta, op.Limit = store.Key(alias(r.bytes())), r.int(), r.int()
		seconds := r.uint()
		if seconds > math.MaxInt64/uint64(time.Second) {
			r.fail("a window of %d seconds", seconds)
		}
		op.Window = time.Duration(seconds) * time.Second
	default:
		r.fail("unknown operation %d", op.Kind)
	}
	if r.err == nil && n != want {
		r.fail("operation %d of %d parts", op.Kind, n)
	}
	return op
}
