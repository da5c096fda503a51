package consensus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/consensus/rpc"
	"github.com/cloister-os/cloister/store/machine"
	"github.com/cloister-os/cloister/store/storetest"
)

// group is a cluster of nodes in this process.
type group struct {
	testing.TB
	net   *fakeNet
	ids   []string
	peers map[string]*fakePeers
	dirs  map[string]string
	nodes map[string]*Node
	tune  func(*Config)
}

// newGroup starts a cluster whose nodes all vote.
func newGroup(t testing.TB, size int, tune func(*Config)) *group {
	g := &group{
		TB: t, net: newFakeNet(), peers: map[string]*fakePeers{}, dirs: map[string]string{}, nodes: map[string]*Node{}, tune: tune,
	}
	for i := range size {
		id := fmt.Sprint("n", i+1)
		g.ids = append(g.ids, id)
		g.peers[id], g.dirs[id] = g.net.node(t, id), t.TempDir()
	}
	t.Cleanup(func() {
		for _, id := range g.ids {
			g.stop(id)
		}
	})
	first := g.start(g.ids[0], true)
	for _, id := range g.ids[1:] {
		g.start(id, false)
		if err := first.AddNonvoter(t.Context(), Peer{ID: id, Address: g.peers[id].addr}); err != nil {
			t.Fatal(err)
		}
	}
	g.voters(size)
	for _, id := range g.ids {
		g.ready(id)
	}
	return g
}

// start opens a node.
func (g *group) start(id string, found bool) *Node {
	g.Helper()
	c := Config{
		Dir: g.dirs[id], NodeID: id, ReserveBytes: -1, Peers: g.peers[id], Address: g.peers[id].addr, Found: found,
		Stabilize: 40 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(g.Output(), nil)).With("node", id),
	}
	if g.tune != nil {
		g.tune(&c)
	}
	n, err := Open(context.Background(), c)
	if err != nil {
		g.Fatal(err)
	}
	g.nodes[id] = n
	return n
}

// stop closes a node.
func (g *group) stop(id string) {
	if n := g.nodes[id]; n != nil {
		delete(g.nodes, id)
		if err := n.Close(); err != nil {
			g.Errorf("close %s: %v", id, err)
		}
	}
}

func (g *group) ready(id string) {
	g.Helper()
	select {
	case <-g.nodes[id].Ready():
	case err := <-g.nodes[id].Fatal():
		g.Fatal(err)
	case <-time.After(60 * time.Second):
		g.Fatalf("%s is not ready: %v", id, g.nodes[id].Healthy(g.Context()))
	}
}

// eventually polls until a condition holds.
func (g *group) eventually(what string, f func() bool) {
	g.Helper()
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if f() {
			return
		}
	}
	g.Fatalf("it never came about: %s", what)
}

// leader waits for a node that leads.
func (g *group) leader() *Node {
	g.Helper()
	var leader *Node
	g.eventually("a leader", func() bool {
		for _, n := range g.nodes {
			if n.Leads() {
				leader = n
				return true
			}
		}
		return false
	})
	return leader
}

// voters waits until so many nodes vote.
func (g *group) voters(want int) {
	g.Helper()
	g.eventually(fmt.Sprint(want, " voters"), func() bool {
		others, self := g.leader().voters()
		return len(others)+self == want
	})
}

func (g *group) put(n *Node, k, v string) (store.Result, error) {
	tx := store.NewTx()
	tx.Put(store.Key(k), []byte(v))
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return n.Apply(ctx, tx)
}

func (g *group) get(n *Node, at store.ReadAt, k string) (v string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	err = n.View(ctx, at, func(s store.Snapshot) error {
		item, err := s.Get(store.Key(k))
		v = string(item.Value)
		return err
	})
	return v, err
}

func TestThreeNodesServeEverywhere(t *testing.T) {
	g := newGroup(t, 3, nil)
	for i, id := range g.ids {
		k := fmt.Sprint("S/k/", i)
		if _, err := g.put(g.nodes[id], k, "v"); err != nil {
			t.Fatal(id, err)
		}
		if v, err := g.get(g.nodes[id], store.Local, k); v != "v" || err != nil {
			t.Errorf("its own write, locally at %s: %q, %v", id, v, err)
		}
		for _, other := range g.ids {
			if v, err := g.get(g.nodes[other], store.Fresh, k); v != "v" || err != nil {
				t.Errorf("fresh at %s: %q, %v", other, v, err)
			}
		}
	}
}

func TestSuiteOnEachNode(t *testing.T) {
	for _, which := range []string{"n1", "n3"} {
		t.Run(which, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) store.Store {
				return newGroup(t, 3, nil).nodes[which]
			})
		})
	}
}

// smallSegments are logs whose files are small, so that a cut removes some.
type smallSegments struct{ files }

// OpenLog implements Disk.
func (f smallSegments) OpenLog() (Log, error) {
	if err := machine.MakeDir(f.dir); err != nil {
		return nil, err
	}
	meta := &metadb.BoltMetaDB{}
	w, err := wal.Open(f.dir, wal.WithMetaStore(meta), wal.WithSegmentSize(16<<10))
	if err != nil {
		return nil, errors.Join(err, meta.Close())
	}
	return &walLog{w, meta}, nil
}

// pipe is an rpc connection and the other end of it.
func pipe(t *testing.T) (*rpc.Conn, net.Conn) {
	a, b := net.Pipe()
	c := rpc.New(a, time.Minute)
	t.Cleanup(func() { c.Close(); b.Close() })
	go io.Copy(io.Discard, b)
	return c, b
}

// Data that ends before its end is refused; raft learns the size of what is whole.
func TestDataThatWasCut(t *testing.T) {
	n := testNode(t, Config{})
	for _, whole := range []bool{true, false} {
		conn, _ := pipe(t)
		in := &incoming{node: n, conn: conn, req: &raft.InstallSnapshotRequest{}, pieces: make(chan piece, 4)}
		in.pieces <- piece{1, []byte("abc")}
		in.pieces <- piece{2, []byte("de")}
		if whole {
			in.pieces <- piece{3, nil}
		}
		time.AfterFunc(20*time.Millisecond, conn.Close)
		got, err := io.ReadAll(in)
		switch {
		case whole && (err != nil || string(got) != "abcde" || in.req.Size != 5):
			t.Errorf("whole: %q of %d, %v", got, in.req.Size, err)
		case !whole && (!errors.Is(err, io.ErrUnexpectedEOF) || in.req.Size != 0):
			t.Errorf("cut: %q of %d, %v", got, in.req.Size, err)
		}
	}
}

// Data that the disk cannot hold is refused with a sentence.
func TestDataThatDoesNotFit(t *testing.T) {
	n := testNode(t, Config{FreeBytes: func(string) (int64, error) { return 300 << 20, nil }})
	conn, _ := pipe(t)
	in := &incoming{node: n, conn: conn, req: &raft.InstallSnapshotRequest{}, pieces: make(chan piece, 4), size: 100 << 20}
	in.pieces <- piece{1, []byte("abc")}
	if _, err := io.ReadAll(in); err == nil || !strings.Contains(err.Error(), "free some space") {
		t.Errorf("got %v", err)
	}
}

func TestFarBehindGetsTheData(t *testing.T) {
	g := newGroup(t, 3, func(c *Config) {
		c.SyncEvery, c.SnapshotEntries, c.TrailingLogs = 20*time.Millisecond, 10, 10
		c.Disk = smallSegments{files{c.Dir + "/raft", nil, c.Logger}}
	})
	away := g.nodes["n3"]
	if away.Leads() {
		t.Fatal("the founder does not lead")
	}
	g.stop("n3")
	leader := g.leader()
	value := strings.Repeat("v", 1000)
	for i := range 200 {
		if _, err := g.put(leader, fmt.Sprint("H/k/", i%50), fmt.Sprint(value, i)); err != nil {
			t.Fatal(err)
		}
	}
	g.eventually("the log is cut", func() bool {
		return errors.Is(leader.logs.GetLog(uint64(away.Applied())+1, &raft.Log{}), raft.ErrLogNotFound)
	})
	g.start("n3", false)
	g.ready("n3")
	if snaps, err := g.nodes["n3"].snapshots.List(); err != nil || len(snaps) == 0 {
		t.Errorf("it got no snapshot: %v", err)
	}
	if _, err := g.put(g.nodes["n3"], "H/k/0", "after"); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		k := fmt.Sprint("H/k/", i)
		want, err := g.get(leader, store.Fresh, k)
		if err != nil {
			t.Fatal(err)
		}
		if v, err := g.get(g.nodes["n3"], store.Fresh, k); v != want || err != nil {
			t.Errorf("%s is %q, %v; want %q", k, v, err, want)
		}
	}
	g.stop("n3")
	g.start("n3", false) // its log begins above the snapshot
	g.ready("n3")
	if v, err := g.get(g.nodes["n3"], store.Fresh, "H/k/0"); v != "after" || err != nil {
		t.Errorf("after a restart: %q, %v", v, err)
	}
}
