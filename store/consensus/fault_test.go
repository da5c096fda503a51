package consensus

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/cloister-os/cloister/store"
)

// registerInput is an operation on one key: a read, or a write of value.
type registerInput struct {
	key   int
	write bool
	value string
}

// registers is a linearizable register for each key.
var registers = porcupine.Model{
	Partition: func(all []porcupine.Operation) [][]porcupine.Operation {
		parts := map[int][]porcupine.Operation{}
		for _, o := range all {
			k := o.Input.(registerInput).key
			parts[k] = append(parts[k], o)
		}
		var out [][]porcupine.Operation
		for _, p := range parts {
			out = append(out, p)
		}
		return out
	},
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		in := input.(registerInput)
		if in.write {
			return true, in.value
		}
		return output == state, state
	},
	Equal: func(a, b any) bool { return a == b },
}

// workload is clients that write and read through random nodes and remember what
// they saw.
type workload struct {
	g     *group
	begin time.Time
	stop  chan struct{}
	wg    sync.WaitGroup

	mu      sync.Mutex // guards all below
	history []porcupine.Operation
	acked   map[string]bool // leaves that must be there
	unknown map[string]bool // leaves that may be
	refused map[string]bool // leaves that must not be
	reads   int
}

const workKeys = 3

func (g *group) work(clients int) *workload {
	w := &workload{
		g: g, begin: time.Now(), stop: make(chan struct{}),
		acked: map[string]bool{}, unknown: map[string]bool{}, refused: map[string]bool{},
	}
	nodes := map[string]*Node{}
	for id, n := range g.nodes {
		nodes[id] = n
	}
	for c := range clients {
		w.wg.Go(func() { w.client(c, nodes) })
	}
	return w
}

func (w *workload) client(c int, nodes map[string]*Node) {
	rnd := rand.New(rand.NewPCG(uint64(c), 7))
	for i := 0; ; i++ {
		select {
		case <-w.stop:
			return
		default:
		}
		n := nodes[w.g.ids[rnd.IntN(len(w.g.ids))]]
		if rnd.IntN(2) == 0 {
			w.write(c, n, registerInput{rnd.IntN(workKeys), true, fmt.Sprint(c, ".", i)})
		} else {
			w.read(c, n, registerInput{key: rnd.IntN(workKeys)})
		}
	}
}

func (w *workload) write(c int, n *Node, in registerInput) {
	tx := store.NewTx()
	tx.Put(store.Key(fmt.Sprint("S/r/", in.key)), []byte(in.value))
	tx.Append("l", []byte(in.value))
	call := time.Since(w.begin)
	var err error
	for range 3 { // the same transaction may be sent again
		ctx, cancel := context.WithTimeout(context.Background(), 700*time.Millisecond)
		_, err = n.Apply(ctx, tx)
		cancel()
		if !errors.Is(err, store.ErrUnknown) {
			break
		}
	}
	end := time.Since(w.begin)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err == nil:
		w.acked[in.value] = true
	case errors.Is(err, store.ErrUnknown):
		w.unknown[in.value] = true
		end = time.Hour
	default:
		w.refused[in.value] = true
		return // it did not happen
	}
	w.history = append(w.history, porcupine.Operation{ClientId: c, Input: in, Call: call.Nanoseconds(), Return: end.Nanoseconds(), Output: ""})
}

func (w *workload) read(c int, n *Node, in registerInput) {
	ctx, cancel := context.WithTimeout(context.Background(), 700*time.Millisecond)
	defer cancel()
	call := time.Since(w.begin)
	var got string
	err := n.View(ctx, store.Fresh, func(s store.Snapshot) error {
		item, err := s.Get(store.Key(fmt.Sprint("S/r/", in.key)))
		if errors.Is(err, store.ErrNotFound) {
			err = nil
		}
		got = string(item.Value)
		return err
	})
	end := time.Since(w.begin)
	if err != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reads++
	w.history = append(w.history, porcupine.Operation{ClientId: c, Input: in, Call: call.Nanoseconds(), Return: end.Nanoseconds(), Output: got})
}

// finish ends the clients and judges what they saw.
func (w *workload) finish() {
	t := w.g.TB
	t.Helper()
	close(w.stop)
	w.wg.Wait()
	t.Logf("%d acknowledged, %d unknown, %d refused, %d reads", len(w.acked), len(w.unknown), len(w.refused), w.reads)
	if len(w.acked) == 0 || w.reads == 0 {
		t.Error("nothing was proven")
	}
	if got := porcupine.CheckOperationsTimeout(registers, w.history, 30*time.Second); got == porcupine.Illegal {
		t.Error("the history is not linearizable")
	}
	w.g.converge()
	for id, n := range w.g.nodes {
		w.leaves(id, n)
	}
}

// leaves checks that what was acknowledged was applied once and nothing twice.
func (w *workload) leaves(id string, n *Node) {
	t := w.g.TB
	times := map[string]int{}
	err := n.View(t.Context(), store.Fresh, func(s store.Snapshot) error {
		for leaf, err := range s.Log("l").Leaves(0) {
			if err != nil {
				return err
			}
			times[string(leaf.Data)]++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for v := range w.acked {
		if times[v] != 1 {
			t.Errorf("%s: %s was acknowledged and is there %d times", id, v, times[v])
		}
	}
	for v, k := range times {
		if k > 1 || w.refused[v] {
			t.Errorf("%s: %s is there %d times (refused: %v)", id, v, k, w.refused[v])
		}
	}
}

// converge waits until all nodes have gone through the same log.
func (g *group) converge() {
	g.Helper()
	g.eventually("a write", func() bool { _, err := g.put(g.leader(), "S/converge", "x"); return err == nil })
	g.eventually("all nodes are equal", func() bool {
		var chains []string
		for _, n := range g.nodes {
			v, _, chain := n.machine.Head()
			chains = append(chains, fmt.Sprint(v, chain))
		}
		for _, c := range chains {
			if c != chains[0] {
				return false
			}
		}
		return true
	})
}

// A leader that is cut off serves nothing stale, loses nothing and doubles nothing.
func TestThePartitionedLeader(t *testing.T) {
	g := newGroup(t, 3, nil)
	w := g.work(12)
	for range 2 {
		cut := g.leader().cfg.NodeID
		g.net.isolate(cut, g.ids, true)
		g.eventually("the others go on", func() bool {
			for id, n := range g.nodes {
				if id != cut && n.Leads() {
					return true
				}
			}
			return false
		})
		time.Sleep(300 * time.Millisecond)
		g.net.isolate(cut, g.ids, false)
		time.Sleep(700 * time.Millisecond)
	}
	w.finish()
}

// Connections that break in the middle of forwards lose and double nothing.
func TestCutConnections(t *testing.T) {
	g := newGroup(t, 3, nil)
	w := g.work(12)
	for i := range 40 {
		g.net.shake([]string{StoreProtocol, StoreProtocol, RaftProtocol}[i%3])
		time.Sleep(50 * time.Millisecond)
	}
	w.finish()
}

// Leadership that goes round under load.
func TestTransfersUnderLoad(t *testing.T) {
	g := newGroup(t, 3, nil)
	w := g.work(12)
	for i := range 9 {
		to := g.ids[i%3]
		if err := g.nodes[g.ids[(i+1)%3]].Transfer(t.Context(), to); err != nil {
			t.Logf("transfer to %s: %v", to, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	w.finish()
}

// One node after the other is stopped and started: nobody loses anything.
func TestRollingRestart(t *testing.T) {
	g := newGroup(t, 3, nil)
	for round, id := range g.ids {
		for i, other := range g.ids {
			if _, err := g.put(g.nodes[other], fmt.Sprint("H/", round, "/", i), other); err != nil {
				t.Fatal(err)
			}
		}
		g.stop(id)
		n := g.nodes[g.ids[(round+1)%3]]
		if _, err := g.put(n, fmt.Sprint("H/", round, "/away"), id); err != nil {
			t.Fatalf("while %s is away: %v", id, err)
		}
		g.start(id, false)
		g.ready(id)
		for i := range g.ids {
			k := fmt.Sprint("H/", round, "/", i)
			if v, err := g.get(g.nodes[id], store.Fresh, k); v != g.ids[i] || err != nil {
				t.Errorf("%s at %s: %q, %v", k, id, v, err)
			}
		}
	}
	g.converge()
}

// Without a quorum everybody is told so within a bound, and goes on afterwards.
func TestWithoutAQuorum(t *testing.T) {
	g := newGroup(t, 3, nil)
	g.net.isolate("n1", g.ids, true)
	g.net.isolate("n2", g.ids, true)
	var wg sync.WaitGroup
	for _, id := range g.ids {
		wg.Go(func() {
			began := time.Now()
			if _, err := g.put(g.nodes[id], "S/k/"+id, "v"); !errors.Is(err, store.ErrBusy) && !errors.Is(err, store.ErrUnknown) {
				t.Errorf("apply at %s: %v", id, err)
			}
			if err := g.nodes[id].View(context.Background(), store.Fresh, func(store.Snapshot) error { return nil }); !errors.Is(err, store.ErrBusy) {
				t.Errorf("fresh at %s: %v", id, err)
			}
			if took := time.Since(began); took > 4*patience {
				t.Errorf("%s took %v", id, took)
			}
			if err := g.nodes[id].View(context.Background(), store.Local, func(store.Snapshot) error { return nil }); err != nil {
				t.Errorf("local at %s: %v", id, err)
			}
			if err := g.nodes[id].Healthy(context.Background()); err == nil {
				t.Errorf("%s calls itself healthy", id)
			}
		})
	}
	wg.Wait()
	g.net.isolate("n1", g.ids, false)
	g.net.isolate("n2", g.ids, false)
	for _, id := range g.ids {
		g.eventually(id+" goes on", func() bool { _, err := g.put(g.nodes[id], "S/after", id); return err == nil })
	}
	g.converge()
}

func TestFiveNodes(t *testing.T) {
	g := newGroup(t, 5, nil)
	w := g.work(10)
	for _, id := range []string{"n2", "n4"} { // two of five may be away
		g.net.isolate(id, g.ids, true)
	}
	time.Sleep(500 * time.Millisecond)
	for _, id := range []string{"n2", "n4"} {
		g.net.isolate(id, g.ids, false)
	}
	time.Sleep(500 * time.Millisecond)
	w.finish()
	all, err := g.nodes["n5"].Members(t.Context())
	if err != nil || len(all) != 5 {
		t.Fatal(all, err)
	}
	leaders := 0
	for _, m := range all {
		if !m.Voter || m.Address != g.peers[m.ID].addr || m.Self != (m.ID == "n5") {
			t.Errorf("%+v", m)
		}
		if m.Leader {
			leaders++
		}
	}
	if leaders != 1 {
		t.Errorf("%d leaders", leaders)
	}
}
