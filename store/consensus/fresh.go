package consensus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/consensus/rpc"
)

// A linearizable read takes the leader's commit index, has a quorum confirm that
// the leader's term has not ended, and waits until the index is applied here.
// The confirmation must be given after the read began: raft's VerifyLeader would
// not do, since it counts answers to requests sent before, so a leader that was
// stopped and goes on could serve the past. A peer confirms by its current term
// alone: raft makes a term durable before it grants a vote in it, so a peer that
// is still in the leader's term has not helped to elect a later one. Reads that
// wait at the same time share a round.

const (
	maxRounds  = 2 // that may be under way at once
	retryAfter = 20 * time.Millisecond
	nudgeAfter = 200 * time.Millisecond
)

var (
	errNotLeading = errors.New("this node does not lead")
	errTermEnded  = errors.New("another node leads")
)

// round is what several reads wait for.
type round struct {
	done  chan struct{}
	index uint64 // set before done is closed
	err   error
}

// rounds lets reads share a round: one that has not started is joined by all who
// come.
type rounds struct {
	start func(end func(index uint64, err error))

	mu      sync.Mutex // guards all below
	waiting *round
	busy    int
}

// join returns a round that starts after now.
func (r *rounds) join() *round {
	r.mu.Lock()
	if r.waiting == nil {
		r.waiting = &round{done: make(chan struct{})}
	}
	mine := r.waiting
	launch := r.launch()
	r.mu.Unlock()
	r.begin(launch)
	return mine
}

// launch takes the waiting round when it may start; mu is held.
func (r *rounds) launch() *round {
	if r.waiting == nil || r.busy >= maxRounds {
		return nil
	}
	next := r.waiting
	r.waiting = nil
	r.busy++
	return next
}

func (r *rounds) begin(next *round) {
	if next == nil {
		return
	}
	r.start(func(index uint64, err error) {
		next.index, next.err = index, err
		close(next.done)
		r.mu.Lock()
		r.busy--
		launch := r.launch()
		r.mu.Unlock()
		r.begin(launch)
	})
}

// fresh returns once everything that was acknowledged anywhere before it was
// called is visible here.
func (n *Node) fresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, store.ErrBusy)
	defer cancel()
	for {
		role := n.helm.now()
		var err error
		switch {
		case role.reign != nil && n.solitary():
			return nil // it has applied whatever was acknowledged anywhere
		case role.reign != nil:
			err = n.freshBy(ctx, &n.confirms)
		case role.leader != nil:
			err = n.freshBy(ctx, &n.asks)
		default:
			err = errNotLeading
		}
		if err == nil || errors.Is(err, store.ErrClosed) {
			return err
		}
		select {
		case <-role.changed:
		case <-time.After(retryAfter):
		case <-n.dead:
			return n.closed()
		case <-ctx.Done():
			if context.Cause(ctx) != store.ErrBusy {
				return ctx.Err()
			}
			if why := n.trouble(); why != nil {
				return why
			}
			return fmt.Errorf("%w: %w", store.ErrBusy, err)
		}
	}
}

// solitary reports whether this node is all of the cluster.
func (n *Node) solitary() bool { return len(n.servers()) == 1 }

func (n *Node) freshBy(ctx context.Context, by *rounds) error {
	r := by.join()
	select {
	case <-r.done:
	case <-n.dead:
		return n.closed()
	case <-ctx.Done():
		return ctx.Err()
	}
	if r.err != nil {
		return r.err
	}
	soon, cancel := context.WithTimeout(ctx, nudgeAfter)
	defer cancel()
	err := n.progress.reach(soon, r.index, n)
	if err == nil || soon.Err() == nil {
		return err
	}
	n.nudge()
	return n.progress.reach(ctx, r.index, n)
}

// nudge proposes an empty group: the state machine does not hear of entries that
// are raft's own, so a read that waits for one waits for the next group.
func (n *Node) nudge() {
	if n.nudging.CompareAndSwap(false, true) {
		n.tasks.Go(func() {
			defer n.nudging.Store(false)
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			_, err := n.Apply(ctx, store.NewTx())
			n.log.Debug("an empty group was proposed for a read", "error", err)
		})
	}
}

// ask is a round of a node that follows: one question to the leader.
func (n *Node) ask(end func(uint64, error)) {
	leader := n.helm.now().leader
	if leader == nil {
		go end(0, errNotLeading)
		return
	}
	term := binary.BigEndian.AppendUint64(nil, n.raft.CurrentTerm())
	leader.Ask(kindRead, term, func(b []byte, err error) {
		if err == nil && len(b) != 16 {
			err = errForward
		}
		if err != nil {
			go end(0, err)
			return
		}
		index := binary.BigEndian.Uint64(b[8:])
		n.learn(binary.BigEndian.Uint64(b), index)
		end(index, nil)
	})
}

// confirm is a round of the leader: one question to each voter.
func (n *Node) confirm(end func(uint64, error)) {
	reign := n.helm.now().reign
	if reign == nil {
		go end(0, errNotLeading)
		return
	}
	index := n.raft.CommitIndex()
	voters, self := n.voters()
	c := &confirmation{node: n, term: reign.term, index: index, end: end}
	c.need.Store(int64(len(voters)+self)/2 + 1 - int64(self))
	c.left.Store(int64(len(voters)))
	if c.need.Load() <= 0 {
		go c.finish(n.stillLeads(reign.term))
		return
	}
	body := binary.BigEndian.AppendUint64(nil, reign.term)
	for _, v := range voters {
		client := n.mesh.client(v)
		if client == nil {
			go c.count(nil, errNotLeading)
			continue
		}
		client.Ask(kindConfirm, body, c.count)
	}
}

// confirmation counts the answers to one round.
type confirmation struct {
	node  *Node
	term  uint64
	index uint64
	end   func(uint64, error)
	need  atomic.Int64 // confirmations that are missing
	left  atomic.Int64 // answers that are missing
	once  sync.Once
}

func (c *confirmation) count(b []byte, err error) {
	left := c.left.Add(-1)
	if err == nil && len(b) == 8 && binary.BigEndian.Uint64(b) <= c.term {
		if c.need.Add(-1) == 0 {
			c.finish(c.node.stillLeads(c.term))
			return
		}
	}
	if left == 0 && c.need.Load() > 0 {
		go c.finish(errTermEnded)
	}
}

func (c *confirmation) finish(err error) { c.once.Do(func() { c.end(c.index, err) }) }

// stillLeads reports an error unless this node leads in a term.
func (n *Node) stillLeads(term uint64) error {
	if n.raft.State() != raft.Leader || n.raft.CurrentTerm() != term {
		return errTermEnded
	}
	return nil
}

// voters are the other nodes that vote, and 1 when this one does.
func (n *Node) voters() (others []string, self int) {
	for _, s := range n.servers() {
		switch {
		case s.Suffrage != raft.Voter:
		case string(s.ID) == n.cfg.NodeID:
			self = 1
		default:
			others = append(others, string(s.ID))
		}
	}
	return others, self
}

// read answers a follower's read. The question itself confirms the term for this
// one read when the follower votes: it was sent after the read began.
func (in *inbound) read(id uint64, b []byte) error {
	n := in.node
	reign := n.helm.now().reign
	if len(b) != 8 {
		return errForward
	}
	if reign == nil || binary.BigEndian.Uint64(b) > reign.term {
		return in.conn.Send(rpc.Refusal, id, []byte(errNotLeading.Error()))
	}
	others, self := n.voters()
	need := (len(others)+self)/2 + 1 - self
	for _, v := range others {
		if v == in.peer {
			need--
		}
	}
	if need <= 0 {
		index := n.raft.CommitIndex()
		if err := n.stillLeads(reign.term); err != nil {
			return in.conn.Send(rpc.Refusal, id, []byte(err.Error()))
		}
		return in.index(id, reign.term, index)
	}
	r := n.confirms.join()
	go func() {
		<-r.done
		if r.err != nil {
			_ = in.conn.Send(rpc.Refusal, id, []byte(r.err.Error()))
			return
		}
		_ = in.index(id, reign.term, r.index)
	}()
	return nil
}

func (in *inbound) index(id, term, index uint64) error {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 16), term)
	return in.conn.Send(rpc.Answer, id, binary.BigEndian.AppendUint64(b, index))
}
