package consensus

import (
	"testing"
	"time"
)

// TestReplacedOnAMachineWhoseClockIsBehind: a node is removed, and a bare one
// joins under its name with a clock an hour behind. Lives are numbered by the
// clock, so everything that the new node proposed was refused as if by an earlier
// life, and its callers heard "unknown" for ever. Found by test/chaos.
func TestReplacedOnAMachineWhoseClockIsBehind(t *testing.T) {
	behind := time.Duration(0)
	g := newGroup(t, 3, func(c *Config) {
		late := behind
		c.Now = func() time.Time { return time.Now().Add(-late) }
	})
	if _, err := g.put(g.nodes["n3"], "S/a", "before"); err != nil {
		t.Fatal(err)
	}
	if err := g.nodes["n1"].Remove(t.Context(), "n3"); err != nil {
		t.Fatal(err)
	}
	<-g.nodes["n3"].Fatal() // it was told
	g.stop("n3")
	g.dirs["n3"], g.peers["n3"] = t.TempDir(), g.net.node(t, "n3")

	behind = time.Hour
	reborn := g.start("n3", false)
	if err := g.nodes["n1"].AddNonvoter(t.Context(), Peer{ID: "n3", Address: g.peers["n3"].addr}); err != nil {
		t.Fatal(err)
	}
	g.ready("n3")
	for _, v := range []string{"one", "two"} {
		if _, err := g.put(reborn, "S/a", v); err != nil {
			t.Fatalf("a write through the new node: %v", err)
		}
	}
}
