package consensus

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// pace measures how long appends to the log take.
type pace struct {
	mu     sync.Mutex // guards all below
	recent [16]time.Duration
	next   int
	since  time.Time // when the appends began to be slow, zero = they are not
	began  time.Time // of the append under way, zero = none
}

// begin and end are called around each append.
func (p *pace) begin(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.began = now
}

func (p *pace) end(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.recent[p.next%len(p.recent)] = now.Sub(p.began)
	p.next++
	p.began = time.Time{}
	switch typical := p.typical(); {
	case typical < slowFsync:
		p.since = time.Time{}
	case p.since.IsZero():
		p.since = now
	}
}

// typical is the median of the last appends; mu is held.
func (p *pace) typical() time.Duration {
	k := min(p.next, len(p.recent))
	if k == 0 {
		return 0
	}
	last := slices.Clone(p.recent[:k])
	slices.Sort(last)
	return last[k/2]
}

// fsync is what an append typically takes.
func (p *pace) fsync() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.typical()
}

// slow is what an append takes when that has been too long for a while, 0 when it
// has not.
func (p *pace) slow(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.began.IsZero() && now.Sub(p.began) > slowFor {
		return now.Sub(p.began)
	}
	if p.since.IsZero() || now.Sub(p.since) < slowFor {
		return 0
	}
	return p.typical()
}

// watchedLog measures what is appended and tells the learner of it. On a disk that
// is all but full it refuses entries, which raft tries again, before the log meets
// the disk's end and ends the node: a follower then stays behind until space is
// freed, and a leader follows.
type watchedLog struct {
	raft.LogStore
	node *Node
	cut  *atomic.Bool // the tail was removed, which raft believes is replaced at once
}

// StoreLog implements raft.LogStore.
func (w watchedLog) StoreLog(l *raft.Log) error { return w.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore.
func (w watchedLog) StoreLogs(l []*raft.Log) error {
	if err := w.node.reserve.floor(!w.node.others()); err != nil && !w.cut.Load() {
		return err
	}
	w.cut.Store(false)
	w.node.pace.begin(time.Now())
	err := w.LogStore.StoreLogs(l)
	w.node.pace.end(time.Now())
	if err == nil && len(l) > 0 {
		w.node.learner.appended(l[len(l)-1].Index)
	}
	return err
}

// others reports whether another node can go on without this one.
func (n *Node) others() bool { return n.up.Load() && n.Voters() > 1 }

// DeleteRange implements raft.LogStore.
func (w watchedLog) DeleteRange(from, to uint64) error {
	if last, err := w.LogStore.LastIndex(); err != nil || to >= last { // its tail, not what is old
		w.cut.Store(true)
	}
	return w.LogStore.DeleteRange(from, to)
}

// IsMonotonic implements raft.MonotonicLogStore.
func (w watchedLog) IsMonotonic() bool {
	m, ok := w.LogStore.(raft.MonotonicLogStore)
	return ok && m.IsMonotonic()
}
