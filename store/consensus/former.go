package consensus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/machine"
)

const (
	// maxInFlight groups are in the log and not yet applied. With at most
	// MaxGroupBytes and one transaction more in each, that is below 4 MiB.
	maxInFlight = 4
	// maxUnknown is how many transactions of unknown outcome may be sent again,
	// and unknownFor how long. After that they are refused, so that the outcomes
	// that the state machine keeps for them do not pile up.
	maxUnknown = 1024
	unknownFor = 2 * time.Minute
	// unknownBytes bounds what those hold in memory.
	unknownBytes = 16 << 20
)

// former makes groups of the transactions that wait, and sees each to its end.
type former struct {
	node  *Node
	boot  atomic.Uint64 // the node's life
	queue *queue
	slots chan struct{} // one for each group in flight
	once  sync.Once     // starts run
	tasks sync.WaitGroup

	mu      sync.Mutex // guards all below
	next    uint64     // the next transaction's sequence
	flying  []*flight
	unknown map[uint64]*pending
	order   []uint64 // of unknown, oldest first
	held    int      // bytes of unknown
	lost    []lost   // of unknown, those that ended so, oldest first
}

// flight is a group in the log.
type flight struct {
	txs    []*pending
	lowest uint64
}

// lost is a transaction that left the log's hands with an unknown outcome.
type lost struct {
	seq   uint64
	since time.Time
}

// pending is a transaction on its way. It implements store.Future.
type pending struct {
	node  *Node
	tx    *store.Tx
	class store.Class
	seq   uint64      // 0 until it joins a group
	taken atomic.Bool // by a group, or by who gave up waiting
	done  chan struct{}
	res   store.Result // set before done is closed
	err   error
}

func newFormer(n *Node, boot uint64) *former {
	f := &former{
		node: n, queue: newQueue(n.cfg.QueueBytes), slots: make(chan struct{}, maxInFlight),
		next: 1, unknown: map[uint64]*pending{},
	}
	f.boot.Store(boot)
	return f
}

func (f *former) start() { f.once.Do(func() { f.tasks.Go(f.run) }) }

// submit queues a transaction. One that was sent before with an unknown outcome
// is joined when it is still under way, and sent again under its old sequence
// when it is not.
func (f *former) submit(ctx context.Context, tx *store.Tx, class store.Class) *pending {
	p := &pending{node: f.node, tx: tx, class: class, done: make(chan struct{})}
	if before, err := f.before(tx); err != nil {
		return p.refuse(err)
	} else if before != nil {
		select {
		case <-before.done:
			if !errors.Is(before.err, store.ErrUnknown) {
				tx.SetStamp(0)
				f.forget(before.seq)
				return before
			}
			p.seq = before.seq
		default:
			return before
		}
	}
	err := tx.Err()
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = f.node.reserve.check(tx.Bytes())
	}
	if err == nil {
		err = f.queue.push(p)
	}
	if err != nil {
		return p.refuse(err)
	}
	return p
}

// before finds a transaction's earlier sending.
func (f *former) before(tx *store.Tx) (*pending, error) {
	if tx.Stamp() == 0 {
		return nil, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.unknown[tx.Stamp()]
	if p == nil || p.tx != tx {
		return nil, fmt.Errorf("%w: it was sent again too late to be told apart from a new one", store.ErrUnknown)
	}
	return p, nil
}

// remember keeps a transaction of unknown outcome so that it may be sent again.
func (f *former) remember(p *pending) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p.tx.SetStamp(p.seq)
	if _, again := f.unknown[p.seq]; !again {
		f.order = append(f.order, p.seq)
		f.held += p.tx.Bytes()
	}
	f.unknown[p.seq] = p
	for len(f.order) > maxUnknown || f.held > unknownBytes {
		f.drop(f.order[0])
		f.order = f.order[1:]
	}
}

// drop takes a transaction out of unknown; mu is held.
func (f *former) drop(seq uint64) {
	if p := f.unknown[seq]; p != nil {
		f.held -= p.tx.Bytes()
		delete(f.unknown, seq)
	}
}

func (f *former) lose(seq uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lost = append(f.lost, lost{seq, time.Now()})
}

func (f *former) forget(seq uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.drop(seq)
	for len(f.order) > 0 && f.unknown[f.order[0]] == nil {
		f.order = f.order[1:]
	}
}

// run forms groups until the node ends.
func (f *former) run() {
	for {
		select {
		case f.slots <- struct{}{}:
		case <-f.node.dead:
			return
		}
		txs := f.queue.take(f.node.dead)
		if txs == nil {
			return
		}
		data := f.form(txs)
		future := f.node.raft.Apply(data, 0)
		f.tasks.Go(func() { f.land(txs, future) })
	}
}

// form gives each transaction its sequence and encodes the group. The buffer is
// not used again: the machine's recent changes point into it.
func (f *former) form(txs []*pending) []byte {
	g := machine.Group{
		Time:    time.Now(),
		Origins: []machine.Origin{{Node: f.node.cfg.NodeID, Boot: f.boot.Load(), Lowest: f.fly(txs)}},
		Entries: make([]machine.Entry, len(txs)),
	}
	size := 64 + len(f.node.cfg.NodeID)
	for i, p := range txs {
		g.Entries[i] = machine.Entry{Seq: p.seq, Ops: p.tx.Ops()}
		size += p.tx.Bytes() + 16
	}
	return g.AppendTo(make([]byte, 0, size))
}

// fly notes a group as in flight and returns the lowest sequence that this node
// may still have to repeat.
func (f *former) fly(txs []*pending) (lowest uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fl := &flight{txs: txs, lowest: f.next}
	for _, p := range txs {
		if p.seq == 0 {
			p.seq = f.next
			f.next++
		}
		fl.lowest = min(fl.lowest, p.seq)
	}
	f.flying = append(f.flying, fl)
	lowest = fl.lowest
	for _, other := range f.flying {
		lowest = min(lowest, other.lowest)
	}
	for len(f.lost) > 0 && (len(f.lost) > maxUnknown || time.Since(f.lost[0].since) > unknownFor) {
		f.drop(f.lost[0].seq)
		f.lost = f.lost[1:]
	}
	for _, l := range f.lost {
		if f.unknown[l.seq] != nil {
			lowest = min(lowest, l.seq)
		}
	}
	return lowest
}

// land waits for a group's end and tells its transactions.
func (f *former) land(txs []*pending, future raft.ApplyFuture) {
	err := future.Error()
	var applied *machine.Applied
	if err == nil {
		switch r := future.Response().(type) {
		case *machine.Applied:
			applied = r
		case error:
			err = r
		}
	}
	for i, p := range txs {
		switch {
		case errors.Is(err, raft.ErrNotLeader) || errors.Is(err, raft.ErrLeadershipTransferInProgress):
			p.err = fmt.Errorf("%w: this node does not lead", store.ErrBusy) // it never entered the log
		case err != nil || applied == nil:
			p.err = fmt.Errorf("%w: %w", store.ErrUnknown, err)
			f.remember(p)
			f.lose(p.seq)
		default:
			p.res, p.err = applied.Outcomes[i].Result()
		}
	}
	f.touchDown(txs)
	for _, p := range txs {
		p.end(p.res, p.err)
	}
	<-f.slots
}

func (f *former) touchDown(txs []*pending) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, fl := range f.flying {
		if fl.txs[0] == txs[0] {
			f.flying = append(f.flying[:i], f.flying[i+1:]...)
			return
		}
	}
}

// close refuses what has not entered a group.
func (f *former) close() {
	for _, p := range f.queue.close() {
		p.end(store.Result{}, f.node.closed())
	}
}

func (p *pending) end(res store.Result, err error) *pending {
	p.res, p.err = res, err
	p.tx.Done(res, err)
	close(p.done)
	return p
}

// refuse ends a transaction that never waited in the queue.
func (p *pending) refuse(err error) *pending {
	p.taken.Store(true)
	return p.end(store.Result{}, err)
}

// Wait implements store.Future.
func (p *pending) Wait(ctx context.Context) (store.Result, error) {
	select {
	case <-p.done:
		return p.res, p.err
	default:
	}
	select {
	case <-p.done:
		return p.res, p.err
	case <-ctx.Done():
		return store.Result{}, ctx.Err()
	}
}

// await is Wait for Apply: who gives up takes the transaction back when it has
// not joined a group, and otherwise may send it again.
func (p *pending) await(ctx context.Context) (store.Result, error) {
	select {
	case <-p.done:
		return p.res, p.err
	case <-ctx.Done():
	}
	if p.taken.CompareAndSwap(false, true) {
		p.end(store.Result{}, ctx.Err())
	}
	select {
	case <-p.done:
		return p.res, p.err
	default:
		p.node.former.remember(p)
		return store.Result{}, fmt.Errorf("%w: %w", store.ErrUnknown, ctx.Err())
	}
}
