package consensus

import (
	"fmt"
	"slices"
	"sync"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/machine"
)

// queue holds the transactions that wait to join a group, first in first out in
// each class, bounded in bytes.
type queue struct {
	limit int
	wake  chan struct{} // filled when there may be something to take

	mu     sync.Mutex // guards all below
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
	size := p.tx.Bytes() + pendingOverhead
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

// take waits for transactions and returns the next group's, or nil when stop is
// closed.
func (q *queue) take(stop <-chan struct{}) []*pending {
	for {
		if txs := q.group(); len(txs) > 0 {
			return txs
		}
		select {
		case <-q.wake:
		case <-stop:
			return nil
		}
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
		all.bytes -= p.tx.Bytes()
	}
	all.logs = quarter.logs
	return interactive.take(txs, &all)
}

// fits reports whether the first of the line fits without being made an
// exception as the first of a group.
func (l *line) fits(r *room) bool {
	return len(l.txs) > 0 && l.txs[0].tx.Bytes() <= r.bytes
}

// take moves transactions from the line to a group until the next does not fit.
// The first of a group always does.
func (l *line) take(group []*pending, r *room) []*pending {
	n := 0
	for ; n < len(l.txs) && r.txs > 0; n++ {
		p := l.txs[n]
		size := p.tx.Bytes()
		if len(group) > 0 && (size > r.bytes || !r.addLogs(p.tx)) {
			break
		}
		l.bytes -= size + pendingOverhead
		if !p.taken.CompareAndSwap(false, true) {
			continue // its caller gave up
		}
		if len(group) == 0 {
			r.addLogs(p.tx)
		}
		group = append(group, p)
		r.txs--
		r.bytes -= size
	}
	clear(l.txs[:n])
	l.txs = l.txs[n:]
	if len(l.txs) == 0 {
		l.txs = nil
	}
	return group
}

// addLogs counts the logs that a transaction appends to; false when the group
// would extend too many.
func (r *room) addLogs(tx *store.Tx) bool {
	before := len(r.logs)
	for _, op := range tx.Ops() {
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
