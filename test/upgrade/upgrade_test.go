package upgrade

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/test/kvnode/wire"
)

// TestARollingUpgradeAndTheWayBack takes a cluster of the format before today's
// through an upgrade, node by node, with writes and faults at every step: one new
// node with two old ones, two new with one old, back again, and to the end.
func TestARollingUpgradeAndTheWayBack(t *testing.T) {
	if store.Format == 1 {
		t.Fatal("there is no format before the first")
	}
	old, fresh := released(t, store.Format-1), today(t)
	c := newCluster(t, old)
	c.until("the cluster works at the format of the old program", func() error { return c.finalise(c.nodes[0]) })
	var kept int64
	step := func(name string, victim int, change func()) {
		t.Helper()
		t.Log(name)
		change()
		c.settle()
		w := c.work()
		c.faults(w, c.nodes[victim])
		kept = w.end(kept)
	}
	step("three old", 0, func() {})
	step("one new and two old", 0, func() { c.nodes[0].becomes(fresh) })
	step("two new and one old", 2, func() { c.nodes[1].becomes(fresh) })
	if err := c.finalise(c.nodes[0]); err == nil || !strings.Contains(err.Error(), "install the new program on it first") {
		t.Errorf("finalised beside an old node: %v", err)
	}
	step("back to three old", 1, func() {
		c.nodes[1].becomes(old)
		c.until("node n2 serves", c.nodes[1].serves)
		c.nodes[0].becomes(old)
	})
	step("three new", 1, func() {
		for _, p := range c.nodes {
			p.becomes(fresh)
			c.until("node "+p.id+" serves", p.serves)
		}
	})
	c.until("the cluster is finalised", func() error { return c.finalise(c.nodes[1]) })
	step("finalised", 0, func() {})

	c.nodes[2].becomes(old)
	<-c.nodes[2].ended
	if said := c.nodes[2].said(); !strings.Contains(said, "install the newer program") {
		t.Errorf("the old program on the new data said: %s", said)
	}
	c.nodes[2].cmd = nil
	step("the new program again", 2, func() { c.nodes[2].becomes(fresh) })
	if kept < 500 {
		t.Errorf("only %d writes: this test would prove little", kept)
	}
}

// TestAnOldNodeThatMissedTheFinaliseStops: it was away, comes back with the old
// program, and is told what to do.
func TestAnOldNodeThatMissedTheFinaliseStops(t *testing.T) {
	old, fresh := released(t, store.Format-1), today(t)
	c := newCluster(t, fresh)
	c.nodes[2].becomes(old)
	c.settle()
	c.nodes[2].end(syscall.SIGTERM)
	c.nodes[2].binary = fresh
	c.nodes[2].start()
	c.settle()
	c.until("the cluster is finalised", func() error { return c.finalise(c.nodes[0]) })
	c.nodes[2].end(syscall.SIGKILL)
	w := c.work()
	w.more(50)
	close(w.stop)
	w.wg.Wait()
	c.nodes[2].becomes(old)
	<-c.nodes[2].ended
	if said := c.nodes[2].said(); !strings.Contains(said, "install the newer program") {
		t.Errorf("it said: %s", said)
	}
}

// TestTheFormerStarterPoliciesAreThoseOfTheirFormat: an upgraded cluster's policies
// are compared with them, to know which nobody touched.
func TestTheFormerStarterPoliciesAreThoseOfTheirFormat(t *testing.T) {
	commit := commitOf(t, 2)
	needs(t, commit, 2)
	want, err := exec.Command("git", "-C", root(t), "show", commit+":auth/policy/starter.cedar").Output()
	if err != nil {
		t.Fatal(err)
	}
	have, err := os.ReadFile(filepath.Join(root(t), "auth", "policy", "starter-2.cedar"))
	if err != nil || !bytes.Equal(have, want) {
		t.Errorf("starter-2.cedar is not what commit %s seeded (%v)", commit, err)
	}
}

func (c *cluster) finalise(p *process) error {
	return c.post(p, wire.AdminPath, wire.Admin{Do: "finalise"}, nil)
}
