package consensus

import (
	"errors"
	"fmt"
	"time"

	"github.com/cloister-os/cloister/store"
)

const (
	// slowFsync is what an append to the log may take, and slowFor how long it may
	// take longer before the leader hands over to a node whose disk is faster.
	slowFsync = 500 * time.Millisecond
	slowFor   = 5 * time.Second
	// restAfter is how long a leader waits before it tries once more to hand over.
	restAfter = 10 * time.Second
)

// duties are what the leader does once a second with what it knows.
func (n *Node) duties() {
	n.chains.compare(n)
	if why := n.unfit(); why != nil && time.Since(n.rested) > restAfter {
		n.rested = time.Now()
		n.log.Warn("this node hands leadership over", "reason", why)
		if err := n.transfer(""); err != nil {
			n.log.Warn("leadership was not handed over", "error", err)
		}
	}
}

// unfit says why another node should lead, nil when none should.
func (n *Node) unfit() error {
	id := n.fittest()
	if id == "" {
		return nil
	}
	best, _ := n.census.get(id)
	if skew := n.clock.skew(); skew.Abs() > maxSkew {
		return fmt.Errorf("its clock is %v off the median of the voters' clocks; set it right", skew.Round(time.Millisecond))
	}
	if slow := n.pace.slow(time.Now()); slow > 0 && time.Duration(best.Fsync) < slow/4 {
		return fmt.Errorf("its disk has taken %v and more to write the log for %v; look at the disk", slow.Round(time.Millisecond), slowFor)
	}
	if err := n.reserve.check(0); errors.Is(err, store.ErrReadOnly) && best.FreeBytes > 2*n.cfg.ReserveBytes {
		return err
	}
	return nil
}
