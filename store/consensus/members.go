package consensus

import (
	"context"
	"fmt"

	"github.com/cloister-os/cloister/store"
)

// Members lists the nodes of the cluster.
func (n *Node) Members(ctx context.Context) ([]Member, error) {
	if err := n.waitReady(ctx); err != nil {
		return nil, err
	}
	free, err := n.cfg.FreeBytes(n.cfg.Dir)
	if err != nil {
		return nil, err
	}
	return []Member{{
		ID: n.cfg.NodeID, Address: n.cfg.Address, Voter: true, Leader: n.Leads(), Self: true, Healthy: true,
		Applied: n.Applied(), Program: n.cfg.Program, Format: store.Format, FreeBytes: free,
	}}, nil
}

// Leader is the node that leads as far as this one knows, and whether it is this
// one; the zero Peer when none is known.
func (n *Node) Leader() (p Peer, self bool) {
	addr, id := n.raft.LeaderWithID()
	return Peer{ID: string(id), Address: string(addr)}, string(id) == n.cfg.NodeID
}

// Leads reports whether this node leads the cluster and has applied what its
// predecessors left.
func (n *Node) Leads() bool {
	_, self := n.Leader()
	return self
}

// LeadershipChanged returns a channel that is closed when another node leads, or
// none, or this one.
func (n *Node) LeadershipChanged() <-chan struct{} { return n.dead }

// AddNonvoter adds a node. It is promoted to a voter once it has caught up and
// stayed so for a while. From any node.
func (n *Node) AddNonvoter(ctx context.Context, p Peer) error { return n.alone() }

// Remove takes a node out of the cluster for ever. From any node.
func (n *Node) Remove(ctx context.Context, id string) error { return n.alone() }

// Transfer hands leadership to a node, "" = any that is fit. From any node.
func (n *Node) Transfer(ctx context.Context, id string) error { return n.alone() }

// Readdress tells the cluster a node's new address. From any node.
func (n *Node) Readdress(ctx context.Context, p Peer) error { return n.alone() }

// Healthy is nil when this node can serve: it leads a quorum, or heard lately
// from who does.
func (n *Node) Healthy(ctx context.Context) error { return n.waitReady(ctx) }

func (n *Node) alone() error {
	return fmt.Errorf("%w: this node is alone; give it a peer address first", store.ErrInvalid)
}
