package consensus

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/machine"
)

// queue holds the transactions that wait to join a group, first in first out in
// each class, bounded in bytes.
type queue struct {
	limit int
	wake  chan struct{} // filled when there may be something to take

	mu     sync.Mutex // guards all below
	again  []*pending // to be sent once more, before all others
	lines  [2]line
	passed int // groups in a row that bulk work did not fit into
	closed bool
}

type line struct {
	txs   []*pending
	bytes int
}

// bulkPatience is after how many groups without it waiting bulk work gets one of
// its own, which a transaction needs that is larger than bulk's quarter.
const bulkPatience = 4

// pendingOverhead is what a waiting transaction is charged beside its bytes.
const pendingOverhead = 256

func newQueue(limit int) *queue {
	return &queue{limit: limit, wake: make(chan struct{}, 1)}
}

func (q *queue) push(p *pending) error {
	q.mu.Lock()
	l := &q.lines[p.class]
	size := p.size + pendingOverhead
	switch {
	case q.closed:
		q.mu.Unlock()
		return store.ErrClosed
	case l.bytes+size > q.limit:
		q.mu.Unlock()
		return fmt.Errorf("%w: %d transactions wait", store.ErrBusy, len(l.txs))
	}
	l.txs = append(l.txs, p)
	l.bytes += size
	q.mu.Unlock()
	q.ring()
	return nil
}

func (q *queue) ring() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// repeat puts transactions that are out in line to be sent once more. all says
// that they are everything that is out.
func (q *queue) repeat(txs []*pending) {
	if len(txs) == 0 {
		return
	}
	q.mu.Lock()
	q.again = append(q.again, txs...)
	q.mu.Unlock()
	q.ring()
}

// take waits for transactions and returns the next group's, or nil when stop or
// change is closed.
func (q *queue) take(stop, change <-chan struct{}) []*pending {
	for {
		if txs := q.group(); len(txs) > 0 {
			return txs
		}
		select {
		case <-q.wake:
		case <-change:
			return nil
		case <-stop:
			return nil
		}
	}
}

// expire refuses what has waited since before a moment.
func (q *queue) expire(before time.Time, why error) {
	var over []*pending
	q.mu.Lock()
	for i := range q.lines {
		l := &q.lines[i]
		n := 0
		for n < len(l.txs) && l.txs[n].asked.Before(before) {
			p := l.txs[n]
			l.bytes -= p.size + pendingOverhead
			if p.taken.CompareAndSwap(false, true) {
				over = append(over, p)
			}
			n++
		}
		l.drop(n)
	}
	q.mu.Unlock()
	for _, p := range over {
		p.err = fmt.Errorf("%w: %w", store.ErrBusy, why)
		p.finish()
	}
}

// room is what a group may still take.
type room struct {
	txs, bytes int
	logs       []string
}

// group takes what fits into one group. While interactive work waits, bulk work
// gets a quarter.
func (q *queue) group() []*pending {
	q.mu.Lock()
	defer q.mu.Unlock()
	interactive, bulk := &q.lines[store.Interactive], &q.lines[store.Bulk]
	all := room{txs: machine.MaxGroupTxs, bytes: machine.MaxGroupBytes}
	if txs := q.repeated(&all); len(txs) > 0 {
		return txs
	}
	if len(interactive.txs) == 0 || q.passed >= bulkPatience {
		if txs := bulk.take(nil, &all); len(txs) > 0 {
			q.passed = 0
			return txs
		}
	}
	quarter := room{txs: all.txs / 4, bytes: all.bytes / 4}
	var txs []*pending
	if bulk.fits(&quarter) {
		txs = bulk.take(txs, &quarter)
		q.passed = 0
	} else if len(bulk.txs) > 0 {
		q.passed++
	}
	for _, p := range txs {
		all.txs--
		all.bytes -= p.size
	}
	all.logs = quarter.logs
	return interactive.take(txs, &all)
}

// fits reports whether the first of the line fits without being made an
// exception as the first of a group.
func (l *line) fits(r *room) bool {
	return len(l.txs) > 0 && l.txs[0].size <= r.bytes
}

// take moves transactions from the line to a group until the next does not fit.
// The first of a group always does.
func (l *line) take(group []*pending, r *room) []*pending {
	n := 0
	for ; n < len(l.txs) && r.txs > 0; n++ {
		p := l.txs[n]
		size := p.size
		if len(group) > 0 && (size > r.bytes || !r.addLogs(p)) {
			break
		}
		l.bytes -= size + pendingOverhead
		if !p.taken.CompareAndSwap(false, true) {
			continue // its caller gave up
		}
		if len(group) == 0 {
			r.addLogs(p)
		}
		group = append(group, p)
		r.txs--
		r.bytes -= size
	}
	l.drop(n)
	return group
}

// drop forgets the first of the line.
func (l *line) drop(n int) {
	clear(l.txs[:n])
	l.txs = l.txs[n:]
	if len(l.txs) == 0 {
		l.txs = nil
	}
}

// repeated takes what is to be sent once more and fits.
func (q *queue) repeated(r *room) (group []*pending) {
	n := 0
	for ; n < len(q.again) && r.txs > 0; n++ {
		p := q.again[n]
		if len(group) > 0 && (p.size > r.bytes || !r.addLogs(p)) {
			break
		}
		select {
		case <-p.done:
			continue // it came home meanwhile
		default:
		}
		if len(group) == 0 {
			r.addLogs(p)
		}
		group = append(group, p)
		r.txs--
		r.bytes -= p.size
	}
	q.again = q.again[n:]
	if len(q.again) == 0 {
		q.again = nil
	}
	return group
}

// addLogs counts the logs that a transaction appends to; false when the group
// would extend too many.
func (r *room) addLogs(p *pending) bool {
	if p.tx == nil {
		return r.addNames(p.logs)
	}
	before := len(r.logs)
	for _, op := range p.tx.Ops() {
		if op.Kind != store.OpAppend || slices.Contains(r.logs, op.Log) {
			continue
		}
		if len(r.logs) == machine.MaxGroupLogs {
			r.logs = r.logs[:before]
			return false
		}
		r.logs = append(r.logs, op.Log)
	}
	return true
}

// addNames is addLogs for names.
func (r *room) addNames(logs []string) bool {
	before := len(r.logs)
	for _, l := range logs {
		if slices.Contains(r.logs, l) {
			continue
		}
		if len(r.logs) == machine.MaxGroupLogs {
			r.logs = r.logs[:before]
			return false
		}
		r.logs = append(r.logs, l)
	}
	return true
}

// close refuses further transactions and returns those that wait.
func (q *queue) close() []*pending {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	var left []*pending
	for i := range q.lines {
		for _, p := range q.lines[i].txs {
			if p.taken.CompareAndSwap(false, true) {
				left = append(left, p)
			}
		}
		q.lines[i] = line{}
	}
	return left
}
