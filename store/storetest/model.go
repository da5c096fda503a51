// Package storetest holds what every implementation of store.Store is tested
// against: Run, the conformance suite, and Model, an implementation so plain
// that it can be believed by reading it.
//
// Model keeps every version in memory, applies one transaction a version and
// has no bound but the machine's memory. Tests of other rooms use it as their
// store; property tests use it as the oracle for the real one.
//
// It may import store and nothing else of Cloister, and only tests may import it.
package storetest

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"math"
	"sort"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/cloister-os/cloister/store"
)

var _ store.Store = (*Model)(nil)

// Model is the reference implementation. The zero value is not usable.
type Model struct {
	mu      sync.Mutex // guards all below
	version store.Version
	now     func() time.Time
	last    time.Time
	times   []stamp
	keys    map[store.Key][]revision
	sums    map[string][]sum
	logs    map[string]*modelLog
	changes map[store.Version][]store.Write
	changed chan struct{} // closed and replaced at each version
}

type stamp struct {
	version store.Version
	time    time.Time
}

type revision struct {
	version store.Version
	value   []byte
	deleted bool
}

type sum struct {
	version store.Version
	value   int64
}

type modelLog struct {
	leaves []store.Leaf
	hashes []tlog.Hash
}

// NewModel returns an empty store whose clock is now (time.Now when nil).
func NewModel(now func() time.Time) *Model {
	if now == nil {
		now = time.Now
	}
	return &Model{
		now: now, keys: map[store.Key][]revision{}, sums: map[string][]sum{},
		logs: map[string]*modelLog{}, changes: map[store.Version][]store.Write{}, changed: make(chan struct{}),
	}
}

// Apply implements store.Store.
func (m *Model) Apply(ctx context.Context, tx *store.Tx) (store.Result, error) {
	res, err := m.apply(ctx, tx)
	tx.Done(res, err)
	return res, err
}

func (m *Model) apply(ctx context.Context, tx *store.Tx) (store.Result, error) {
	if err := tx.Err(); err != nil {
		return store.Result{}, err
	}
	if err := ctx.Err(); err != nil {
		return store.Result{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.version + 1
	t := m.now().UTC()
	if t.Before(m.last) {
		t = m.last
	}
	p := pending{m: m, version: v, time: t, keys: map[store.Key]revision{}, sums: map[string]int64{}}
	for _, op := range tx.Ops() {
		if err := p.do(op); err != nil {
			return store.Result{}, err
		}
	}
	m.advance(v, t)
	p.commit()
	return store.Result{Version: v, Time: t, Seqs: p.seqs, Sums: p.totals}, nil
}

// advance makes a version the newest; m.mu is held.
func (m *Model) advance(v store.Version, t time.Time) {
	m.version, m.last = v, t
	m.times = append(m.times, stamp{v, t})
	close(m.changed)
	m.changed = make(chan struct{})
}

// pending is a transaction being evaluated: reads see what it has done so far.
type pending struct {
	m       *Model
	version store.Version
	time    time.Time
	keys    map[store.Key]revision
	sums    map[string]int64
	appends []store.Op
	seqs    []uint64
	totals  []int64
}

func (p *pending) do(op store.Op) error {
	switch op.Kind {
	case store.OpCheck:
		if cur := p.current(op.Key); cur != op.Version {
			return &store.ConflictError{Key: op.Key, Version: cur}
		}
	case store.OpPut, store.OpDelete:
		p.keys[op.Key] = revision{p.version, bytes.Clone(op.Value), op.Kind == store.OpDelete}
	case store.OpAppend:
		n := uint64(0)
		if l := p.m.logs[op.Log]; l != nil {
			n = uint64(len(l.leaves))
		}
		for _, a := range p.appends {
			if a.Log == op.Log {
				n++
			}
		}
		p.seqs = append(p.seqs, n)
		p.appends = append(p.appends, op)
	case store.OpAdd:
		b := bucket(op.Key, op.Window, p.time)
		cur, ok := p.sums[b]
		if !ok {
			cur = lastSum(p.m.sums[b], p.version)
		}
		if op.Delta > 0 && (cur > math.MaxInt64-op.Delta || cur+op.Delta > op.Limit) || op.Delta < 0 && cur < math.MinInt64-op.Delta {
			return &store.LimitError{Counter: op.Key, Sum: cur, Limit: op.Limit}
		}
		p.sums[b] = cur + op.Delta
		p.totals = append(p.totals, cur+op.Delta)
	default:
		return fmt.Errorf("%w: operation kind %d", store.ErrInvalid, op.Kind)
	}
	return nil
}

// current is the version a Check compares with. What this transaction itself
// wrote does not count: preconditions are about the state before it.
func (p *pending) current(k store.Key) store.Version {
	if r, ok := find(p.m.keys[k], p.version); ok {
		return r.version
	}
	return 0
}

func (p *pending) commit() {
	var writes []store.Write
	for _, w := range p.m.changes[p.version] { // by transactions of the same version
		if _, again := p.keys[w.Key]; !again {
			writes = append(writes, w)
		}
	}
	for k, r := range p.keys {
		p.m.keys[k] = append(p.m.keys[k], r)
		writes = append(writes, store.Write{Key: k, Value: r.value, Deleted: r.deleted})
	}
	sort.Slice(writes, func(i, j int) bool { return writes[i].Key < writes[j].Key })
	p.m.changes[p.version] = writes
	for b, s := range p.sums {
		p.m.sums[b] = append(p.m.sums[b], sum{p.version, s})
	}
	for _, op := range p.appends {
		l := p.m.logs[op.Log]
		if l == nil {
			l = &modelLog{}
			p.m.logs[op.Log] = l
		}
		l.append(store.Leaf{Seq: uint64(len(l.leaves)), Version: p.version, Time: p.time, Data: bytes.Clone(op.Value)})
	}
}

func (l *modelLog) append(leaf store.Leaf) {
	hs, err := tlog.StoredHashes(int64(leaf.Seq), leaf.Data, hashReader(l.hashes))
	if err != nil {
		panic(err)
	}
	l.hashes = append(l.hashes, hs...)
	l.leaves = append(l.leaves, leaf)
}

type hashReader []tlog.Hash

func (h hashReader) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		if x >= int64(len(h)) {
			return nil, store.ErrNotFound
		}
		out[i] = h[x]
	}
	return out, nil
}

func bucket(k store.Key, window time.Duration, t time.Time) string {
	if window == 0 {
		return string(k) + "\x00for ever"
	}
	n := t.Unix() / int64(window/time.Second)
	return fmt.Sprintf("%s\x00%d/%d", k, window/time.Second, n)
}

func lastSum(s []sum, at store.Version) int64 {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i].version <= at {
			return s[i].value
		}
	}
	return 0
}

func find(revs []revision, at store.Version) (revision, bool) {
	for i := len(revs) - 1; i >= 0; i-- {
		if revs[i].version <= at {
			return revs[i], !revs[i].deleted
		}
	}
	return revision{}, false
}

type done struct {
	res store.Result
	err error
}

// Wait implements store.Future.
func (d done) Wait(context.Context) (store.Result, error) { return d.res, d.err }

// Submit implements store.Store.
func (m *Model) Submit(ctx context.Context, tx *store.Tx, _ store.Class) store.Future {
	res, err := m.Apply(ctx, tx)
	return done{res, err}
}

// Update implements store.Store.
func (m *Model) Update(ctx context.Context, f func(*store.Update) error) (store.Result, error) {
	for range 100 {
		u := &store.Update{Snapshot: m.snapshot(m.Applied()), Tx: store.NewTx()}
		if err := f(u); err != nil {
			return store.Result{}, err
		}
		res, err := m.Apply(ctx, u.Tx)
		if _, conflict := err.(*store.ConflictError); !conflict {
			return res, err
		}
	}
	return store.Result{}, store.ErrBusy
}

// View implements store.Store.
func (m *Model) View(ctx context.Context, at store.ReadAt, f func(store.Snapshot) error) error {
	v := m.Applied()
	for at > 0 && v < store.Version(at) {
		m.mu.Lock()
		changed := m.changed
		v = m.version
		m.mu.Unlock()
		if v >= store.Version(at) {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if at > 0 {
		v = store.Version(at)
		if floor := m.floor(); v < floor {
			return fmt.Errorf("%w: history begins at %d", store.ErrCompacted, floor)
		}
	}
	return f(m.snapshot(v))
}

// floor is the retention floor.
func (m *Model) floor() store.Version {
	item, err := m.snapshot(m.Applied()).Get(store.RetentionFloor)
	if err != nil {
		return 0
	}
	n, _ := store.ParseNumber(string(item.Value))
	return store.Version(n)
}

// Applied implements store.Store.
func (m *Model) Applied() store.Version {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.version
}

// Watch implements store.Store.
func (m *Model) Watch(ctx context.Context, prefix store.Key, from store.Version) iter.Seq2[store.Change, error] {
	return func(yield func(store.Change, error) bool) {
		for {
			m.mu.Lock()
			changed, top := m.changed, m.version
			m.mu.Unlock()
			for ; from < top; from++ {
				c := m.change(prefix, from+1)
				if len(c.Writes) > 0 && !yield(c, nil) {
					return
				}
			}
			select {
			case <-changed:
			case <-ctx.Done():
				yield(store.Change{}, ctx.Err())
				return
			}
		}
	}
}

func (m *Model) change(prefix store.Key, v store.Version) store.Change {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := store.Change{Version: v, Time: m.timeAt(v)}
	for _, w := range m.changes[v] {
		if strings.HasPrefix(string(w.Key), string(prefix)) {
			c.Writes = append(c.Writes, w)
		}
	}
	return c
}

func (m *Model) timeAt(v store.Version) time.Time {
	i := sort.Search(len(m.times), func(i int) bool { return m.times[i].version > v })
	if i == 0 {
		return time.Time{}
	}
	return m.times[i-1].time
}

// sorted lists the keys with the prefix that ever existed; m.mu is held.
func (m *Model) sorted(prefix store.Key) []store.Key {
	var ks []store.Key
	for k := range m.keys {
		if strings.HasPrefix(string(k), string(prefix)) {
			ks = append(ks, k)
		}
	}
	sort.Slice(ks, func(i, j int) bool { return ks[i] < ks[j] })
	return ks
}

func (m *Model) snapshot(v store.Version) *modelSnapshot { return &modelSnapshot{m: m, v: v} }

type modelSnapshot struct {
	m *Model
	v store.Version
}

func (s *modelSnapshot) Version() store.Version { return s.v }

func (s *modelSnapshot) Time() time.Time {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	return s.m.timeAt(s.v)
}

func (s *modelSnapshot) Get(k store.Key) (store.Item, error) {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	r, ok := find(s.m.keys[k], s.v)
	if !ok {
		return store.Item{}, store.ErrNotFound
	}
	return store.Item{Key: k, Value: bytes.Clone(r.value), Version: r.version}, nil
}

func (s *modelSnapshot) Scan(prefix, after store.Key) iter.Seq2[store.Item, error] {
	return s.scan(prefix, func(k store.Key) bool { return k > after }, false)
}

func (s *modelSnapshot) ScanBack(prefix, before store.Key) iter.Seq2[store.Item, error] {
	return s.scan(prefix, func(k store.Key) bool { return before == "" || k < before }, true)
}

func (s *modelSnapshot) scan(prefix store.Key, in func(store.Key) bool, back bool) iter.Seq2[store.Item, error] {
	return func(yield func(store.Item, error) bool) {
		s.m.mu.Lock()
		ks := s.m.sorted(prefix)
		s.m.mu.Unlock()
		for i := range ks {
			k := ks[i]
			if back {
				k = ks[len(ks)-1-i]
			}
			if !in(k) {
				continue
			}
			item, err := s.Get(k)
			if err == nil && !yield(item, nil) {
				return
			}
		}
	}
}

func (s *modelSnapshot) Sum(counter store.Key, window time.Duration) (int64, error) {
	t := s.Time()
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	return lastSum(s.m.sums[bucket(counter, window, t)], s.v), nil
}

func (s *modelSnapshot) Log(name string) store.Log {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	l := s.m.logs[name]
	if l == nil {
		return &logView{}
	}
	n := sort.Search(len(l.leaves), func(i int) bool { return l.leaves[i].Version > s.v })
	return &logView{leaves: l.leaves[:n:n], hashes: l.hashes[:tlog.StoredHashIndex(0, int64(n))]}
}

type logView struct {
	leaves []store.Leaf
	hashes []tlog.Hash
}

func (l *logView) Size() uint64 { return uint64(len(l.leaves)) }

func (l *logView) Root() ([32]byte, error) {
	h, err := tlog.TreeHash(int64(len(l.leaves)), hashReader(l.hashes))
	return h, err
}

func (l *logView) Leaf(seq uint64) (store.Leaf, error) {
	if seq >= l.Size() {
		return store.Leaf{}, store.ErrNotFound
	}
	return l.leaves[seq], nil
}

func (l *logView) Leaves(from uint64) iter.Seq2[store.Leaf, error] {
	return func(yield func(store.Leaf, error) bool) {
		for ; from < l.Size(); from++ {
			if !yield(l.leaves[from], nil) {
				return
			}
		}
	}
}

func (l *logView) Hashes(indexes []int64) ([][32]byte, error) {
	hs, err := hashReader(l.hashes).ReadHashes(indexes)
	if err != nil {
		return nil, err
	}
	out := make([][32]byte, len(hs))
	for i, h := range hs {
		out[i] = h
	}
	return out, nil
}
