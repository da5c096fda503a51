package chaos

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloister-os/cloister/test/chaos/history"
)

// Plan is what a run does.
type Plan struct {
	Seed    uint64
	Nodes   int
	Clients int
	Disks   bool
	// Menu are names of faults, in order; empty = Faults random ones.
	Menu   []string
	Faults int
	// Keep is the folder that a failure is kept in.
	Keep string
}

// Run runs a plan and fails the test when anything is wrong.
func Run(t *testing.T, binary string, p Plan) map[history.Outcome]int {
	t.Helper()
	rnd := rand.New(rand.NewPCG(p.Seed, 7))
	o := Options{Nodes: p.Nodes, Disks: p.Disks}
	if rnd.IntN(2) == 0 { // so that marks, cuts of the log and stages are often under way
		o.Args = []string{"-sync", "50ms", "-entries", "100"}
	}
	if rnd.IntN(2) == 0 {
		o.Args = append(o.Args, "-sealed")
	}
	if rnd.IntN(3) == 0 { // so that queues are full now and then
		o.Args = append(o.Args, "-queue", "16384")
	}
	if rand.New(rand.NewPCG(p.Seed, 11)).IntN(2) == 0 { // so that old versions are dropped under way; of its own, since a seed stays what it was
		o.Args = append(o.Args, "-history", "3s")
	}
	t.Log("kvnodes with ", o.Args)
	c := Start(t, binary, o)
	r := &run{Cluster: c, rnd: rnd, log: t.Logf}
	defer func() {
		if wrong := r.judge(t.Failed()); len(wrong) > 0 {
			if err := c.keep(p.Keep, wrong); err != nil {
				t.Error(err)
			}
			t.Errorf("seed %d, kept in %s:\n%s\n%s", p.Seed, p.Keep, strings.Join(wrong, "\n"), c.tails())
		}
	}()
	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	for i := range p.Clients {
		clients.Go(func() { c.newClient(i, p.Seed).work(ctx) })
	}
	clients.Go(func() { c.watch(ctx, math.MaxInt) })
	r.all(p)
	stop()
	clients.Wait()
	r.end()
	return c.history.Count()
}

// all does the faults of the plan, with pauses between, and leaves everything as
// it should be.
func (r *run) all(p Plan) {
	menu := slices.DeleteFunc(faults(), func(f fault) bool { return f.disks && !p.Disks })
	if len(p.Menu) == 0 {
		for range p.Faults {
			p.Menu = append(p.Menu, menu[r.rnd.IntN(len(menu))].name)
		}
		if rand.New(rand.NewPCG(p.Seed, 13)).IntN(3) == 0 { // members that come and go between other faults meet what those left behind
			for i := 1; i < len(p.Menu); i += 2 {
				p.Menu[i] = "membership"
			}
		}
	}
	r.hold(short, 2*short)
	for _, name := range p.Menu {
		i := slices.IndexFunc(menu, func(f fault) bool { return f.name == name })
		if i < 0 {
			r.wrong("there is no fault %q", name)
			return
		}
		before := len(r.stop)
		began := r.history.Now()
		menu[i].do(r)
		r.log("%6.2fs %s, until %.2fs", float64(began)/1e9, name, float64(r.history.Now())/1e9)
		if len(r.stop) > before || len(r.deaths()) > 0 || r.t.Context().Err() != nil {
			return
		}
		r.hold(0, 2*short)
	}
}

func (r *run) deaths() []string {
	var all []string
	for _, n := range r.nodes {
		all = append(all, n.deaths()...)
	}
	return all
}

// end heals everything, starts who does not run, and waits until all are one.
func (r *run) end() {
	r.net.Heal()
	for _, n := range r.nodes {
		n.pause(false)
		if !n.running() && len(r.deaths()) == 0 {
			r.restart(n)
		}
	}
	if len(r.deaths()) > 0 || len(r.stop) > 0 {
		return
	}
	r.waitVoters(r.nodes...)
	for _, n := range r.nodes {
		r.mustWrite(n)
	}
	if len(r.stop) == 0 {
		r.settle()
	}
}

// judge says everything that is wrong.
func (r *run) judge(failed bool) []string {
	wrong := append(slices.Clone(r.stop), r.deaths()...)
	if failed {
		wrong = append(wrong, "the cluster did not come to rest: see the test's log")
	}
	if len(wrong) > 0 {
		return wrong // the history has no end, so it cannot be judged
	}
	wrong = r.history.Check()
	if n := r.history.Count()[history.OK]; n == 0 {
		wrong = append(wrong, "nothing succeeded, so nothing was proven")
	}
	return wrong
}

// watch notes what the nodes say of themselves, one after the other.
func (c *Cluster) watch(ctx context.Context, times int) {
	for i := 0; ctx.Err() == nil && i < times; i++ {
		n := c.nodes[i%len(c.nodes)]
		if n.running() {
			short, cancel := context.WithTimeout(ctx, time.Second)
			c.glance(short, n)
			cancel()
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}
