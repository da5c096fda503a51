package consensus

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// roads is a network of which only the arrivals matter.
type roads struct {
	network
	arrivals chan raft.RPC
}

func (r roads) Consumer() <-chan raft.RPC { return r.arrivals }

// TestNobodyIsAnsweredBeforeRaftIsThere: a node that is asked for its vote while it
// still opens its log has no raft to ask who the members are.
func TestNobodyIsAnsweredBeforeRaftIsThere(t *testing.T) {
	n := openAlone(t, t.TempDir(), &swapRing{ring: *newRing(1)})
	early := &transport{network: roads{arrivals: make(chan raft.RPC)}, node: &Node{}, rpcs: make(chan raft.RPC), begun: make(chan struct{}), stop: make(chan struct{})}
	defer close(early.stop)
	arrivals := early.network.(roads).arrivals
	go early.pass()
	vote := raft.RPC{Command: &raft.RequestPreVoteRequest{}, RespChan: make(chan raft.RPCResponse, 1)}
	select {
	case arrivals <- vote:
		t.Fatal("a request for a vote passed before there was a raft")
	case <-time.After(50 * time.Millisecond):
	}
	early.node, early.late = n, waiting{led: n.led, orphaned: n.orphaned}
	early.begin()
	arrivals <- vote
	if got := <-early.rpcs; got.Command != vote.Command {
		t.Errorf("raft was given %v", got.Command)
	}
}

// TestAVoteIsAskedForUntilTheLeaderIsGivenUp: of two followers that lost their leader
// the first to give it up is not refused by the second, but answered later.
func TestAVoteIsAskedForUntilTheLeaderIsGivenUp(t *testing.T) {
	n := openAlone(t, t.TempDir(), &swapRing{ring: *newRing(1)})
	var led, orphaned atomic.Bool
	led.Store(true)
	arrivals := make(chan raft.RPC)
	tr := &transport{network: roads{arrivals: arrivals}, node: n, rpcs: make(chan raft.RPC), begun: make(chan struct{}), stop: make(chan struct{}),
		late: waiting{led: led.Load, orphaned: orphaned.Load}}
	defer close(tr.stop)
	tr.begin()
	go tr.pass()
	vote := raft.RPC{Command: &raft.RequestPreVoteRequest{}, RespChan: make(chan raft.RPCResponse, 1)}
	arrivals <- vote
	if got := <-tr.rpcs; got.Command != vote.Command {
		t.Fatal("a request for a vote waited although the leader lives")
	}
	orphaned.Store(true)
	arrivals <- vote
	entries := raft.RPC{Command: &raft.AppendEntriesRequest{}, RespChan: make(chan raft.RPCResponse, 1)}
	arrivals <- entries
	if got := <-tr.rpcs; got.Command != entries.Command {
		t.Error("a request for a vote was given to a raft that would refuse it, before what came after it")
	}
	led.Store(false)
	if got := <-tr.rpcs; got.Command != vote.Command {
		t.Errorf("raft was given %T", got.Command)
	}
	led.Store(true)
	for range maxVoters {
		arrivals <- vote
	}
	arrivals <- vote // more than there are voters do not wait
	if got := <-tr.rpcs; got.Command != vote.Command {
		t.Errorf("raft was given %T", got.Command)
	}
}
