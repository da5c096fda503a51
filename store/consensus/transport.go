package consensus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// raftWithin is how long a peer may take over one of raft's messages.
	raftWithin = 5 * time.Second
	// maxUnanswered bounds what a raft connection may carry before this end
	// answers: raft.Config.MaxAppendEntries groups and their overhead.
	maxUnanswered = 16 << 20
)

// network is what carries raft's messages: raft.NetworkTransport over Peers, or
// raft.InmemTransport for a node that is alone.
type network interface {
	raft.Transport
	raft.WithPreVote
	raft.WithClose
}

// transport is raft's road to the peers. It keeps heartbeats off the network's
// goroutine: handled there, one can change the term while the leader writes
// (hashicorp/raft issue 695). What arrives passes through it, so that a node
// that may not vote does not, and so that this node can give raft messages of
// its own making.
type transport struct {
	network
	node  *Node
	named bool // targets carry the peer's id as well
	rpcs  chan raft.RPC
	begun chan struct{} // closed when the node has its raft; nothing passes before
	stop  chan struct{}
	// taking is the term in which raft's goroutine takes over the leader's data, 0
	// when it does not.
	taking atomic.Uint64
	// late is where requests for a vote wait, see hold.
	late waiting
}

func newTransport(n *Node) *transport {
	t := &transport{node: n, rpcs: make(chan raft.RPC), begun: make(chan struct{}), stop: make(chan struct{})}
	t.late = waiting{orphaned: n.orphaned, led: n.led}
	if n.cfg.Peers == nil {
		_, inner := raft.NewInmemTransport(raft.ServerAddress(n.cfg.NodeID))
		t.network = inner
	} else {
		t.named = true
		t.network = raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
			Stream:  &stream{n.cfg.Peers.Listener(RaftProtocol), n.cfg.Peers, n.cfg.Address},
			MaxPool: 3, Timeout: raftWithin, Logger: raftLogger(n.log),
		})
	}
	go t.pass()
	return t
}

// Consumer implements raft.Transport.
func (t *transport) Consumer() <-chan raft.RPC { return t.rpcs }

// SetHeartbeatHandler does nothing, so every request runs on raft's goroutine.
func (*transport) SetHeartbeatHandler(func(raft.RPC)) {}

// begin lets pass what arrives: peers may ask for this node's vote while raft is
// still reading its log.
func (t *transport) begin() { close(t.begun) }

// pass hands on what arrives from the network.
func (t *transport) pass() {
	select {
	case <-t.begun:
	case <-t.stop:
		return
	}
	for {
		var rpc raft.RPC
		select {
		case rpc = <-t.network.Consumer():
		case <-t.stop:
			return
		}
		if err := t.admit(rpc.Command); err != nil {
			rpc.Respond(nil, err)
			continue
		}
		if term := t.taking.Load(); term > 0 {
			if !t.stillHere(rpc, term) {
				go t.give(rpc)
			}
			continue
		}
		if t.late.takes(rpc.Command) {
			go t.hold(rpc)
			continue
		}
		if !t.give(rpc) {
			return
		}
	}
}

// hold gives raft a request for a vote once this node has given up its leader too.
func (t *transport) hold(rpc raft.RPC) {
	defer t.late.held.Add(-1)
	if t.late.wait(t.stop) {
		t.give(rpc)
	}
}

// stillHere answers a heartbeat while raft's own goroutine takes over the leader's
// data, which may be long: as raft would, and changing nothing. Otherwise a leader
// whose followers all get its data would believe that it lost them.
func (t *transport) stillHere(rpc raft.RPC, term uint64) bool {
	a, ok := rpc.Command.(*raft.AppendEntriesRequest)
	if !ok || a.Term != term || t.node.raft.CurrentTerm() != term || a.PrevLogEntry > 0 || len(a.Entries) > 0 || a.LeaderCommitIndex > 0 {
		return false
	}
	rpc.Respond(&raft.AppendEntriesResponse{
		RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(t.node.cfg.NodeID)},
		Term:      term, LastLog: t.node.raft.LastIndex(), Success: true,
	}, nil)
	return true
}

func (t *transport) give(rpc raft.RPC) bool {
	select {
	case t.rpcs <- rpc:
		return true
	case <-t.stop:
		return false
	}
}

// admit refuses what raft must not see.
func (t *transport) admit(command any) error {
	switch command.(type) {
	case *raft.InstallSnapshotRequest:
		return errors.New("a snapshot comes over the store's own protocol")
	case *raft.RequestVoteRequest, *raft.RequestPreVoteRequest:
		return t.node.mayVote()
	}
	return nil
}

// inject gives raft a message as if a peer had sent it, and does not wait for
// what raft answers.
func (t *transport) inject(command any) {
	t.give(raft.RPC{Command: command, RespChan: make(chan raft.RPCResponse, 1)})
}

// EncodePeer implements raft.Transport.
func (*transport) EncodePeer(_ raft.ServerID, a raft.ServerAddress) []byte { return []byte(a) }

// target names the peer beside its address, since Peers.Dial proves who answers.
func (t *transport) target(id raft.ServerID, a raft.ServerAddress) raft.ServerAddress {
	if !t.named {
		return a
	}
	return raft.ServerAddress(string(id) + "\x00" + string(a))
}

// AppendEntriesPipeline implements raft.Transport.
func (t *transport) AppendEntriesPipeline(id raft.ServerID, a raft.ServerAddress) (raft.AppendPipeline, error) {
	p, err := t.network.AppendEntriesPipeline(id, t.target(id, a))
	if err != nil {
		return nil, err
	}
	return newPipeline(p), nil
}

// AppendEntries implements raft.Transport. raft tries a peer that is away less
// and less often, so entries wait here for its return. Heartbeats do not.
func (t *transport) AppendEntries(id raft.ServerID, a raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if req.PrevLogEntry > 0 || len(req.Entries) > 0 {
		t.node.awaitMember(string(id))
	}
	return t.network.AppendEntries(id, t.target(id, a), req, resp)
}

// RequestVote implements raft.Transport.
func (t *transport) RequestVote(id raft.ServerID, a raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if err := t.node.mayVote(); err != nil {
		return err
	}
	return t.network.RequestVote(id, t.target(id, a), req, resp)
}

// RequestPreVote implements raft.WithPreVote.
func (t *transport) RequestPreVote(id raft.ServerID, a raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if err := t.node.mayVote(); err != nil {
		return err
	}
	return t.network.RequestPreVote(id, t.target(id, a), req, resp)
}

// TimeoutNow implements raft.Transport.
func (t *transport) TimeoutNow(id raft.ServerID, a raft.ServerAddress, req *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return t.network.TimeoutNow(id, t.target(id, a), req, resp)
}

// Close implements raft.WithClose. raft closes its transport when it has ended.
func (t *transport) Close() error {
	close(t.stop)
	return t.network.Close()
}

// stream gives raft.NetworkTransport the connections of Peers.
type stream struct {
	net.Listener
	peers   Peers
	address string
}

// Addr implements net.Listener: the address as others dial it.
func (s *stream) Addr() net.Addr { return address(s.address) }

// Accept implements net.Listener.
func (s *stream) Accept() (net.Conn, error) {
	c, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &bounded{Conn: c}, nil
}

// Dial implements raft.StreamLayer.
func (s *stream) Dial(target raft.ServerAddress, within time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	id, addr, _ := strings.Cut(string(target), "\x00")
	c, err := s.peers.Dial(ctx, Peer{ID: id, Address: addr}, RaftProtocol)
	if err != nil {
		return nil, err
	}
	return &bounded{Conn: c}, nil
}

type address string

// Network implements net.Addr.
func (address) Network() string { return "tcp" }

// String implements net.Addr.
func (a address) String() string { return string(a) }

// bounded ends a raft connection whose peer sends more than any message of raft
// can hold: raft's own protocol announces lengths and believes them.
type bounded struct {
	net.Conn
	unanswered atomic.Int64 // bytes read since this end wrote
}

// Read implements net.Conn.
func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.Conn.Read(p)
	if b.unanswered.Add(int64(n)) > maxUnanswered {
		b.Conn.Close()
		return 0, fmt.Errorf("a message of more than %d MiB from %s: it is no node of this program", maxUnanswered>>20, b.RemoteAddr())
	}
	return n, err
}

// Write implements net.Conn.
func (b *bounded) Write(p []byte) (int, error) {
	b.unanswered.Store(0)
	return b.Conn.Write(p)
}
