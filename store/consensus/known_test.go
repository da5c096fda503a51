package consensus

import (
	"errors"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/cloister-os/cloister/store"
)

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		what  string
		boot  uint64
		start proof
		leads bool
		want  string
		vouch bool
	}{
		{"the same life again", 5, proof{0, 2, 4, 1, 1, 0}, true, "", true},
		{"a new life of the same disk", 6, proof{0, 2, 5, 100, 7, 0}, true, "", true},
		{"a disk that forgot its last life", 6, proof{0, 2, 4, 100, 7, 0}, false, "older", false},
		{"a disk that forgot entries", 6, proof{0, 2, 5, 99, 7, 0}, true, "older", false},
		{"a disk that forgot a term", 6, proof{0, 2, 5, 100, 6, 0}, true, "older", false},
		{"an earlier life", 4, proof{0, 2, 3, 200, 9, 0}, true, "two processes", false},
		{"an emptied disk, to the leader", 6, proof{0, 6, 0, 0, 0, 0}, true, "older", false},
		{"an emptied disk, to a follower", 6, proof{0, 6, 0, 0, 0, 0}, false, "", false},
	} {
		k := &known{proofs: map[string]proof{"n2": {Birth: 2, Boot: 5, Index: 100, Term: 7}}}
		got, vouch := k.judge(hello{Node: "n2", Boot: c.boot, Start: c.start}, c.leads)
		if (c.want == "") != (got == "") || !strings.Contains(got, c.want) || vouch != c.vouch {
			t.Errorf("%s: %q, %v", c.what, got, vouch)
		}
	}
}

// TestTwoProcessesOfOneLife: a folder and its copy were started where the clock is
// behind, so that both count the same life. The first that was met goes on, whichever
// mark is the greater, and so does a program that draws no mark.
func TestTwoProcessesOfOneLife(t *testing.T) {
	start := proof{Birth: 2, Boot: 4, Index: 100, Term: 7}
	for _, c := range []struct {
		what         string
		known, other uint64 // marks
		want         string
	}{
		{"itself again", 20, 20, ""},
		{"the copy has a greater mark", 20, 30, "older"},
		{"the copy has a smaller mark", 20, 10, "two processes"},
		{"it draws none", 20, 0, ""},
		{"what is known went through a program that keeps none", 0, 20, ""},
	} {
		k := &known{proofs: map[string]proof{}}
		if got, _ := k.judge(hello{Node: "n2", Boot: 5, Mark: c.known, Start: start}, true); got != "" {
			t.Fatal(got)
		}
		if got, _ := k.judge(hello{Node: "n2", Boot: 5, Mark: c.other, Start: start}, true); (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q", c.what, got)
		}
		if got, _ := k.judge(hello{Node: "n2", Boot: 6, Mark: 1, Start: proof{Birth: 2, Boot: 5, Index: 100, Term: 7}}, true); got != "" {
			t.Errorf("%s: the next life: %q", c.what, got)
		}
	}
	a, b := proof{Birth: 2, Boot: 5, Mark: 10}, proof{Birth: 2, Boot: 5, Mark: 20}
	if a.join(b) != b || b.join(a) != b || b.join(proof{Birth: 2, Boot: 6, Mark: 1}).Mark != 1 || b.join(proof{Birth: 2, Boot: 4, Mark: 30}) != b {
		t.Error("nodes that tell one another what they know do not come to know the same")
	}
}

// TestANodeHearsOfALaterStartOfItself: a copy of its folder was met by another node
// and never by this one. It stops, and the others go on.
func TestANodeHearsOfALaterStartOfItself(t *testing.T) {
	g := newGroup(t, 3, nil)
	n := g.nodes["n3"]
	own := proof{Since: math.MaxInt, Birth: n.known.birth, Boot: n.life, Mark: n.mark} // later than any other
	g.nodes["n2"].known.merge(map[string]proof{"n3": own})
	if _, err := g.put(n, "S/k", "v"); err != nil {
		t.Fatal(err)
	}
	own.Boot, own.Mark = n.life+1, 1
	g.nodes["n2"].known.merge(map[string]proof{"n3": own})
	select {
	case err := <-n.Fatal():
		if said := err.Error(); !strings.Contains(said, "two processes must not use copies of one data folder") || !strings.Contains(said, "cloister node remove n3") {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("it goes on beside a later start of itself")
	}
	if _, err := g.put(g.nodes["n2"], "S/k", "w"); err != nil {
		t.Errorf("the others: %v", err)
	}
}

func TestVouching(t *testing.T) {
	k := &known{met: map[string]bool{}}
	if !k.vouches(nil, 1) {
		t.Error("a node that is all of the cluster waits for nobody")
	}
	k = &known{met: map[string]bool{}}
	others := []string{"n2", "n3"}
	if k.vouches(others, 1) {
		t.Error("without any other")
	}
	k.meets("n2")
	if k.vouches(others, 1) {
		t.Error("before the third could answer")
	}
	k.first = time.Now().Add(-2 * vouchAfter)
	if !k.vouches(others, 1) {
		t.Error("the third does not answer")
	}
}

// TestWhoJoinedAgainIsAnotherNode: whatever order the news come in, what was proven of
// a node before it was removed is not held against the one that joined under its name,
// though a member that is behind the log still tells it, and though its clock is behind.
func TestWhoJoinedAgainIsAnotherNode(t *testing.T) {
	stale := map[string]proof{"n2": {Since: 5, Birth: 9, Boot: 9, Index: 100, Term: 7}}
	both, one := map[string]bool{"n1": true, "n2": true}, map[string]bool{"n1": true}
	bare := hello{Node: "n2", Boot: 8, Start: proof{Birth: 8}}
	for what, news := range map[string]func(*known){
		"told before it joined": func(k *known) { k.merge(stale); k.follow(60, both) },
		"told after it joined":  func(k *known) { k.follow(60, both); k.merge(stale) },
		"told by who knows the new one": func(k *known) {
			k.merge(stale)
			k.merge(map[string]proof{"n2": {Since: 60, Birth: 8, Boot: 8}})
			k.merge(stale)
		},
		"the log is gone through once more": func(k *known) {
			k.follow(60, both)
			k.follow(50, one)
			k.follow(60, both)
			k.merge(stale)
		},
	} {
		k := &known{proofs: maps.Clone(stale)}
		k.restore(8, both)
		k.follow(10, both)
		if p := k.all()["n2"]; p != stale["n2"] {
			t.Errorf("a change that it stayed through forgot it: %+v", p)
		}
		k.follow(50, one)
		news(k)
		if verdict, vouch := k.judge(bare, true); verdict != "" || !vouch {
			t.Errorf("%s: %s", what, verdict)
		}
		k.note("n2", 70, 8)
		k.follow(50, one) // the replay after a restart
		k.follow(60, both)
		if p := k.all()["n2"]; p != (proof{Since: 60, Birth: 8, Boot: 8, Index: 70, Term: 8}) && what != "told by who knows the new one" {
			t.Errorf("%s: the replay made it %+v", what, p)
		}
		back := hello{Node: "n2", Boot: 11, Start: proof{Birth: 10}}
		if verdict, _ := k.judge(back, true); verdict == "" {
			t.Errorf("%s: a disk that was emptied is not refused", what)
		}
		if verdict, vouch := k.judge(back, false); verdict != "" || vouch {
			t.Errorf("%s: who does not lead judged another disk: %q, %v", what, verdict, vouch)
		}
	}
}

// TestAnOrderWaitsForTheChangeBeforeIt: a removal that is only in the leader's own log
// may be undone. "No such node" by it had an administrator empty a voter's disk, and
// "it is a member" had one wait for ever.
func TestAnOrderWaitsForTheChangeBeforeIt(t *testing.T) {
	g := newGroup(t, 3, nil)
	n := g.leader()
	var away []string
	for _, id := range g.ids {
		if g.nodes[id] != n {
			away = append(away, id)
		}
	}
	for _, id := range away {
		g.stop(id)
	}
	removal := n.raft.RemoveServer(raft.ServerID(away[0]), 0, 0)
	g.eventually("the removal in the log", func() bool { _, is := n.member(away[0]); return !is })
	n.remember()
	if _, ok := n.known.all()[away[0]]; !ok {
		t.Error("a removal that may be undone made the leader forget what its disk must hold")
	}
	if n.gone(away[0]) {
		t.Error("a node is told that it was removed, and ends for ever, by a removal that may be undone")
	}
	if !n.gone("n9") {
		t.Error("a node that never was a member is one")
	}
	for what, err := range map[string]error{"removed again": n.remove(away[0]), "added again": n.add(Peer{ID: away[1], Address: g.peers[away[1]].addr})} {
		if !errors.Is(err, errNotLeading) {
			t.Errorf("%s: %v, by a change that nobody else holds", what, err)
		}
	}
	if err := removal.Error(); err == nil {
		t.Error("one node of three changed the members")
	}
}

// A voter whose disk was set back does not come back into the cluster.
func TestADiskSetBackIsRefused(t *testing.T) {
	g := newGroup(t, 3, nil)
	if _, err := g.put(g.nodes["n1"], "S/k", "old"); err != nil {
		t.Fatal(err)
	}
	g.stop("n3")
	yesterday := t.TempDir()
	if err := os.CopyFS(yesterday, os.DirFS(g.dirs["n3"])); err != nil {
		t.Fatal(err)
	}
	g.start("n3", false)
	g.ready("n3")
	if _, err := g.put(g.nodes["n3"], "S/k", "new"); err != nil {
		t.Fatal(err)
	}
	g.stop("n3")
	g.dirs["n3"] = yesterday
	n := g.start("n3", false)
	select {
	case err := <-n.Fatal():
		if !strings.Contains(err.Error(), "older than what the cluster knows") || !strings.Contains(err.Error(), "join it again") {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("a disk of yesterday was accepted")
	}
	g.stop("n3")

	// One that was emptied knows no member that could tell it. Who leads says so.
	g.dirs["n3"] = t.TempDir()
	g.start("n3", false)
	g.eventually("the list of the members says what is wrong with the emptied disk", func() bool {
		all, err := g.nodes["n1"].Members(t.Context())
		return err == nil && slices.ContainsFunc(all, func(m Member) bool { return m.ID == "n3" && strings.Contains(m.Note, "set back, copied or emptied") })
	})
	g.stop("n3")

	// Removed, emptied and joined again it is welcome.
	if err := g.nodes["n2"].Remove(t.Context(), "n3"); err != nil {
		t.Fatal(err)
	}
	g.dirs["n3"] = t.TempDir()
	g.start("n3", false)
	if err := g.nodes["n2"].AddNonvoter(t.Context(), Peer{ID: "n3", Address: g.peers["n3"].addr}); err != nil {
		t.Fatal(err)
	}
	g.voters(3)
	g.ready("n3")
	if v, err := g.get(g.nodes["n3"], store.Fresh, "S/k"); v != "new" || err != nil {
		t.Errorf("%q, %v", v, err)
	}
}

func TestARemovedNodeStops(t *testing.T) {
	g := newGroup(t, 3, nil)
	gone := g.nodes["n3"]
	if err := g.nodes["n2"].Remove(t.Context(), "n3"); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-gone.Fatal():
		if !strings.Contains(err.Error(), "was removed from the cluster") {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("a removed node goes on")
	}
	if _, err := g.put(gone, "S/k", "v"); err == nil {
		t.Error("it takes a transaction")
	}
	g.stop("n3")
	c := Config{Dir: g.dirs["n3"], NodeID: "n3", Peers: g.peers["n3"], Address: g.peers["n3"].addr}
	if n, err := Open(t.Context(), c); err == nil {
		n.Close()
		t.Error("it opens again")
	} else if !strings.Contains(err.Error(), "was removed") {
		t.Error(err)
	}
	if _, err := g.put(g.nodes["n2"], "S/k", "v"); err != nil {
		t.Errorf("the others: %v", err)
	}
}

// The founder leads; its removal goes by way of a transfer.
func TestTheLeaderIsRemoved(t *testing.T) {
	g := newGroup(t, 3, nil)
	leader := g.leader()
	if err := g.nodes["n2"].Remove(t.Context(), leader.cfg.NodeID); err != nil {
		t.Fatal(err)
	}
	select {
	case <-leader.Fatal():
	case <-time.After(30 * time.Second):
		t.Fatal("it goes on")
	}
	g.stop(leader.cfg.NodeID)
	g.voters(2)
	if _, err := g.put(g.nodes["n3"], "S/k", "v"); err != nil {
		t.Error(err)
	}
}
