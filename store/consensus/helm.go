package consensus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/consensus/rpc"
	"github.com/cloister-os/cloister/store/machine"
)

// reign is the time that this node leads in one term, from the moment when it
// has applied an entry of that term.
type reign struct{ term uint64 }

// role is what this node is at the moment. At most one of reign and leader is
// not nil; neither while nobody is known to lead.
type role struct {
	reign   *reign
	leader  *rpc.Client // to the node that leads
	id      string      // of the node that leads, "" = none is known
	since   time.Time
	changed chan struct{} // closed when this is no longer so
}

// helm knows who leads.
type helm struct {
	node *Node
	poke chan struct{} // filled when there may be something new

	mu     sync.Mutex // guards all below
	role   role
	reign  *reign
	notice chan struct{} // closed and replaced when another node leads
}

func newHelm(n *Node) *helm {
	return &helm{
		node: n, poke: make(chan struct{}, 1), notice: make(chan struct{}),
		role: role{changed: make(chan struct{}), since: time.Now()},
	}
}

// now is the node's role.
func (h *helm) now() role {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.role
}

// leading reports whether this node leads, settled or about to be.
func (h *helm) leading() bool { return h.node.raft.State() == raft.Leader }

// look makes the helm look again.
func (h *helm) look() {
	select {
	case h.poke <- struct{}{}:
	default:
	}
}

// run follows raft until the node ends.
func (h *helm) run() {
	n := h.node
	events := make(chan raft.Observation, 1)
	observer := raft.NewObserver(events, false, func(o *raft.Observation) bool {
		_, leader := o.Data.(raft.LeaderObservation)
		return leader
	})
	n.raft.RegisterObserver(observer)
	defer n.raft.DeregisterObserver(observer)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-n.dead:
			return
		case leads := <-n.raft.LeaderCh():
			h.take(leads)
		case <-events:
		case <-h.poke:
		case <-tick.C:
			h.takeAgain()
		}
		h.update()
	}
}

// take begins or ends a reign.
func (h *helm) take(leads bool) {
	var next *reign
	if leads {
		term, err := h.settle()
		if err != nil {
			h.node.log.Warn("could not take the lead", "error", err)
			return
		}
		next = &reign{term: term}
	}
	h.mu.Lock()
	h.reign = next
	h.mu.Unlock()
}

// takeAgain begins a reign that could not begin before: raft says only once that
// this node leads.
func (h *helm) takeAgain() {
	h.mu.Lock()
	reigns := h.reign != nil
	h.mu.Unlock()
	if !reigns && h.leading() {
		h.take(true)
	}
}

// settle takes the lead's first step.
func (h *helm) settle() (term uint64, err error) {
	n := h.node
	n.awaitClocks()
	term = n.raft.CurrentTerm()
	if err := n.applyNothing(); err != nil {
		return 0, err
	}
	if n.raft.CurrentTerm() != term {
		return 0, errors.New("another term began meanwhile")
	}
	if err := n.readdressSelf(); err != nil {
		return 0, err
	}
	return term, nil
}

// applyNothing has an empty group applied, and with it everything in the log before
// it. raft's own barrier would be an entry that the state machine never sees, for which
// fresh reads would wait.
func (n *Node) applyNothing() error {
	g := machine.Group{Time: n.clock.now(), Leader: n.leaderName()}
	f := n.raft.Apply(g.AppendTo(nil), 0)
	if err := f.Error(); err != nil {
		return err
	}
	err, _ := f.Response().(error)
	return err
}

// update brings the role up to date.
func (h *helm) update() {
	n := h.node
	_, id := n.raft.LeaderWithID()
	next := role{id: string(id)}
	h.mu.Lock()
	switch {
	case string(id) == n.cfg.NodeID && h.reign != nil:
		next.reign = h.reign
	case id != "" && string(id) != n.cfg.NodeID:
		next.leader = n.mesh.client(string(id))
	}
	old := h.role
	if old.reign == next.reign && old.leader == next.leader && old.id == next.id {
		h.mu.Unlock()
		return
	}
	next.changed, next.since = make(chan struct{}), time.Now()
	h.role = next
	var notice chan struct{}
	if old.id != next.id || (old.reign == nil) != (next.reign == nil) {
		notice, h.notice = h.notice, make(chan struct{})
	}
	h.mu.Unlock()
	n.hurry(next.reign == nil && next.leader == nil)
	if next.reign != nil || next.leader != nil {
		n.former.queue.repeat(n.origin.due(time.Now(), true))
		n.tasks.Go(n.becomeReady)
	}
	close(old.changed)
	if notice != nil {
		close(notice)
	}
}

// hurry shortens raft's timeouts while the leader's connection is broken, so that
// a leader that died is replaced within a breath; they are longer while it lives,
// since a loaded leader may be late. The vote before the vote keeps a node that
// alone lost the leader from disturbing the others.
func (n *Node) hurry(yes bool) {
	c := n.raft.ReloadableConfig()
	c.HeartbeatTimeout = heartbeatTimeout
	if yes {
		c.HeartbeatTimeout = leaderLease
	}
	c.ElectionTimeout = c.HeartbeatTimeout
	if err := n.raft.ReloadConfig(c); err != nil {
		n.log.Warn("the timeouts were not changed", "error", err)
	}
}

// becomeReady closes ready once what was acknowledged before is visible.
func (n *Node) becomeReady() {
	n.readying.Lock()
	defer n.readying.Unlock()
	select {
	case <-n.ready:
		return
	default:
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := n.fresh(ctx); err != nil {
		n.log.Debug("not ready yet", "error", err)
		n.helm.look()
		return
	}
	close(n.ready)
}

// Leader is the node that leads as far as this one knows, and whether it is this
// one; the zero Peer when none is known.
func (n *Node) Leader() (p Peer, self bool) {
	addr, id := n.raft.LeaderWithID()
	return Peer{ID: string(id), Address: string(addr)}, string(id) == n.cfg.NodeID
}

// Leads reports whether this node leads the cluster and has applied what its
// predecessors left.
func (n *Node) Leads() bool { return n.helm.now().reign != nil }

// LeadershipChanged returns a channel that is closed when another node leads, or
// none, or this one.
func (n *Node) LeadershipChanged() <-chan struct{} {
	n.helm.mu.Lock()
	defer n.helm.mu.Unlock()
	return n.helm.notice
}

// Healthy is nil when this node can serve: it leads a quorum, or heard lately
// from who does.
func (n *Node) Healthy(ctx context.Context) error {
	select {
	case <-n.dead:
		return n.closed()
	default:
	}
	if err := n.trouble(); err != nil {
		return err
	}
	select {
	case <-n.ready:
		return nil
	default:
		return fmt.Errorf("%w: this node is still reading what was written before it started", store.ErrBusy)
	}
}

// trouble says why this node cannot serve now, nil when it can.
func (n *Node) trouble() error {
	r := n.helm.now()
	switch {
	case r.reign != nil:
		return nil
	case len(n.servers()) == 0:
		return fmt.Errorf("%w: this node is in no cluster yet; add it on a node of the cluster", store.ErrBusy)
	case r.id == "":
		return fmt.Errorf("%w: no node leads, since %s; look whether most of the nodes run and reach each other",
			store.ErrBusy, r.since.UTC().Format(time.RFC3339))
	case r.id == n.cfg.NodeID:
		return fmt.Errorf("%w: this node has just taken the lead", store.ErrBusy)
	case r.leader == nil:
		return fmt.Errorf("%w: the leader %s does not answer this node; look at the network between them", store.ErrBusy, r.id)
	default:
		return nil
	}
}
