package consensus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/hashicorp/raft"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/consensus/rpc"
)

// manageWithin is how long a change of the members may take.
const manageWithin = 30 * time.Second

// order is a question about the members or a change of them, for the leader.
type order struct {
	V    int    `cbor:"1,keyasint"` // version of this message
	Verb string `cbor:"2,keyasint"`
	Peer Peer   `cbor:"3,keyasint"`
	// Again: it was given before to a leader that lost the lead over it, which may have
	// done it or not.
	Again bool `cbor:"4,keyasint,omitempty"`
}

// errLostLead is errNotLeading of who had begun an order.
var errLostLead = fmt.Errorf("%w any more, and what it had begun may be done or not", errNotLeading)

// The verbs of an order.
const (
	verbList      = "list"
	verbAdd       = "add"
	verbRemove    = "remove"
	verbTransfer  = "transfer"
	verbReaddress = "readdress"
)

// Members lists the nodes of the cluster.
func (n *Node) Members(ctx context.Context) ([]Member, error) {
	var all []Member
	if err := n.order(ctx, order{Verb: verbList}, &all); err != nil {
		return nil, err
	}
	for i := range all {
		all[i].Self = all[i].ID == n.cfg.NodeID
	}
	return all, nil
}

// Voters is how many nodes vote, as far as this one knows.
func (n *Node) Voters() (count int) {
	for _, s := range n.servers() {
		if s.Suffrage == raft.Voter {
			count++
		}
	}
	return count
}

// AddNonvoter adds a node. It is promoted to a voter once it has caught up and
// stayed so for a while. From any node.
func (n *Node) AddNonvoter(ctx context.Context, p Peer) error {
	if p.ID == "" || p.Address == "" {
		return fmt.Errorf("%w: a member needs a name and an address", store.ErrInvalid)
	}
	return n.order(ctx, order{Verb: verbAdd, Peer: p}, nil)
}

// Remove takes a node out of the cluster for ever. From any node.
func (n *Node) Remove(ctx context.Context, id string) error {
	return n.order(ctx, order{Verb: verbRemove, Peer: Peer{ID: id}}, nil)
}

// Transfer hands leadership to a voter, "" = any that is fit. From any node.
func (n *Node) Transfer(ctx context.Context, id string) error {
	return n.order(ctx, order{Verb: verbTransfer, Peer: Peer{ID: id}}, nil)
}

// Readdress tells the cluster a node's new address. From any node.
func (n *Node) Readdress(ctx context.Context, p Peer) error {
	if p.Address == "" {
		return fmt.Errorf("%w: a member needs an address", store.ErrInvalid)
	}
	return n.order(ctx, order{Verb: verbReaddress, Peer: p}, nil)
}

// orderAgain is how soon an order is given again to a leader that refused it.
const orderAgain = 50 * time.Millisecond

// order carries out an order, or has the leader do it.
func (n *Node) order(ctx context.Context, o order, answer any) error {
	if n.cfg.Peers == nil && o.Verb != verbList {
		return fmt.Errorf("%w: this node is alone; give it a peer address first", store.ErrInvalid)
	}
	ctx, cancel := context.WithTimeout(ctx, manageWithin)
	defer cancel()
	o.V = 1
	for {
		role := n.helm.now()
		var b []byte
		var err error
		switch {
		case role.reign != nil:
			b, err = n.obey(ctx, o)
		case role.leader != nil:
			b, err = n.send(ctx, role.leader, o)
		default:
			err = errNotLeading
		}
		if err == nil && answer != nil {
			err = cbor.Unmarshal(b, answer)
		}
		if err == nil || !errors.Is(err, errNotLeading) {
			return err
		}
		o.Again = o.Again || errors.Is(err, errLostLead)
		select {
		case <-role.changed:
		case <-time.After(orderAgain): // a leader that was elected a moment ago does not lead yet
		case <-n.dead:
			return n.closed()
		case <-ctx.Done():
			if why := n.trouble(); why != nil {
				return why
			}
			return ctx.Err()
		}
	}
}

func (n *Node) send(ctx context.Context, leader *rpc.Client, o order) ([]byte, error) {
	b, err := cbor.Marshal(o)
	if err != nil {
		return nil, err
	}
	b, err = leader.Call(ctx, kindManage, b)
	var refused *rpc.RefusedError
	switch {
	case err == nil:
		return b, nil
	case errors.As(err, &refused):
		for _, known := range []error{errNotLeading, errLostLead} {
			if refused.Reason == known.Error() {
				return nil, known
			}
		}
	case ctx.Err() == nil && o.Verb != verbTransfer: // the connection broke, and the leader with it
		return nil, errLostLead
	}
	return nil, err
}

// manage answers a peer's order.
func (in *inbound) manage(id uint64, b []byte) {
	ctx, cancel := context.WithTimeout(context.Background(), manageWithin)
	defer cancel()
	var o order
	err := cbor.Unmarshal(b, &o)
	var answer []byte
	if err == nil {
		if in.node.Leads() {
			answer, err = in.node.obey(ctx, o)
		} else {
			err = errNotLeading
		}
	}
	switch { // the caller looks for just these two
	case errors.Is(err, errLostLead):
		err = errLostLead
	case errors.Is(err, errNotLeading):
		err = errNotLeading
	}
	if err != nil {
		_ = in.conn.Send(rpc.Refusal, id, []byte(err.Error()))
		return
	}
	_ = in.conn.Send(rpc.Answer, id, answer)
}

// obey carries out an order at the leader.
func (n *Node) obey(ctx context.Context, o order) ([]byte, error) {
	switch o.Verb {
	case verbList:
		return cbor.Marshal(n.roll())
	case verbAdd:
		return nil, n.add(o.Peer)
	case verbRemove:
		err := n.remove(o.Peer.ID)
		if o.Again && errors.Is(err, store.ErrNotFound) {
			err = nil // it was done the first time
		}
		return nil, err
	case verbTransfer:
		return nil, n.transfer(o.Peer.ID)
	case verbReaddress:
		return nil, n.readdress(o.Peer)
	default:
		return nil, fmt.Errorf("the order %q: this node runs an earlier version of the program", o.Verb)
	}
}

// member finds a server of the configuration.
func (n *Node) member(id string) (raft.Server, bool) {
	for _, s := range n.servers() {
		if string(s.ID) == id {
			return s, true
		}
	}
	return raft.Server{}, false
}

// changed is the outcome of a change of raft's configuration.
func changed(op string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrLeadershipLost):
		return fmt.Errorf("%s: %w", op, errLostLead)
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return fmt.Errorf("%s: %w", op, errNotLeading)
	default:
		return fmt.Errorf("%s: %w", op, err)
	}
}

// settled is nil when a server of the configuration, or its absence, is committed. A
// change that is only in this node's log may be undone by the next leader, so no order
// is answered by it: who heard "no such node" would empty the disk of a voter.
func (n *Node) settled(id string) error {
	before, _ := n.member(id)
	if err := n.applyNothing(); err != nil {
		return changed("settle the members", err)
	}
	if now, _ := n.member(id); now != before {
		return errNotLeading
	}
	return nil
}

func (n *Node) add(p Peer) error {
	s, known := n.member(p.ID)
	switch {
	case known && string(s.Address) == p.Address:
		return n.settled(p.ID)
	case known:
		return n.readdress(p)
	case len(n.servers()) >= maxVoters:
		return fmt.Errorf("%w: a cluster has at most %d nodes; remove one first", store.ErrInvalid, maxVoters)
	}
	return changed("add "+p.ID, n.raft.AddNonvoter(raft.ServerID(p.ID), raft.ServerAddress(p.Address), 0, manageWithin).Error())
}

func (n *Node) remove(id string) error {
	if _, known := n.member(id); !known {
		if err := n.settled(id); err != nil {
			return err
		}
		return fmt.Errorf("%w: no node %s is in the cluster", store.ErrNotFound, id)
	}
	if len(n.servers()) == 1 {
		return fmt.Errorf("%w: %s is the only node", store.ErrInvalid, id)
	}
	if id == n.cfg.NodeID {
		// Who leads learns of its own removal last, from the next leader.
		if err := n.transfer(""); err != nil {
			return err
		}
		return errNotLeading
	}
	if err := changed("remove "+id, n.raft.RemoveServer(raft.ServerID(id), 0, manageWithin).Error()); err != nil {
		return err
	}
	n.visitors.farewell(id)
	return nil
}

func (n *Node) transfer(id string) error {
	if id == n.cfg.NodeID {
		return nil
	}
	if id == "" {
		if id = n.fittest(); id == "" {
			return fmt.Errorf("%w: no other voter is connected, so leadership stays", store.ErrBusy)
		}
	}
	s, known := n.member(id)
	if !known || s.Suffrage != raft.Voter {
		return fmt.Errorf("%w: no voter %s is in the cluster", store.ErrNotFound, id)
	}
	return n.handOver(s)
}

// handOver has raft hand leadership to a voter and waits until this node leads no
// more. raft's own answer is not waited for: raft gives none to a transfer that is
// in line when raft ends.
func (n *Node) handOver(to raft.Server) error {
	n.raft.LeadershipTransferToServer(to.ID, to.Address)
	late := time.NewTimer(2 * heartbeatTimeout) // raft gives up after one
	defer late.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for n.helm.leading() {
		select {
		case <-tick.C:
		case <-n.dead:
			return n.closed()
		case <-late.C:
			return fmt.Errorf("%w: %s did not take the lead within %v; look whether it runs and how far it is behind",
				store.ErrBusy, to.ID, 2*heartbeatTimeout)
		}
	}
	return nil
}

// fittest is the connected voter that has most of the log and whose clock is right,
// "" when there is none.
func (n *Node) fittest() (id string) {
	best := uint64(0)
	others, _ := n.voters()
	for _, v := range others {
		if n.mesh.client(v) == nil {
			continue
		}
		s, heard := n.census.get(v)
		if heard && n.clock.known() && n.skewOf(s).Abs() > maxSkew {
			continue
		}
		if id == "" || s.LastIndex > best {
			id, best = v, s.LastIndex
		}
	}
	return id
}

func (n *Node) readdress(p Peer) error {
	s, known := n.member(p.ID)
	if !known {
		return fmt.Errorf("%w: no node %s is in the cluster", store.ErrNotFound, p.ID)
	}
	if s.Suffrage == raft.Voter {
		return changed("readdress "+p.ID, n.raft.AddVoter(s.ID, raft.ServerAddress(p.Address), 0, manageWithin).Error())
	}
	return changed("readdress "+p.ID, n.raft.AddNonvoter(s.ID, raft.ServerAddress(p.Address), 0, manageWithin).Error())
}

// readdressSelf corrects this node's own address, which is its name in a cluster
// that was founded by a node alone.
func (n *Node) readdressSelf() error {
	s, known := n.member(n.cfg.NodeID)
	if !known || n.cfg.Peers == nil || string(s.Address) == n.cfg.Address {
		return nil
	}
	return n.readdress(Peer{ID: n.cfg.NodeID, Address: n.cfg.Address})
}

// roll is Members at the leader.
func (n *Node) roll() []Member {
	now := time.Now()
	var all []Member
	for _, s := range n.servers() {
		m := Member{ID: string(s.ID), Address: string(s.Address), Voter: s.Suffrage == raft.Voter}
		if m.ID == n.cfg.NodeID {
			own := n.status()
			m.Leader, m.Healthy, m.ClockOffset = true, true, n.clock.skew()
			m.Applied, m.Program, m.Format, m.FreeBytes = n.Applied(), own.Program, own.Format, own.FreeBytes
		} else {
			p, _ := n.census.get(m.ID)
			m.Applied, m.Program, m.Format, m.FreeBytes = store.Version(p.Applied), p.Program, p.Format, p.FreeBytes
			if n.clock.known() {
				m.ClockOffset = n.skewOf(p)
			}
			m.LastContact, m.Note = now.Sub(p.at), p.describe(now, n.mesh.client(m.ID) != nil, m.ClockOffset)
			if why := n.mesh.refused(m.ID); why != "" { // it may have no member to hear that from
				m.Note = why
			}
			m.Healthy = m.Note == ""
		}
		all = append(all, m)
	}
	return all
}
