package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/machine"
)

// Cluster runs one seed of the second level: three nodes, a few clients, and
// misfortunes, until all is mended and everything is compared.
func Cluster(r *Run) {
	c := newCluster(r, 3)
	defer c.stop()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c.ctx = ctx
	for _, n := range c.nodes {
		c.tasks.Go(func() { c.tend(n) })
	}
	clients := make(chan struct{}, 3)
	for i := range cap(clients) {
		cl := &client{cluster: c, rnd: rand.New(rand.NewPCG(r.Rand.Uint64(), 3)), name: fmt.Sprint("c", i)}
		go func() {
			cl.run()
			clients <- struct{}{}
		}()
	}
	for range 2 + r.Rand.IntN(8) {
		time.Sleep(time.Duration(r.Rand.IntN(1500)) * time.Millisecond)
		c.misfortune()
	}
	time.Sleep(time.Duration(r.Rand.IntN(2000)) * time.Millisecond)
	c.mend()
	cancel()
	for range cap(clients) {
		<-clients
	}
	c.settle()
	c.judge()
}

// mend ends all misfortunes.
func (c *cluster) mend() {
	c.Logf("everything is mended")
	for _, n := range c.nodes {
		c.roads(n, false)
		n.setStall(0)
		n.disk.Refuse(nil)
		n.disk.CutAfter(0)
		n.mu.Lock()
		n.offset = 0
		n.mu.Unlock()
	}
}

// settle waits until all nodes serve and show the same.
func (c *cluster) settle() {
	time.Sleep(5 * time.Second) // what was arranged for later has ended
	c.mend()
	for _, n := range c.nodes {
		n.turn <- struct{}{}
		live := n.present()
		select {
		case err := <-live.Fatal():
			c.Logf("%s: had ended by itself: %v", n.id, err)
			c.end(n, "power cut")
			c.open(n, false)
		default:
		}
		<-n.turn
	}
	for _, n := range c.nodes {
		c.await(n.id+" serves", time.Minute, func() bool {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			return n.present().View(ctx, store.Fresh, func(store.Snapshot) error { return nil }) == nil
		})
	}
	c.await("all nodes show the same version", time.Minute, func() bool {
		first := c.nodes[0].present().Applied()
		return !slices.ContainsFunc(c.nodes, func(n *node) bool { return n.present().Applied() != first })
	})
}

// stop closes what still runs.
func (c *cluster) stop() {
	for _, n := range c.nodes {
		n.setStall(0)
	}
	c.tasks.Wait() // nobody starts a node any more
	for _, n := range c.nodes {
		c.end(n, "closed")
	}
	c.tasks.Wait()
}

// judge compares everything with the model and with what clients were told.
func (c *cluster) judge() {
	o := newOracle()
	c.told.mu.Lock()
	defer c.told.mu.Unlock()
	top := c.nodes[0].present().Applied()
	for index := uint64(1); index <= uint64(top); index++ {
		data, ok := c.told.groups[index]
		if !ok {
			continue
		}
		c.must(o.group(index, data), "replay in the model")
		if err := o.checkSpelled(index, c.told.outcomes[index]); err != nil {
			c.Fatalf("group %d: %v", index, err)
		}
	}
	c.compareNodes(o, top)
	c.compareClients(o, top)
}

// checkSpelled is check for outcomes that were spelled.
func (o *oracle) checkSpelled(index uint64, said string) error {
	want, gone := "", false
	for i := range o.expected[index] {
		e := &o.expected[index][i]
		want += outcome(&e.outcome) + "\n"
		gone = gone || e.orGone
	}
	if said != want && !gone {
		return errors.New(differ(said, want))
	}
	return nil
}

// compareNodes compares what the nodes hold.
func (c *cluster) compareNodes(o *oracle, top store.Version) {
	v, chain := c.nodes[0].present().Head()
	bytes := c.nodes[0].disk.Spell(uint64(v))
	w := &machines{Run: c.Run, oracle: o}
	for _, n := range c.nodes {
		live := n.present()
		if got, h := live.Head(); got != v || h != chain {
			c.Failf("%s ends at %d with chain %x, %s at %d with %x", n.id, got, h, c.nodes[0].id, v, chain)
		}
		if got := n.disk.Spell(uint64(v)); got != bytes {
			c.Failf("%s holds other bytes than %s: %s", n.id, c.nodes[0].id, differ(got, bytes))
		}
		if s := n.disk.Differs(); s != "" {
			c.Failf("%s: a replay wrote other bytes: %s", n.id, s)
		}
		for range 4 {
			at := 1 + store.Version(c.Rand.Uint64N(uint64(top)))
			err := live.View(context.Background(), store.At(at), func(s store.Snapshot) error {
				return w.compare(&member{name: n.id}, s, top)
			})
			w.excused(&member{name: n.id}, at, top, err)
		}
		err := live.View(context.Background(), store.Local, func(s store.Snapshot) error {
			return w.compare(&member{name: n.id}, s, top)
		})
		w.excused(&member{name: n.id}, 0, top, err)
	}
}

// compareClients compares what the clients were told with what happened.
func (c *cluster) compareClients(o *oracle, top store.Version) {
	leaves := map[string]store.Leaf{}
	for l, err := range o.model.Snapshot(top).Log(calls).Leaves(0) {
		c.must(err, "read the log")
		if _, twice := leaves[string(l.Data)]; twice {
			c.Failf("%s happened twice", l.Data)
		}
		leaves[string(l.Data)] = l
	}
	ops := c.hist.ops
	for _, x := range ops {
		switch {
		case x.tx == nil:
			c.compareRead(o, x)
		default:
			c.compareWrite(x, leaves)
		}
	}
	c.realTime(o, ops)
	c.Logf("%d calls, version %d", len(ops), top)
}

// compareWrite: who was told of success finds it, once; who was told of failure
// does not.
func (c *cluster) compareWrite(x *op, leaves map[string]store.Leaf) {
	leaf, there := leaves[x.id]
	decided := errors.Is(x.err, store.ErrConflict) || errors.Is(x.err, store.ErrLimit)
	switch {
	case x.err == nil && (!there || leaf.Version != x.res.Version || leaf.Seq != x.res.Seqs[0] || !leaf.Time.Equal(x.res.Time)):
		c.Failf("%s was acknowledged at %d as leaf %v: it is there: %v, at %d as %d", x.id, x.res.Version, x.res.Seqs, there, leaf.Version, leaf.Seq)
	case decided && there, x.err != nil && !x.unknown && there:
		c.Failf("%s was refused (%v), and is there at %d", x.id, x.err, leaf.Version)
	}
}

// compareRead: what was read is what the model has at that version, and a
// linearizable read has seen all that was acknowledged before it.
func (c *cluster) compareRead(o *oracle, x *op) {
	if x.err != nil && !errors.Is(x.err, store.ErrNotFound) {
		return
	}
	if x.fresh && x.version < x.known {
		c.Failf("%s read at %d, %d had been acknowledged before it began", x.id, x.version, x.known)
	}
	want, err := o.model.Snapshot(x.version).Get(x.key)
	if (err == nil) != (x.err == nil) || want.Version != x.item.Version || string(want.Value) != string(x.item.Value) {
		c.Failf("%s read %s at %d as %d %q (%v), the model has %d %q (%v)", x.id, x.key, x.version,
			x.item.Version, x.item.Value, x.err, want.Version, want.Value, err)
	}
}

// realTime: what ended before something began, comes before it.
func (c *cluster) realTime(o *oracle, ops []*op) {
	type event struct {
		at    time.Time
		begin *op
		end   *op
	}
	var events []event
	for _, x := range ops {
		if x.tx != nil && x.err == nil || x.tx == nil && x.fresh && x.version > 0 {
			events = append(events, event{at: x.begin, begin: x}, event{at: x.end, end: x})
		}
	}
	slices.SortStableFunc(events, func(a, b event) int {
		if d := a.at.Compare(b.at); d != 0 {
			return d
		}
		if (a.begin == nil) != (b.begin == nil) { // at one moment nothing is before
			if a.begin != nil {
				return -1
			}
			return 1
		}
		return 0
	})
	newest := store.Version(0)
	floor := map[*op]store.Version{}
	for _, e := range events {
		switch x := e.end; {
		case e.begin != nil:
			floor[e.begin] = newest
		case x.tx != nil:
			if x.res.Version < floor[x] {
				c.Failf("%s happened at %d, though %d was known before it began", x.id, x.res.Version, floor[x])
			}
			newest = max(newest, x.res.Version)
		default:
			if x.version < floor[x] {
				c.Failf("%s read at %d, though %d was known before it began", x.id, x.version, floor[x])
			}
			newest = max(newest, o.touched(x.version))
		}
	}
}

// touched is the newest version up to v in which anything happened.
func (o *oracle) touched(v store.Version) store.Version {
	for ; v > 0; v-- {
		for _, e := range o.expected[uint64(v)] {
			if e.outcome.Code == machine.Done && e.outcome.Version == v {
				return v
			}
		}
	}
	return 0
}
