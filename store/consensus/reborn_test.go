package consensus

import (
	"testing"
	"time"

	"github.com/cloister-os/cloister/store"
)

// TestReplacedOnAMachineWhoseClockIsBehind: a node is removed, and a bare one
// joins under its name with a clock an hour behind. Lives are numbered by the
// clock, so everything that the new node proposed was refused as if by an earlier
// life, and its callers heard "unknown" for ever. Found by test/chaos.
func TestReplacedOnAMachineWhoseClockIsBehind(t *testing.T) {
	g, replace := replacing(t)
	if _, err := g.put(g.nodes["n3"], "S/a", "before"); err != nil {
		t.Fatal(err)
	}
	reborn := replace()
	g.ready("n3")
	for _, v := range []string{"one", "two"} {
		if _, err := g.put(reborn, "S/a", v); err != nil {
			t.Fatalf("a write through the new node: %v", err)
		}
	}
}

// TestReplacedTwiceOnAMachineWhoseClockIsBehind: both new nodes first heard of the
// same life before them and outranked it by one, so the second took the outcomes of
// the first, which came by as it took over the log, for those of its own
// transactions: it acknowledged what was never written. Found by test/chaos.
func TestReplacedTwiceOnAMachineWhoseClockIsBehind(t *testing.T) {
	g, replace := replacing(t)
	if _, err := g.put(g.nodes["n3"], "S/a", "before"); err != nil {
		t.Fatal(err)
	}
	var lives []uint64
	for _, v := range []string{"one", "two"} {
		reborn := replace()
		g.ready("n3")
		if _, err := g.put(reborn, "S/a", v); err != nil {
			t.Fatal(err)
		}
		if got, err := g.get(g.nodes["n1"], store.Fresh, "S/a"); got != v || err != nil {
			t.Errorf("%q was acknowledged and is %q, %v", v, got, err)
		}
		lives = append(lives, reborn.origin.boot.Load())
	}
	if lives[0] == lives[1] {
		t.Errorf("two nodes made anew number their transactions under one life, %d", lives[0])
	}
}

// replacing starts three nodes and returns what puts a bare one with a clock an hour
// behind in the place of n3.
func replacing(t *testing.T) (*group, func() *Node) {
	behind := time.Duration(0)
	g := newGroup(t, 3, func(c *Config) {
		late := behind
		c.Now = func() time.Time { return time.Now().Add(-late) }
	})
	return g, func() *Node {
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
		return reborn
	}
}
