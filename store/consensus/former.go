package consensus

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/machine"
)

// maxInFlight groups are in the log and not yet applied: one is on its way while the
// next forms. What waits meanwhile joins one larger group, which costs less than
// several: with four in flight, 64 clients' writes cost a quarter more of the
// processor, and values of 4 KB came through at two thirds of the rate.
const maxInFlight = 2

// former sends the transactions that wait on their way: into groups of the log
// while this node leads, and to the leader while it does not.
type former struct {
	node  *Node
	queue *queue
	slots chan struct{} // one for each group in flight
	tasks sync.WaitGroup
}

func newFormer(n *Node) *former {
	return &former{node: n, queue: newQueue(n.cfg.QueueBytes), slots: make(chan struct{}, maxInFlight)}
}

func (f *former) start() {
	f.tasks.Go(f.run)
	f.tasks.Go(f.tend)
}

// submit queues a transaction. One that was sent before with an unknown outcome
// is joined.
func (f *former) submit(ctx context.Context, tx *store.Tx, class store.Class) *pending {
	if before, err := f.node.origin.before(tx); before != nil {
		select {
		case <-before.done:
			tx.SetStamp(0)
			f.node.origin.forget(before.seq)
		default:
		}
		return before
	} else if err != nil {
		return f.pend(tx, class).refuse(err)
	}
	p := f.pend(tx, class)
	err := tx.Err()
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = f.node.reserve.check(tx.Bytes())
	}
	if err == nil {
		err = f.queue.push(p)
	}
	if err != nil {
		return p.refuse(err)
	}
	return p
}

func (f *former) pend(tx *store.Tx, class store.Class) *pending {
	return &pending{node: f.node, tx: tx, size: tx.Bytes(), class: class, done: make(chan struct{}), asked: time.Now()}
}

// run sends what waits until the node ends.
func (f *former) run() {
	n := f.node
	for {
		role := n.helm.now()
		switch {
		case role.reign != nil:
			f.group(role)
		case role.leader != nil:
			f.forward(role)
		default:
			select {
			case <-role.changed:
			case <-n.dead:
			}
		}
		select {
		case <-n.dead:
			return
		default:
		}
	}
}

// tend sends again what did not come home, and lets go who waited long enough.
func (f *former) tend() {
	tick := time.NewTicker(againAfter / 4)
	defer tick.Stop()
	for {
		select {
		case <-f.node.dead:
			return
		case now := <-tick.C:
			f.queue.repeat(f.node.origin.due(now, false))
			f.node.origin.expire(now)
			f.queue.expire(now.Add(-patience), f.node.whyWaiting())
		}
	}
}

// group forms one group and gives it to raft.
func (f *former) group(role role) {
	select {
	case f.slots <- struct{}{}:
	case <-role.changed:
		return
	case <-f.node.dead:
		return
	}
	txs := f.queue.take(f.node.dead, role.changed)
	if txs == nil {
		<-f.slots
		return
	}
	data := f.form(txs)
	future := f.node.raft.Apply(data, 0)
	f.tasks.Go(func() { f.land(future) })
}

// form encodes a group. The buffer is not used again: the machine's recent
// changes point into it.
func (f *former) form(txs []*pending) []byte {
	n := f.node
	own := machine.Origin{Node: n.cfg.NodeID, Boot: n.origin.boot.Load(), Lowest: n.origin.number(txs)}
	g := machine.Group{Time: n.clock.now(), Leader: n.leaderName(), Entries: make([]machine.Entry, 0, len(txs))}
	size := 64
	for _, p := range txs {
		o := own
		if p.from != nil {
			o = p.from.origin()
		}
		i, ok := join(&g, o)
		if !ok {
			continue
		}
		e := machine.Entry{Origin: i, Seq: p.seq, Raw: p.raw}
		if p.tx != nil {
			e.Ops = p.tx.Ops()
		}
		g.Entries = append(g.Entries, e)
		size += p.size + 32
	}
	return g.AppendTo(make([]byte, 0, size))
}

// join finds an origin's place in a group, which may hold a node only once: the
// machine refuses what comes from its second place. false means that a later
// life of the node is in the group already; nobody waits for the earlier one.
func join(g *machine.Group, o machine.Origin) (int, bool) {
	for i := range g.Origins {
		have := &g.Origins[i]
		switch {
		case have.Node != o.Node:
		case have.Boot == o.Boot:
			have.Lowest = max(have.Lowest, o.Lowest)
			return i, true
		default:
			return 0, false
		}
	}
	g.Origins = append(g.Origins, o)
	return len(g.Origins) - 1, true
}

// land waits for a group's end. Its transactions come home through the log;
// those that did not enter it are sent again like all that do not come home.
func (f *former) land(future raft.ApplyFuture) {
	err := future.Error()
	<-f.slots
	if err != nil {
		f.node.log.Debug("a group was not applied", "error", err)
		f.node.helm.look()
	}
}

// close refuses what has not entered a group.
func (f *former) close() {
	for _, p := range f.queue.close() {
		p.err = f.node.closed()
		p.finish()
	}
}

// whyWaiting says why nothing is being sent.
func (n *Node) whyWaiting() error {
	if err := n.trouble(); err != nil {
		return err
	}
	return fmt.Errorf("nothing was decided for %v", patience)
}
