package consensus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/machine"
)

const (
	// maxUnknown is how many transactions of unknown outcome may be sent again,
	// and unknownFor how long. After that they are refused, so that the outcomes
	// that the state machine keeps for them do not pile up.
	maxUnknown = 1024
	unknownFor = 2 * time.Minute
	// unknownBytes bounds what those hold in memory.
	unknownBytes = 16 << 20
	// againAfter is when a transaction that did not come home is sent once more,
	// and patience how long its caller waits before it is told that the outcome
	// is unknown.
	againAfter = time.Second
	patience   = 10 * time.Second
)

// origin numbers what this node proposes, and sees each transaction home: its
// outcome is the one that this node's own state machine decides when the group
// comes by in the log, so it is visible here when its caller hears of it, and a
// transaction can be sent to any leader as often as it takes.
type origin struct {
	boot atomic.Uint64 // the node's life

	mu      sync.Mutex // guards all below
	next    uint64     // the next transaction's sequence
	out     map[uint64]*pending
	order   []*pending // of out, by sequence; with those that came home meanwhile
	bytes   int        // of out
	eased   chan struct{}
	unknown map[uint64]*pending // those whose callers may send them again
	oldest  []uint64            // of unknown, oldest first
	held    int                 // bytes of unknown

	lateness atomic.Pointer[chan struct{}] // closed and replaced when some are late
}

// pending is a transaction on its way. It implements store.Future.
type pending struct {
	node  *Node
	tx    *store.Tx   // nil when a peer forwarded it
	size  int         // as store.Tx counts it
	class store.Class // which line it waits in
	seq   uint64      // 0 until it joins a group
	taken atomic.Bool // by a group, or by who gave up waiting
	done  chan struct{}
	res   store.Result // set before done is closed
	err   error

	from *inbound // the peer that forwarded it
	raw  []byte   // its operations as the peer encoded them
	logs []string // that raw appends to

	asked time.Time   // when its caller began to wait
	late  atomic.Bool // its caller has waited for long enough

	// Guarded by origin.mu.
	sent  time.Time // last; zero while it waits to be sent again
	first time.Time
	tries int
	ended bool
}

func newOrigin(boot uint64) *origin {
	o := &origin{next: 1, out: map[uint64]*pending{}, unknown: map[uint64]*pending{}, eased: make(chan struct{})}
	o.boot.Store(boot)
	late := make(chan struct{})
	o.lateness.Store(&late)
	return o
}

// number gives each transaction its sequence, notes that it is being sent, and
// returns the lowest sequence that this node may still send.
func (o *origin) number(txs []*pending) (lowest uint64) {
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range txs {
		if p.from != nil {
			continue
		}
		if p.seq == 0 {
			p.seq = o.next
			o.next++
			p.first = now
			o.note(p)
		}
		p.sent = now
		p.tries++
	}
	return o.lowest()
}

// note takes a transaction into out; mu is held.
func (o *origin) note(p *pending) {
	o.out[p.seq] = p
	o.order = append(o.order, p)
	o.bytes += p.size
}

// lowest is the lowest sequence that may still be sent; mu is held.
func (o *origin) lowest() uint64 {
	for len(o.order) > 0 && o.order[0].ended {
		o.order[0] = nil
		o.order = o.order[1:]
	}
	if len(o.order) > 0 {
		return o.order[0].seq
	}
	return o.next
}

// home gives the transactions of a group that this node proposed in this life
// their outcomes.
func (o *origin) home(a *machine.Applied, node string) {
	own := -1
	for i, org := range a.Group.Origins {
		if org.Node == node && org.Boot == o.boot.Load() {
			own = i
		}
	}
	if own < 0 {
		return
	}
	var arrived []*pending
	o.mu.Lock()
	for i := range a.Group.Entries {
		e := &a.Group.Entries[i]
		if e.Origin != own {
			continue
		}
		p := o.out[e.Seq]
		if p == nil || a.Outcomes[i].Code == machine.Refused {
			continue // it came twice, or comes once more
		}
		p.res, p.err = a.Outcomes[i].Result()
		o.leave(p)
		arrived = append(arrived, p)
	}
	o.ease()
	o.mu.Unlock()
	for _, p := range arrived {
		p.finish()
	}
}

// leave takes a transaction out of out; mu is held.
func (o *origin) leave(p *pending) {
	p.ended = true
	delete(o.out, p.seq)
	o.bytes -= p.size
}

// ease tells who waits for room; mu is held.
func (o *origin) ease() {
	close(o.eased)
	o.eased = make(chan struct{})
}

// room reports whether more may be sent to a leader, and otherwise returns what
// is closed when there may be.
func (o *origin) room() (bool, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.bytes < maxForwarded, o.eased
}

// refused is told of a transaction that a leader did not take. That is definite
// when no other sending of it can have entered the log.
func (o *origin) refused(seq uint64, err error) {
	o.mu.Lock()
	p := o.out[seq]
	if p == nil || p.tries > 1 {
		o.mu.Unlock()
		return // it will be sent again
	}
	p.err = err
	o.leave(p)
	o.ease()
	o.mu.Unlock()
	p.finish()
}

// due returns what must be sent again, in order: everything that is out, or
// that which has not come home for a while.
func (o *origin) due(now time.Time, all bool) []*pending {
	o.mu.Lock()
	defer o.mu.Unlock()
	var due []*pending
	for _, p := range o.order {
		if p.ended || p.sent.IsZero() {
			continue
		}
		if wait := againAfter << min(max(p.tries-1, 0), 3); all || now.Sub(p.sent) > wait {
			p.sent = time.Time{}
			due = append(due, p)
		}
	}
	return due
}

// expire lets those go who have waited long enough: to them the outcome is
// unknown, while the transaction stays out until it comes home or is given up.
func (o *origin) expire(now time.Time) {
	var over []*pending
	late := false
	o.mu.Lock()
	for _, p := range o.order {
		switch {
		case p.ended:
		case now.Sub(p.first) > unknownFor:
			o.leave(p)
			o.drop(p.seq)
			over = append(over, p)
		case now.Sub(p.asked) > patience && !p.late.Load():
			o.keep(p)
			p.late.Store(true)
			late = true
		}
	}
	o.mu.Unlock()
	if late {
		next := make(chan struct{})
		close(*o.lateness.Swap(&next))
	}
	for _, p := range over {
		p.err = fmt.Errorf("%w: %w", store.ErrUnknown, errLate)
		p.finish()
	}
}

// end gives up everything, for a node that ends.
func (o *origin) end(why error) {
	o.mu.Lock()
	var over []*pending
	for _, p := range o.order {
		if !p.ended {
			o.leave(p)
			over = append(over, p)
		}
	}
	o.ease()
	o.mu.Unlock()
	for _, p := range over {
		p.err = fmt.Errorf("%w: %w", store.ErrUnknown, why)
		p.finish()
	}
}

// before finds a transaction's earlier sending.
func (o *origin) before(tx *store.Tx) (*pending, error) {
	if tx.Stamp() == 0 {
		return nil, nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	p := o.unknown[tx.Stamp()]
	if p == nil || p.tx != tx {
		return nil, fmt.Errorf("%w: it was sent again too late to be told apart from a new one", store.ErrUnknown)
	}
	if !p.ended {
		p.asked = time.Now()
		p.late.Store(false)
	}
	return p, nil
}

// remember keeps a transaction of unknown outcome so that it may be sent again.
// It does nothing for one without a sequence, and says so.
func (o *origin) remember(p *pending) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if p.seq == 0 {
		return false
	}
	o.keep(p)
	return true
}

// keep is remember; mu is held.
func (o *origin) keep(p *pending) {
	p.tx.SetStamp(p.seq)
	if _, again := o.unknown[p.seq]; !again {
		o.oldest = append(o.oldest, p.seq)
		o.held += p.size
	}
	o.unknown[p.seq] = p
	for len(o.oldest) > maxUnknown || o.held > unknownBytes {
		o.drop(o.oldest[0])
		o.oldest = o.oldest[1:]
	}
}

// drop takes a transaction out of unknown; mu is held.
func (o *origin) drop(seq uint64) {
	if p := o.unknown[seq]; p != nil {
		o.held -= p.size
		delete(o.unknown, seq)
	}
}

// forget is told that a transaction's caller has its outcome.
func (o *origin) forget(seq uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.drop(seq)
	for len(o.oldest) > 0 && o.unknown[o.oldest[0]] == nil {
		o.oldest = o.oldest[1:]
	}
}

// finish tells a transaction's caller its outcome.
func (p *pending) finish() {
	if p.tx == nil {
		return // its caller is at another node, which will send it again
	}
	p.tx.Done(p.res, p.err)
	close(p.done)
}

// refuse ends a transaction that never waited in the queue.
func (p *pending) refuse(err error) *pending {
	p.taken.Store(true)
	p.err = err
	p.finish()
	return p
}

// errLate is why a caller is let go.
var errLate = errors.New("no quorum of nodes has decided it yet; look whether the other nodes run and reach each other")

// Wait implements store.Future.
func (p *pending) Wait(ctx context.Context) (store.Result, error) {
	for {
		late := *p.node.origin.lateness.Load()
		if p.late.Load() {
			return p.unknown(errLate)
		}
		select {
		case <-p.done:
			return p.res, p.err
		case <-late:
		case <-ctx.Done():
			select {
			case <-p.done:
				return p.res, p.err
			default:
				return store.Result{}, ctx.Err()
			}
		}
	}
}

// await is Wait for Apply: who gives up takes the transaction back when it has
// not joined a group, and otherwise may send it again.
func (p *pending) await(ctx context.Context) (store.Result, error) {
	res, err := p.Wait(ctx)
	if err == nil || ctx.Err() == nil || err != ctx.Err() {
		return res, err
	}
	if p.taken.CompareAndSwap(false, true) {
		p.err = ctx.Err()
		p.finish()
		return store.Result{}, p.err
	}
	return p.unknown(ctx.Err())
}

// unknown is the answer to who waits no longer, unless the outcome came after
// all. Who took the transaction is just about to number it, or to end it: until
// then nothing can be said of it.
func (p *pending) unknown(why error) (store.Result, error) {
	for {
		select {
		case <-p.done:
			return p.res, p.err
		default:
		}
		if p.node.origin.remember(p) {
			return store.Result{}, fmt.Errorf("%w: %w", store.ErrUnknown, why)
		}
		time.Sleep(time.Millisecond)
	}
}
