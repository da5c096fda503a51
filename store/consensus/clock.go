package consensus

import (
	"slices"
	"sync"
	"time"
)

// maxSkew is how far from the voters' median a leader's clock may be.
const maxSkew = 2 * time.Second

// clock is the time of the cluster: the median of the voters' clocks. Between
// samples it goes on by this machine's monotonic clock, so that a clock that is
// set while its node leads is outvoted before it is believed.
type clock struct {
	read  func() time.Time // this node's own clock
	begun time.Time        // when the process began to measure, monotonic
	base  time.Time        // what its own clock said then

	mu      sync.Mutex // guards all below
	offset  time.Duration
	sampled bool
}

func newClock(read func() time.Time) *clock {
	return &clock{read: read, begun: time.Now(), base: read()}
}

// steady is the time by the monotonic clock alone.
func (c *clock) steady() time.Time { return c.base.Add(time.Since(c.begun)) }

// own is what this node's own clock says, from steady.
func (c *clock) own() time.Duration { return c.read().Sub(c.steady()) }

// now is the time of the cluster as far as it is known.
func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.steady().Add(c.offset)
}

// skew is how far this node's own clock is from the time of the cluster, 0 when
// that is not known.
func (c *clock) skew() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.sampled {
		return 0
	}
	return c.own() - c.offset
}

// known reports whether the voters' clocks have been compared.
func (c *clock) known() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sampled
}

// sample brings the offset up to date with the voters' clocks, from steady. Of
// two clocks nobody can say which is wrong: while a third should be heard, what
// was known before holds; a cluster of two believes the leader's.
func (c *clock) sample(offsets []time.Duration, voters int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case len(offsets) >= 3:
		slices.Sort(offsets)
		c.offset, c.sampled = offsets[(len(offsets)-1)/2], true
	case voters < 3:
		c.offset = c.own()
	}
}

// readClocks samples the voters' clocks from what they said lately.
func (n *Node) readClocks() {
	others, self := n.voters()
	offsets := make([]time.Duration, 0, len(others)+1)
	if self == 1 {
		offsets = append(offsets, n.clock.own())
	}
	for _, v := range others {
		if s, ok := n.census.get(v); ok && time.Since(s.at) < recently {
			offsets = append(offsets, s.offset)
		}
	}
	n.clock.sample(offsets, len(others)+self)
}

// skewOf is how far a peer's clock is from the time of the cluster.
func (n *Node) skewOf(s peerStatus) time.Duration {
	n.clock.mu.Lock()
	defer n.clock.mu.Unlock()
	return s.offset - n.clock.offset
}

// awaitClocks gives a node that is about to lead a moment to compare its clock.
func (n *Node) awaitClocks() {
	for end := time.Now().Add(maxSkew); time.Now().Before(end) && !n.clock.known(); {
		others, _ := n.voters()
		if len(others) < 2 {
			return
		}
		for _, v := range others {
			n.ask1(v)
		}
		select {
		case <-time.After(retryAfter):
		case <-n.dead:
			return
		}
		connected := 0
		for _, v := range others {
			if n.mesh.client(v) != nil {
				connected++
			}
		}
		if connected < 2 {
			return // nothing can be known
		}
	}
}
