package consensus

import (
	"fmt"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/hashicorp/raft"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/consensus/rpc"
)

// statusEvery is how often the leader asks each member how it does, and recently
// how long an answer counts.
const (
	statusEvery = time.Second
	recently    = 5 * time.Second
)

// status is how a node does.
type status struct {
	V         int         `cbor:"1,keyasint"` // version of this message
	Program   string      `cbor:"2,keyasint"`
	Format    int         `cbor:"3,keyasint"`
	Term      uint64      `cbor:"4,keyasint"`
	LastIndex uint64      `cbor:"5,keyasint"`
	LastTerm  uint64      `cbor:"6,keyasint"`
	Commit    uint64      `cbor:"7,keyasint"`
	Applied   uint64      `cbor:"8,keyasint"`
	Clock     int64       `cbor:"9,keyasint"` // its time in ns
	FreeBytes int64       `cbor:"10,keyasint"`
	Fsync     int64       `cbor:"11,keyasint"` // what an append to its log typically takes, in ns
	Chains    []chainLink `cbor:"12,keyasint"`
	New       bool        `cbor:"13,keyasint,omitempty"` // it has just started and does not vote yet, see known
}

func (n *Node) status() status {
	last := n.raft.LastIndex()
	var l raft.Log
	_ = n.logs.GetLog(last, &l) // 0 when the log holds nothing above a snapshot
	free, err := n.cfg.FreeBytes(n.cfg.Dir)
	if err != nil {
		free = -1
	}
	return status{
		V: 1, Program: n.cfg.Program, Format: store.Format, Term: n.raft.CurrentTerm(), LastIndex: last, LastTerm: l.Term,
		Commit: n.raft.CommitIndex(), Applied: uint64(n.machine.Applied()), Clock: n.cfg.Now().UnixNano(), FreeBytes: free,
		Fsync: int64(n.pace.fsync()), Chains: n.chains.all(), New: n.unvouched(),
	}
}

// status answers the leader, which tells what it knows of the others.
func (in *inbound) status(id uint64, b []byte) error {
	var all map[string]proof
	if err := cbor.Unmarshal(b, &all); err != nil {
		return fmt.Errorf("a question that cannot be read: %w", err)
	}
	in.node.hear(all[in.node.cfg.NodeID])
	delete(all, in.node.cfg.NodeID)
	in.node.known.merge(all)
	b, err := cbor.Marshal(in.node.status())
	if err != nil {
		return err
	}
	return in.conn.Send(rpc.Answer, id, b)
}

// peerStatus is the last answer of a peer.
type peerStatus struct {
	status
	at     time.Time     // when it was received
	offset time.Duration // of its clock from this node's steady one
}

// census is what this node knows of the others, from their answers.
type census struct {
	mu  sync.Mutex
	all map[string]peerStatus
}

func (c *census) get(id string) (peerStatus, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, ok := c.all[id]
	return s, ok
}

func (c *census) put(id string, s peerStatus) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		c.all = map[string]peerStatus{}
	}
	c.all[id] = s
}

// inquire asks each other member how it does, for the time and the leader's duties.
func (n *Node) inquire() {
	tick := time.NewTicker(statusEvery)
	defer tick.Stop()
	for {
		select {
		case <-n.dead:
			return
		case <-tick.C:
		}
		n.mesh.follow(n.servers())
		n.remember()
		for _, s := range n.servers() {
			if id := string(s.ID); id != n.cfg.NodeID {
				n.ask1(id)
			}
		}
		n.readClocks()
		if n.Leads() {
			n.duties()
		}
	}
}

// ask1 asks one member and notes its answer.
func (n *Node) ask1(id string) {
	client := n.mesh.client(id)
	if client == nil {
		return
	}
	body, err := cbor.Marshal(n.known.all())
	if err != nil {
		n.log.Error("a question could not be written", "error", err)
		return
	}
	sent := n.clock.steady()
	client.Ask(kindStatus, body, func(b []byte, err error) {
		now := n.clock.steady()
		var s status
		if err == nil {
			err = cbor.Unmarshal(b, &s)
		}
		if err != nil {
			n.log.Debug("a member did not say how it does", "member", id, "error", err)
			return
		}
		n.known.note(id, min(s.LastIndex, n.raft.CommitIndex()), s.Term)
		middle := sent.Add(now.Sub(sent) / 2)
		n.census.put(id, peerStatus{status: s, at: time.Now(), offset: time.Unix(0, s.Clock).Sub(middle)})
		if !n.clock.known() {
			n.readClocks()
		}
	})
}

// describe is a short word on a peer for an operator. A node that cannot be counted
// on if another dies now is not well.
func (s peerStatus) describe(now time.Time, connected bool, skew time.Duration) string {
	switch {
	case s.at.IsZero():
		return "the leader has not heard from it yet"
	case !connected:
		return "it does not answer the leader; look whether it runs"
	case s.New:
		return "it has just started, and the others compare its disk with what they know of it"
	case skew.Abs() > maxSkew:
		return fmt.Sprintf("its clock is %v off the median of the voters' clocks; set it right", skew.Round(time.Millisecond))
	case now.Sub(s.at) > recently:
		return fmt.Sprintf("the leader has not heard from it for %v", now.Sub(s.at).Round(time.Second))
	}
	return ""
}
