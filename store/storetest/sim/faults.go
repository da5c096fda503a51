package sim

import (
	"context"
	"errors"
	"time"

	"github.com/cloister-os/cloister/store/consensus"
	"github.com/cloister-os/cloister/store/storetest/memory"
)

// excused reports an error that the disk was made to have.
func (c *cluster) excused(err error) bool {
	return errors.Is(err, memory.ErrPower) || errors.Is(err, errFull)
}

// misfortune does one thing to the cluster and arranges its end.
func (c *cluster) misfortune() {
	n := c.nodes[c.Rand.IntN(len(c.nodes))]
	other := c.nodes[c.Rand.IntN(len(c.nodes))]
	lasts := time.Duration(100+c.Rand.IntN(4000)) * time.Millisecond
	switch c.Rand.IntN(14) {
	case 0, 1:
		c.outage(n, "power cut", lasts)
	case 2:
		c.outage(n, "killed", lasts)
	case 3:
		c.outage(n, "closed", lasts/4)
	case 4, 5:
		c.isolate(n, lasts)
	case 6:
		c.oneWay(n, other, lasts)
	case 7:
		c.slow(lasts)
	case 8:
		c.Logf("connections break")
		c.net.shake(c.Rand.Float64())
	case 9:
		c.stall(n, lasts)
	case 10:
		c.full(n)
	case 11:
		c.Logf("%s: the power goes at a step to come", n.id)
		n.disk.CutAfter(1 + c.Rand.IntN(60))
	case 12:
		c.turnClock(n)
	case 13:
		c.transfer(n, other)
	}
}

// later does something after a while, unless the run ends before.
func (c *cluster) later(after time.Duration, f func()) {
	c.tasks.Go(func() {
		select {
		case <-time.After(after):
		case <-c.ctx.Done():
		}
		f()
	})
}

// outage ends a node's life and begins the next one.
func (c *cluster) outage(n *node, how string, lasts time.Duration) {
	n.turn <- struct{}{}
	defer func() { <-n.turn }()
	if n.present() == nil {
		return
	}
	c.end(n, how)
	select {
	case <-time.After(lasts):
	case <-c.ctx.Done():
	}
	c.open(n, false)
}

// isolate cuts all roads of a node.
func (c *cluster) isolate(n *node, lasts time.Duration) {
	c.Logf("%s: cut off", n.id)
	c.roads(n, true)
	c.later(lasts, func() {
		c.Logf("%s: no longer cut off", n.id)
		c.roads(n, false)
	})
}

func (c *cluster) roads(n *node, cut bool) {
	for _, o := range c.nodes {
		if o != n {
			c.net.setCut(road{n.id, o.id}, cut)
			c.net.setCut(road{o.id, n.id}, cut)
		}
	}
}

// oneWay cuts one direction.
func (c *cluster) oneWay(from, to *node, lasts time.Duration) {
	if from == to {
		return
	}
	c.Logf("%s is not heard by %s", from.id, to.id)
	c.net.setCut(road{from.id, to.id}, true)
	c.later(lasts, func() {
		c.Logf("%s is heard by %s again", from.id, to.id)
		c.net.setCut(road{from.id, to.id}, false)
	})
}

// slow makes some roads slow.
func (c *cluster) slow(lasts time.Duration) {
	for _, a := range c.nodes {
		for _, b := range c.nodes {
			if c.Rand.IntN(2) == 0 {
				continue
			}
			d := time.Duration(c.Rand.IntN(400)) * time.Millisecond
			c.Logf("%s to %s takes %v", a.id, b.id, d)
			c.net.setDelay(road{a.id, b.id}, d)
			c.later(lasts, func() { c.net.setDelay(road{a.id, b.id}, 0) })
		}
	}
}

// stall makes each step of a disk slow.
func (c *cluster) stall(n *node, lasts time.Duration) {
	d := time.Duration(1+c.Rand.IntN(1500)) * time.Millisecond
	c.Logf("%s: each step of the disk takes %v", n.id, d)
	n.setStall(d)
	c.later(lasts, func() { n.setStall(0) })
}

func (n *node) setStall(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stall = d
}

// full fails one step of a disk; the node must end then, as it says by Fatal.
func (c *cluster) full(n *node) {
	c.Logf("%s: the disk is full", n.id)
	left := c.Rand.IntN(20)
	n.disk.Refuse(func(op memory.Op) error {
		if op == memory.OpRead || op == memory.OpOpen || op == memory.OpCurrent || op == memory.OpRemove {
			return nil
		}
		if left--; left != 0 {
			return nil
		}
		return errFull
	})
}

// turnClock makes a node's clock wrong, or right again.
func (c *cluster) turnClock(n *node) {
	d := time.Duration(0)
	if c.Rand.IntN(3) > 0 {
		d = time.Duration(c.Rand.IntN(7200)-3600) * time.Second
		if c.Rand.IntN(2) == 0 {
			d /= 1000
		}
	}
	c.Logf("%s: its clock is %v off", n.id, d)
	n.mu.Lock()
	n.offset = d
	n.mu.Unlock()
}

// transfer hands leadership over, from anywhere.
func (c *cluster) transfer(by, to *node) {
	live := by.present()
	if live == nil {
		return
	}
	c.tasks.Go(func() {
		ctx, cancel := context.WithTimeout(c.ctx, 5*time.Second)
		defer cancel()
		c.Logf("%s is to lead", to.id)
		if err := live.Transfer(ctx, to.id); err != nil {
			c.Logf("%s does not lead: %v", to.id, err)
		}
	})
}

// tend starts again whatever ended by itself, until the run ends.
func (c *cluster) tend(n *node) {
	for c.ctx.Err() == nil {
		live := n.present()
		if live == nil {
			select {
			case <-time.After(50 * time.Millisecond):
			case <-c.ctx.Done():
			}
			continue
		}
		select {
		case err := <-live.Fatal():
			c.Logf("%s: ended by itself: %v", n.id, err)
			if !c.excused(err) && n.present() == live {
				c.Failf("%s ended without a failure of its disk: %v", n.id, err)
			}
			c.restart(n, live, err)
		case <-time.After(time.Second):
		case <-c.ctx.Done():
		}
	}
}

// restart begins a new life after one that ended by itself.
func (c *cluster) restart(n *node, live *consensus.Node, why error) {
	n.turn <- struct{}{}
	defer func() { <-n.turn }()
	if n.present() != live {
		return // somebody else saw to it
	}
	n.disk.Refuse(nil)
	how := "killed"
	if errors.Is(why, memory.ErrPower) {
		how = "power cut"
	}
	c.end(n, how)
	c.open(n, false)
}
