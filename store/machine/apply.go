package machine

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/machine/kv"
)

// maxTails bounds the log ends held in memory between groups.
const maxTails = 256

// Applied is what Apply made of a group.
type Applied struct {
	Version  store.Version
	Time     time.Time
	Group    *Group    // as it was read
	Outcomes []Outcome // one for each entry of the group
}

// Apply evaluates the group in the log's entry with this index and commits it to
// both databases at version = index. It is called by one goroutine, with growing
// indexes. Each transaction succeeds or fails alone, evaluated in order against
// the version before plus what those before it in the group did. An index at or
// below the durable mark has been applied for good and is skipped (nil). Any
// error is fatal: the machine then refuses to apply anything more, since it can
// no longer be equal to its peers.
//
// The result depends on the databases, the index and the data alone: no clock,
// no randomness, no map order.
func (m *Machine) Apply(index uint64, data []byte) (*Applied, error) {
	if m.broken != nil {
		return nil, m.broken
	}
	if index <= uint64(m.Applied()) {
		return nil, nil
	}
	a, err := m.apply(index, data)
	if err != nil {
		m.broken = fmt.Errorf("apply entry %d: %w", index, err)
		return nil, m.broken
	}
	return a, nil
}

func (m *Machine) apply(index uint64, data []byte) (*Applied, error) {
	g, err := DecodeGroup(data)
	if err != nil {
		return nil, err
	}
	e := m.evaluate(index, g)
	defer e.close()
	out := &Applied{Version: store.Version(index), Time: e.time, Group: g, Outcomes: make([]Outcome, len(g.Entries))}
	for i := range g.Entries {
		if err := e.entry(&g.Entries[i], &out.Outcomes[i]); err != nil {
			return nil, err
		}
	}
	if err := e.checkFormat(); err != nil {
		return nil, err
	}
	e.finish(out.Outcomes)
	if err := m.commit(index, e); err != nil {
		return nil, err
	}
	m.publish(e, len(data))
	if m.cfg.Observe != nil {
		m.cfg.Observe(index, data, out)
	}
	return out, nil
}

// evaluation is a group on its way to the databases.
type evaluation struct {
	m       *Machine
	index   uint64
	time    time.Time
	readers [2]kv.Reader     // at the version before
	keys    map[string]int   // physical user key → index in writes
	writes  []kv.Write       // of callers' keys
	sums    map[string]int64 // physical counter key → sum in the current bucket
	counts  []counterWrite
	logs    []*tail
	puts    [2][]kv.Write // machine's own
	origins []originState
	scratch []byte
	chain   [32]byte
	leader  string
	format  int // that the group raises the cluster to, 0 = it does not
}

type originState struct {
	session *session
	valid   bool
	record  outcomeRecord
}

type counterWrite struct {
	key    []byte
	db     store.Database
	window time.Duration
}

func (m *Machine) evaluate(index uint64, g *Group) *evaluation {
	e := &evaluation{
		m: m, index: index, time: g.Time, leader: g.Leader,
		readers: [2]kv.Reader{m.cur.pair.At(kv.State, index-1), m.cur.pair.At(kv.History, index-1)},
		keys:    make(map[string]int, len(g.Entries)), origins: make([]originState, len(g.Origins)),
	}
	if e.time.Before(m.head.time) {
		e.time = m.head.time
	}
	for i, o := range g.Origins {
		s := m.sessions[o.Node]
		if s == nil {
			s = &session{node: o.Node}
			m.sessions[o.Node] = s
		}
		twice := false
		for _, before := range e.origins[:i] {
			twice = twice || before.session == s
		}
		e.origins[i].session = s
		e.origins[i].record = outcomeRecord{index: index, time: e.time}
		if !twice {
			e.puts[0], e.origins[i].valid = s.begin(o, e.puts[0])
		}
	}
	return e
}

func (e *evaluation) close() {
	for _, r := range e.readers {
		r.Close()
	}
}

func (e *evaluation) reader(db store.Database) kv.Reader { return e.readers[dbIndex(db)] }

// entry decides one transaction.
func (e *evaluation) entry(en *Entry, out *Outcome) error {
	o := &e.origins[en.Origin]
	switch before, known := o.session.find(en.Seq); {
	case !o.valid:
		out.Code = Refused
	case known:
		*out = before
		return nil
	case en.Seq < o.session.floor || o.record.has(en.Seq):
		out.Code = Refused
	default:
		if err := e.transaction(en.Ops, out); err != nil {
			return err
		}
		o.record.seqs = append(o.record.seqs, en.Seq)
		o.record.outcomes = append(o.record.outcomes, *out)
		o.record.highest = max(o.record.highest, en.Seq)
	}
	out.Version, out.Time = store.Version(e.index), e.time
	return nil
}

// transaction evaluates operations in two passes: the first decides, the second
// does, so that a transaction that fails leaves no trace. Preconditions are
// about the state before the transaction: its own writes do not count.
func (e *evaluation) transaction(ops []store.Op, out *Outcome) error {
	var added []int64
	for i := range ops {
		op := &ops[i]
		switch op.Kind {
		case store.OpCheck:
			v, err := e.version(op.Key)
			if err != nil {
				return err
			}
			if v != op.Version {
				*out = Outcome{Code: Conflict, Key: op.Key, Current: v}
				return nil
			}
		case store.OpAdd:
			sum, err := e.sum(op, ops[:i], added)
			if err != nil {
				return err
			}
			if passes(sum, op.Delta, op.Limit) {
				*out = Outcome{Code: Limit, Key: op.Key, Sum: sum, Limit: op.Limit}
				return nil
			}
			added = append(added, sum+op.Delta)
		}
	}
	return e.do(ops, added, out)
}

// passes reports whether a counter at sum would pass its limit, or its 64 bits.
func passes(sum, delta, limit int64) bool {
	if delta > 0 {
		return sum > math.MaxInt64-delta || sum+delta > limit
	}
	return sum < math.MinInt64-delta
}

// version is a key's version before the transaction, 0 when it does not exist.
func (e *evaluation) version(k store.Key) (store.Version, error) {
	pk := append(append(e.scratch[:0], kindUser), k...)
	e.scratch = pk
	if i, ok := e.keys[string(pk)]; ok {
		if e.writes[i].Deleted {
			return 0, nil
		}
		return store.Version(e.index), nil
	}
	db, _ := k.Database()
	v, err := e.reader(db).Version(pk)
	return store.Version(v), err
}

// sum is a counter's sum in the window of the group's time, with what the
// transaction's earlier additions made of it.
func (e *evaluation) sum(op *store.Op, before []store.Op, added []int64) (int64, error) {
	n := len(added)
	for i := len(before) - 1; i >= 0; i-- {
		b := &before[i]
		if b.Kind != store.OpAdd {
			continue
		}
		n--
		if b.Key == op.Key && b.Window == op.Window {
			return added[n], nil
		}
	}
	key := counterKey(op.Key, op.Window)
	if sum, ok := e.sums[string(key)]; ok {
		return sum, nil
	}
	db, _ := op.Key.Database()
	return readCounter(e.reader(db), key, bucket(op.Window, e.time))
}

// readCounter is a counter's sum in a bucket. One key holds the newest bucket
// only: leader time never goes back, so an older one is never added to again.
func readCounter(r kv.Reader, key []byte, in int64) (int64, error) {
	b, _, err := r.Get(key)
	if errors.Is(err, kv.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if len(b) != 16 {
		return 0, fmt.Errorf("%w: a counter of %d bytes", errMalformed, len(b))
	}
	if int64(binary.BigEndian.Uint64(b)) != in {
		return 0, nil
	}
	return int64(binary.BigEndian.Uint64(b[8:])), nil
}

// do carries out a transaction whose preconditions hold.
func (e *evaluation) do(ops []store.Op, added []int64, out *Outcome) error {
	n := 0
	for i := range ops {
		op := &ops[i]
		switch op.Kind {
		case store.OpPut, store.OpDelete:
			e.write(op)
		case store.OpAppend:
			seq, err := e.extend(op)
			if err != nil {
				return err
			}
			out.Seqs = append(out.Seqs, seq)
		case store.OpAdd:
			e.count(op, added[n])
			n++
		}
	}
	out.Sums = added
	return nil
}

func (e *evaluation) write(op *store.Op) {
	w := kv.Write{Key: userKey(op.Key), Value: op.Value, Deleted: op.Kind == store.OpDelete}
	if i, ok := e.keys[alias(w.Key)]; ok {
		e.writes[i] = w
		return
	}
	e.keys[alias(w.Key)] = len(e.writes)
	e.writes = append(e.writes, w)
}

func (e *evaluation) count(op *store.Op, sum int64) {
	key := counterKey(op.Key, op.Window)
	if e.sums == nil {
		e.sums = map[string]int64{}
	}
	if _, ok := e.sums[alias(key)]; !ok {
		db, _ := op.Key.Database()
		e.counts = append(e.counts, counterWrite{key, db, op.Window})
	}
	e.sums[alias(key)] = sum
}

func (e *evaluation) extend(op *store.Op) (uint64, error) {
	t := e.m.tails[op.Log]
	if t == nil {
		var err error
		if t, err = loadTail(e.readers[kv.History], op.Log); err != nil {
			return 0, err
		}
		t.name = string([]byte(op.Log)) // not a part of the group, which is let go
		e.m.tails[t.name] = t
	}
	if !t.touched {
		t.touched = true
		e.logs = append(e.logs, t)
	}
	seq := t.size
	e.puts[1] = append(e.puts[1], kv.Write{Key: logKey(t.name, partLeaf, seq), Value: appendLeaf(e.time, op.Value)})
	e.puts[1] = t.extend(e.puts[1], op.Value)
	return seq, nil
}

// finish adds what is written once a group: counters, frontiers, outcome
// records and the header with the chain over everything the group decided.
func (e *evaluation) finish(outcomes []Outcome) {
	for _, c := range e.counts {
		v := binary.BigEndian.AppendUint64(make([]byte, 0, 16), uint64(bucket(c.window, e.time)))
		v = binary.BigEndian.AppendUint64(v, uint64(e.sums[alias(c.key)]))
		e.puts[dbIndex(c.db)] = append(e.puts[dbIndex(c.db)], kv.Write{Key: c.key, Value: v})
	}
	for _, t := range e.logs {
		t.touched = false
		e.puts[1] = append(e.puts[1], kv.Write{Key: logKey(t.name, partFrontier), Value: t.encode()})
	}
	for i := range e.origins {
		if o := &e.origins[i]; o.valid {
			e.puts[0] = o.session.keep(o.record, e.puts[0])
		}
	}
	b := append(e.scratch[:0], e.m.head.chain[:]...)
	b = appendUint(b, e.index)
	for i := range outcomes {
		b = outcomes[i].append(b)
	}
	e.chain = sha256.Sum256(b)
	h := header{time: e.time, chain: e.chain, leader: e.leader}
	e.puts[1] = append(e.puts[1], kv.Write{Key: headerKey, Value: h.encode()})
	if len(e.m.tails) > maxTails {
		clear(e.m.tails)
	}
}

func dbIndex(db store.Database) int {
	if db == store.State {
		return kv.State
	}
	return kv.History
}
