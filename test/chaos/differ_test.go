package chaos

import (
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/cloister-os/cloister/test/kvnode/wire"
)

// TestANodeThatDiffersHalts: a node whose database was changed behind its back
// decides differently, is found out by its chain, and ends with a sentence; the
// others go on.
func TestANodeThatDiffersHalts(t *testing.T) {
	t.Parallel()
	binary := need(t)
	c := Start(t, binary, Options{Nodes: 3})
	add := func(n *node) error {
		return post(t.Context(), c.client, n.url()+wire.TxPath, wire.Tx{Adds: []wire.Add{{Counter: "S/kv/count", Delta: 1, Limit: 1 << 40}}}, &wire.Done{})
	}
	c.until("the counter is there", func() error { return add(c.nodes[0]) })
	c.settle()
	leader := c.waitLeader()
	victim := c.others(leader)[0]
	victim.end(syscall.SIGTERM)
	if out, err := exec.Command(binary, "spoil", "-dir", victim.dir, "-counter", "S/kv/count").CombinedOutput(); err != nil {
		t.Fatalf("spoil: %v: %s", err, out)
	}
	victim.forgive(true)
	c.restart(victim)
	steps := 0
	c.until(victim.id+" ends", func() error {
		for range 300 {
			if !victim.running() {
				return nil
			}
			if err := add(leader); err != nil {
				return err
			}
			steps++
		}
		return fmt.Errorf("it runs, after %d transactions", steps)
	})
	if said := victim.tail(); !strings.Contains(said, "differ") {
		t.Errorf("it does not say that it differs: %s", said)
	}
	for _, n := range c.others(victim) {
		if !n.running() {
			t.Errorf("%s ended too: %s", n.id, n.tail())
		}
		c.until(n.id+" still writes", func() error { return add(n) })
	}
}
