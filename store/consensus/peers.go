package consensus

import (
	"context"
	"net"
	"time"

	"github.com/cloister-os/cloister/store"
)

// The protocols of the peer port that belong to the store. TLS names them by ALPN.
const (
	RaftProtocol  = "cloister-raft/1"
	StoreProtocol = "cloister-store/1"
)

// Peer is a node as the others reach it.
type Peer struct{ ID, Address string }

// Peers is the road to the other nodes. What it gives must be confidential and
// prove who is at the other end: node/cluster gives mutual TLS.
type Peers interface {
	// Listener gives the connections of a protocol that members opened. A
	// connection that has a method PeerID() string says by it which node is at
	// its other end.
	Listener(protocol string) net.Listener
	// Dial opens a connection and proves that the node at its other end is p.ID.
	Dial(ctx context.Context, p Peer, protocol string) (net.Conn, error)
}

// PeerConn is a connection that knows the node at its other end.
type PeerConn interface {
	net.Conn
	PeerID() string
}

// Member is a node of the cluster as the node that was asked sees it. What only
// the leader knows of the others (Healthy, Applied, LastContact and below) comes
// from the leader.
type Member struct {
	ID, Address string
	Voter       bool // false until it is promoted
	Leader      bool
	Self        bool // the node that was asked
	Healthy     bool // heard from lately, not far behind, its clock near the median
	Applied     store.Version
	LastContact time.Duration // since the leader heard from it; 0 for the leader itself
	ClockOffset time.Duration // its clock minus the voters' median
	Program     string        // version of its program
	Format      int           // newest data format that it can write
	FreeBytes   int64         // of its disk
	Note        string        // why it does not vote or is not healthy, a sentence; empty = all is well
}
