package consensus

import (
	"fmt"
	"log/slog"
	"testing"

	"github.com/cloister-os/cloister/store"
)

func (g *group) config(id string) Config {
	return Config{Dir: g.dirs[id], NodeID: id, ReserveBytes: -1, Address: g.peers[id].addr, Logger: slog.New(slog.NewTextHandler(g.Output(), nil))}
}

// TestOneNodeGoesOnAlone loses two nodes of three, recovers the third, and lets
// new ones join it.
func TestOneNodeGoesOnAlone(t *testing.T) {
	g := newGroup(t, 3, nil)
	var last store.Result
	for i := range 50 {
		tx := store.NewTx()
		tx.Put(store.Key(fmt.Sprintf("H/k%02d", i)), fmt.Append(nil, i))
		var err error
		if last, err = g.nodes["n1"].Apply(t.Context(), tx); err != nil {
			t.Fatal(err)
		}
	}
	g.eventually("n2 has it all", func() bool { return g.nodes["n2"].Applied() >= last.Version })
	for _, id := range g.ids {
		g.stop(id)
	}
	before, err := Inspect(g.config("n2"))
	if err != nil {
		t.Fatal(err)
	}
	if len(before.Members) != 3 || before.Last < uint64(last.Version) {
		t.Errorf("remains %+v", before)
	}
	for range 2 { // also again, as after a crash
		if _, err := Recover(g.config("n2")); err != nil {
			t.Fatal(err)
		}
	}
	after, err := Inspect(g.config("n2"))
	if err != nil || len(after.Members) != 1 || after.Members[0].ID != "n2" || after.Members[0].Address != g.peers["n2"].addr {
		t.Fatalf("remains %+v, %v", after, err)
	}
	n := g.start("n2", false)
	g.ready("n2")
	err = n.View(t.Context(), store.Fresh, func(s store.Snapshot) error {
		for i := range 50 {
			if item, err := s.Get(store.Key(fmt.Sprintf("H/k%02d", i))); err != nil || string(item.Value) != fmt.Sprint(i) {
				t.Errorf("key %d: %q, %v", i, item.Value, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	g.ids = append(g.ids, "n9")
	g.peers["n9"], g.dirs["n9"] = g.net.node(t, "n9"), t.TempDir()
	g.start("n9", false)
	if err := n.AddNonvoter(t.Context(), Peer{ID: "n9", Address: g.peers["n9"].addr}); err != nil {
		t.Fatal(err)
	}
	g.ready("n9")
	tx := store.NewTx()
	tx.Put("H/new", []byte("x"))
	if _, err := g.nodes["n9"].Apply(t.Context(), tx); err != nil {
		t.Fatal(err)
	}
}

func TestRecoveringNothingIsRefused(t *testing.T) {
	g := &group{TB: t, net: newFakeNet(), peers: map[string]*fakePeers{}, dirs: map[string]string{"n1": t.TempDir()}}
	g.peers["n1"] = g.net.node(t, "n1")
	if _, err := Recover(g.config("n1")); err == nil {
		t.Error("an empty folder was recovered")
	}
}
