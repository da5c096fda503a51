package consensus

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// progress is the highest index of the log that this node has gone through:
// groups and changes of the members. raft's own AppliedIndex means queued.
type progress struct {
	mu      sync.Mutex // guards all below
	index   uint64
	changed chan struct{} // made when somebody waits, closed at a change
}

func (p *progress) at() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.index
}

func (p *progress) set(index uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if index <= p.index {
		return
	}
	p.index = index
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}

// reach waits until the node has gone through an index.
func (p *progress) reach(ctx context.Context, index uint64, n *Node) error {
	for {
		p.mu.Lock()
		if p.index >= index {
			p.mu.Unlock()
			return nil
		}
		if p.changed == nil {
			p.changed = make(chan struct{})
		}
		changed := p.changed
		p.mu.Unlock()
		select {
		case <-changed:
		case <-n.dead:
			return n.closed()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// A follower hears of a commit with raft's next message to it, which may be tens
// of milliseconds later. Whoever waits at a follower hears of it from the leader
// over the store's protocol; the follower then gives its raft the message that
// the leader's raft could have sent: no entries, the entry that must be there,
// and the commit index. raft checks it like any other.

// learner gives raft the commits that the leader told.
type learner struct {
	wake   chan struct{} // filled when there may be something to give
	stored atomic.Uint64 // the last index in this node's log

	mu    sync.Mutex // guards all below
	term  uint64
	index uint64
	given uint64
}

func newLearner() *learner { return &learner{wake: make(chan struct{}, 1)} }

// learn notes that an entry of the present term is committed.
func (n *Node) learn(term, index uint64) {
	l := n.learner
	l.mu.Lock()
	if term > l.term {
		l.term, l.index, l.given = term, 0, 0
	}
	if term == l.term {
		l.index = max(l.index, index)
	}
	l.mu.Unlock()
	l.ring()
}

func (l *learner) ring() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// appended is told of the log's growth.
func (l *learner) appended(index uint64) {
	l.stored.Store(index)
	l.mu.Lock()
	waits := l.index > l.given
	l.mu.Unlock()
	if waits {
		l.ring()
	}
}

func (l *learner) run(n *Node) {
	for {
		select {
		case <-l.wake:
		case <-n.dead:
			return
		}
		l.mu.Lock()
		term, index := l.term, l.index
		give := index > l.given && l.stored.Load() >= index
		if give {
			l.given = index
		}
		l.mu.Unlock()
		if !give || n.progress.at() >= index || n.raft.CurrentTerm() != term {
			continue
		}
		addr, id := n.raft.LeaderWithID()
		if id == "" || string(id) == n.cfg.NodeID {
			continue
		}
		n.transport.inject(&raft.AppendEntriesRequest{
			RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(id), Addr: []byte(addr)},
			Term:      term, PrevLogEntry: index, PrevLogTerm: term, LeaderCommitIndex: index,
		})
	}
}
