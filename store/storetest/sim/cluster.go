package sim

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/cloister-os/cloister/store/consensus"
	"github.com/cloister-os/cloister/store/machine"
	"github.com/cloister-os/cloister/store/storetest/memory"
)

// cluster is whole nodes on a network and disks in memory.
type cluster struct {
	*Run
	ctx   context.Context // ends with the run
	net   *network
	nodes []*node
	tasks sync.WaitGroup // old lives that are ending
	told  truth
	hist  history
}

// node is a node's disk and its present life.
type node struct {
	id      string
	address string
	disk    *memory.Disk
	logs    *raftDisk
	turn    chan struct{} // held while a life begins or ends

	mu     sync.Mutex // guards all below
	live   *consensus.Node
	host   *host
	offset time.Duration // of its clock
	stall  time.Duration // of each step of its disk
	lives  int
}

// truth is what the cluster decided, as the state machines of all lives saw it.
type truth struct {
	mu       sync.Mutex // guards all below
	groups   map[uint64][]byte
	outcomes map[uint64]string
}

// newCluster starts a cluster of so many nodes that all vote.
func newCluster(r *Run, size int) *cluster {
	c := &cluster{Run: r, net: newNetwork(rand.New(rand.NewPCG(r.Rand.Uint64(), 1)))}
	c.told = truth{groups: map[uint64][]byte{}, outcomes: map[uint64]string{}}
	for i := range size {
		c.add(fmt.Sprint("n", i+1))
	}
	c.open(c.nodes[0], true)
	for _, n := range c.nodes[1:] {
		c.open(n, false)
		c.must(c.join(n), "add "+n.id)
	}
	c.await("all nodes vote", time.Minute, func() bool { return c.voters() == size })
	return c
}

// add makes a node without a life.
func (c *cluster) add(id string) *node {
	n := &node{id: id, address: id + ":1", turn: make(chan struct{}, 1), disk: memory.New(rand.New(rand.NewPCG(c.Rand.Uint64(), 2)))}
	n.logs = newRaftDisk(n.disk)
	n.disk.Pause(func(memory.Op) {
		n.mu.Lock()
		d := n.stall
		n.mu.Unlock()
		if d > 0 {
			time.Sleep(d)
		}
	})
	c.nodes = append(c.nodes, n)
	return n
}

// now is the node's clock.
func (n *node) now() time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return time.Now().Add(n.offset)
}

// open begins a life.
func (c *cluster) open(n *node, found bool) {
	h := c.net.host(n.id, n.address)
	for {
		live, err := consensus.Open(context.Background(), consensus.Config{
			Dir: "/nowhere/" + n.id, NodeID: n.id, Logger: slog.New(lines{c.Run, n.id}), Peers: h, Address: n.address, Found: found,
			Now: n.now, ReserveBytes: -1, Stabilize: 500 * time.Millisecond, Disk: n.logs.life(),
			FreeBytes:       func(string) (int64, error) { return 1 << 40, nil },
			SnapshotEntries: 16, TrailingLogs: 16,
			Machine: machine.Config{Volume: n.disk.Volume(), StateKeep: stateKeep, RingBytes: 1 << 14, Observe: c.observe(n.id)},
		})
		if err == nil {
			n.mu.Lock()
			n.live, n.host = live, h
			n.lives++
			n.mu.Unlock()
			c.Logf("%s: opened", n.id)
			return
		}
		c.Logf("%s: open: %v", n.id, err)
		if !c.excused(err) && !strings.Contains(err.Error(), memory.ErrPower.Error()) && !strings.Contains(err.Error(), errFull.Error()) {
			c.Fatalf("%s does not open: %v", n.id, err)
		}
		h.die(true)
		n.disk.Crash()
		h = c.net.host(n.id, n.address)
	}
}

// observe notes what a state machine applies: at each index all must see the same
// group and decide alike.
func (c *cluster) observe(id string) func(uint64, []byte, *machine.Applied) {
	return func(index uint64, data []byte, a *machine.Applied) {
		said := ""
		for i := range a.Outcomes {
			said += outcome(&a.Outcomes[i]) + "\n"
		}
		c.told.mu.Lock()
		defer c.told.mu.Unlock()
		have, known := c.told.groups[index]
		if !known {
			c.told.groups[index], c.told.outcomes[index] = data, said
			return
		}
		if string(have) != string(data) {
			c.Failf("%s applied another group at %d than the others", id, index)
		}
		if c.told.outcomes[index] != said {
			c.Failf("%s decided group %d as\n%s\nothers as\n%s", id, index, said, c.told.outcomes[index])
		}
	}
}

// present is a node's life, nil when it is down.
func (n *node) present() *consensus.Node {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.live
}

// end ends a life: by power or by kill, or in good order. The old life's
// goroutines go on until they notice.
func (c *cluster) end(n *node, how string) {
	n.mu.Lock()
	live, h := n.live, n.host
	n.live, n.host = nil, nil
	n.mu.Unlock()
	if live == nil {
		return
	}
	c.Logf("%s: %s", n.id, how)
	switch how {
	case "power cut":
		n.disk.Crash()
		h.die(false)
	case "killed":
		n.disk.Restart()
		h.die(true)
	}
	closed := make(chan struct{})
	c.tasks.Go(func() {
		defer close(closed)
		if err := live.Close(); err != nil && how == "closed" && !c.excused(err) {
			c.Failf("%s: close: %v", n.id, err)
		}
		h.die(true)
	})
	if how == "closed" {
		<-closed
	}
}

// join adds a node to the cluster, through whichever node answers.
func (c *cluster) join(n *node) error {
	ctx, cancel := context.WithTimeout(c.background(), time.Minute)
	defer cancel()
	for {
		var err error
		for _, other := range c.nodes {
			live := other.present()
			if other == n || live == nil {
				continue
			}
			if err = live.AddNonvoter(ctx, consensus.Peer{ID: n.id, Address: n.address}); err == nil {
				return nil
			}
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

func (c *cluster) background() context.Context {
	if c.ctx != nil {
		return c.ctx
	}
	return context.Background()
}

// voters is how many nodes vote, as the one that leads sees it.
func (c *cluster) voters() int {
	for _, n := range c.nodes {
		if live := n.present(); live != nil && live.Leads() {
			return live.Voters()
		}
	}
	return 0
}

// await polls until something is so.
func (c *cluster) await(what string, within time.Duration, f func() bool) {
	for end := time.Now().Add(within); !f(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			for _, n := range c.nodes {
				if live := n.present(); live != nil {
					v, _ := live.Head()
					c.Logf("%s: at %d, leads %v, %v", n.id, v, live.Leads(), live.Healthy(context.Background()))
				}
			}
			c.Fatalf("it never came about: %s", what)
		}
	}
}

// lines passes a node's log lines on to the history.
type lines struct {
	run *Run
	id  string
}

// Enabled implements slog.Handler.
func (lines) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

// Handle implements slog.Handler.
func (l lines) Handle(_ context.Context, rec slog.Record) error {
	text := rec.Message
	rec.Attrs(func(a slog.Attr) bool {
		text += " " + a.String()
		return true
	})
	l.run.Logf("%s: %s", l.id, text)
	return nil
}

// WithAttrs implements slog.Handler.
func (l lines) WithAttrs([]slog.Attr) slog.Handler { return l }

// WithGroup implements slog.Handler.
func (l lines) WithGroup(string) slog.Handler { return l }
