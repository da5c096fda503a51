package consensus

import (
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// When a leader dies its followers give it up one after the other, each in its own
// time. Whoever is first asks the others whether they would vote, and raft has those
// refuse that have not given the leader up yet; the asker then waits for half a second
// or more before it asks again, although all know that the leader is gone. So the
// question waits here until this node has given up the leader too, as it might wait
// in the network, which changes nothing but the time. It waits a little longer still,
// so that this node, if it can win, has won before: two that ask each other in the
// same moment both win the question and split the vote.
const (
	waitsFor  = time.Second            // at most; then raft refuses
	waitsMore = 100 * time.Millisecond // after the leader was given up
	waitsStep = 10 * time.Millisecond
)

// waiting is where the questions wait.
type waiting struct {
	held     atomic.Int32
	orphaned func() bool // the leader's connection is broken
	led      func() bool // raft has not given the leader up
}

// takes reports whether a message has to wait, and counts it if so; hold uncounts it.
func (w *waiting) takes(command any) bool {
	if _, ok := command.(*raft.RequestPreVoteRequest); !ok || !w.led() || !w.orphaned() {
		return false
	}
	if w.held.Add(1) > maxVoters {
		w.held.Add(-1)
		return false
	}
	return true
}

// wait returns once the time has come, false when stop is closed before.
func (w *waiting) wait(stop <-chan struct{}) bool {
	end := time.Now().Add(waitsFor)
	for w.led() && time.Now().Before(end) {
		if !pause(waitsStep, stop) {
			return false
		}
	}
	return pause(waitsMore, stop)
}

func pause(d time.Duration, stop <-chan struct{}) bool {
	select {
	case <-time.After(d):
		return true
	case <-stop:
		return false
	}
}

// orphaned reports whether another node leads, as far as raft knows, to which this
// node has no connection.
func (n *Node) orphaned() bool {
	_, id := n.raft.LeaderWithID()
	return id != "" && string(id) != n.cfg.NodeID && n.mesh.client(string(id)) == nil
}

// led reports whether raft follows a leader.
func (n *Node) led() bool {
	_, id := n.raft.LeaderWithID()
	return id != "" && string(id) != n.cfg.NodeID
}
