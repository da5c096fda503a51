package consensus

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/cloister-os/cloister/store"
)

// A node that was alone becomes the first of a cluster.
func TestAloneNoMore(t *testing.T) {
	g := &group{TB: t, net: newFakeNet(), ids: []string{"n1", "n2"}, peers: map[string]*fakePeers{}, dirs: map[string]string{}, nodes: map[string]*Node{}}
	for _, id := range g.ids {
		g.peers[id], g.dirs[id] = g.net.node(t, id), t.TempDir()
	}
	t.Cleanup(func() {
		for _, id := range g.ids {
			g.stop(id)
		}
	})
	alone := testNode(t, Config{Dir: g.dirs["n1"]})
	if _, err := g.put(alone, "H/k", "v"); err != nil {
		t.Fatal(err)
	}
	if err := alone.AddNonvoter(t.Context(), Peer{ID: "n2", Address: "x"}); err == nil || !strings.Contains(err.Error(), "alone") {
		t.Errorf("adding a member to a node alone: %v", err)
	}
	if err := alone.Close(); err != nil {
		t.Fatal(err)
	}
	n := g.start("n1", false)
	g.ready("n1")
	g.start("n2", false)
	if err := n.AddNonvoter(t.Context(), Peer{ID: "n2", Address: g.peers["n2"].addr}); err != nil {
		t.Fatal(err)
	}
	g.voters(2)
	g.ready("n2")
	if v, err := g.get(g.nodes["n2"], store.Fresh, "H/k"); v != "v" || err != nil {
		t.Errorf("%q, %v", v, err)
	}
	all, err := g.nodes["n2"].Members(t.Context())
	if err != nil || len(all) != 2 || all[0].Address != g.peers["n1"].addr {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestANodeMoves(t *testing.T) {
	g := newGroup(t, 3, nil)
	g.stop("n3")
	g.peers["n3"] = g.net.node(t, "n3") // another address
	if err := g.nodes["n2"].Readdress(t.Context(), Peer{ID: "n3", Address: g.peers["n3"].addr}); err != nil {
		t.Fatal(err)
	}
	g.start("n3", false)
	g.ready("n3")
	if _, err := g.put(g.nodes["n3"], "S/k", "v"); err != nil {
		t.Fatal(err)
	}
	g.converge()
}

func TestOrdersThatMakeNoSense(t *testing.T) {
	g := newGroup(t, 3, nil)
	n := g.nodes["n2"]
	for what, err := range map[string]error{
		"an unknown node is removed":      n.Remove(t.Context(), "n9"),
		"an unknown node shall lead":      n.Transfer(t.Context(), "n9"),
		"an unknown node moves":           n.Readdress(t.Context(), Peer{ID: "n9", Address: "x"}),
		"a node without address is added": n.AddNonvoter(t.Context(), Peer{ID: "n9"}),
	} {
		if err == nil {
			t.Errorf("%s: done", what)
		}
	}
	// Given again after the leader lost the lead over it, it was done the first time.
	if err := n.order(t.Context(), order{Verb: verbRemove, Peer: Peer{ID: "n9"}, Again: true}, nil); err != nil {
		t.Errorf("a removal that was given before: %v", err)
	}
}

func TestATransferIsQuick(t *testing.T) {
	g := newGroup(t, 3, nil)
	for _, to := range []string{"n2", "n3", "n1"} {
		began := time.Now()
		if err := g.nodes["n1"].Transfer(t.Context(), to); err != nil {
			t.Fatal(err)
		}
		g.eventually(to+" leads", g.nodes[to].Leads)
		if _, err := g.put(g.nodes["n2"], "S/k", to); err != nil {
			t.Fatal(err)
		}
		t.Logf("to %s: %v", to, time.Since(began))
	}
}

// LeadershipChanged tells everybody.
func TestLeadershipIsTold(t *testing.T) {
	g := newGroup(t, 3, nil)
	var told []<-chan struct{}
	for _, id := range g.ids {
		told = append(told, g.nodes[id].LeadershipChanged())
	}
	to := "n2"
	if g.nodes[to].Leads() {
		to = "n3"
	}
	if err := g.nodes["n1"].Transfer(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	for i, c := range told {
		select {
		case <-c:
		case <-time.After(30 * time.Second):
			t.Errorf("%s heard nothing", g.ids[i])
		}
	}
	g.eventually("all know it", func() bool {
		for _, id := range g.ids {
			p, self := g.nodes[id].Leader()
			if p.ID != to || self != (id == to) {
				return false
			}
		}
		return true
	})
}

// A restored backup reaches every node.
func TestRestoreInACluster(t *testing.T) {
	g := newGroup(t, 3, nil)
	if _, err := g.put(g.nodes["n2"], "H/k", "then"); err != nil {
		t.Fatal(err)
	}
	leader := g.leader()
	if v, err := g.get(leader, store.Fresh, "H/k"); v != "then" || err != nil { // a stage is what the node has applied
		t.Fatal(v, err)
	}
	var backup bytes.Buffer
	if _, err := leader.Stage(t.Context(), &backup); err != nil {
		t.Fatal(err)
	}
	if _, err := g.put(g.nodes["n3"], "H/k", "now"); err != nil {
		t.Fatal(err)
	}
	g.eventually("it is restored", func() bool { // a loaded machine may lose leadership meanwhile
		err := g.leader().Restore(t.Context(), bytes.NewReader(backup.Bytes()), int64(backup.Len()))
		if err != nil {
			t.Log(err)
		}
		return err == nil
	})
	for _, id := range g.ids {
		if v, err := g.get(g.nodes[id], store.Fresh, "H/k"); v != "then" || err != nil {
			t.Errorf("%s: %q, %v", id, v, err)
		}
	}
	for _, id := range g.ids {
		if _, err := g.put(g.nodes[id], "H/after/"+id, id); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	g.converge()
}

// What a peer sends beyond all bounds ends its connection, and nothing else.
func TestHugeMessages(t *testing.T) {
	g := newGroup(t, 3, nil)
	n := g.leader()
	dial := func(protocol string) net.Conn {
		c, err := g.peers["n3"].Dial(t.Context(), Peer{ID: n.cfg.NodeID, Address: n.cfg.Address}, protocol)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	ended := func(c net.Conn) {
		t.Helper()
		if err := c.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, c); err != nil && errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("it goes on: %v", err)
		}
	}
	c := dial(StoreProtocol)
	if _, err := c.Write(append(binary.BigEndian.AppendUint32(nil, 2<<30), make([]byte, 9)...)); err != nil {
		t.Fatal(err)
	}
	ended(c)

	c = dial(RaftProtocol)
	// raft's own protocol: AppendEntries with one string said to have 2 GiB.
	head := []byte{0, 0x81, 0xa6, 'L', 'e', 'a', 'd', 'e', 'r', 0xc6, 0x80, 0, 0, 0}
	if _, err := c.Write(head); err != nil {
		t.Fatal(err)
	}
	chunk, sent := make([]byte, 1<<20), 0
	for ; sent < 64; sent++ {
		if err := c.SetWriteDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(chunk); err != nil {
			break
		}
	}
	if sent > 2*maxUnanswered>>20 {
		t.Errorf("%d MiB were taken", sent)
	}
	if _, err := g.put(n, "S/k", "v"); err != nil {
		t.Error(err)
	}
}

// Two nodes that say that they are the same one.
func TestACertificateOfAnotherNode(t *testing.T) {
	n := testNode(t, Config{})
	if verdict, _ := n.meet(hello{Node: "n3"}, "n2"); !strings.Contains(verdict, "own data folder") {
		t.Errorf("%q", verdict)
	}
}

// TestANodeThatDiedIsNotWellAnyMore: who waits until all are well before stopping the
// next node must not be told that a node is which died a moment ago, nor one that is
// back and does not vote yet.
func TestANodeThatDiedIsNotWellAnyMore(t *testing.T) {
	g := newGroup(t, 3, nil)
	leader := g.leader()
	var other string
	for _, id := range g.ids {
		if g.nodes[id] != leader {
			other = id
		}
	}
	note := func() string {
		all, err := leader.Members(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range all {
			if m.ID == other {
				return m.Note
			}
		}
		return "no member"
	}
	g.eventually("all well", func() bool { return note() == "" })
	g.stop(other)
	g.eventually("the leader without a connection", func() bool { return leader.mesh.client(other) == nil })
	if got := note(); got != "it does not answer the leader; look whether it runs" {
		t.Errorf("a node that has stopped is described as %q", got)
	}
	back := g.start(other, false)
	g.ready(other)
	back.known.mu.Lock()
	back.known.vouched, back.known.met, back.known.first = false, map[string]bool{}, time.Now()
	back.known.mu.Unlock()
	g.eventually("the node is back and new", func() bool { return strings.HasPrefix(note(), "it has just started") })
	for _, id := range g.ids {
		back.known.meets(id)
	}
	g.eventually("all well again", func() bool { return note() == "" })
}
