package consensus

import (
	"crypto/sha256"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloister-os/cloister/store"
)

func TestDiffering(t *testing.T) {
	a, b := sha256.Sum256([]byte("a")), sha256.Sum256([]byte("b"))
	link := func(v uint64, c [32]byte) []chainLink { return []chainLink{{v, c}} }
	for _, c := range []struct {
		what   string
		values map[string][]chainLink
		want   string
	}{
		{"all equal", map[string][]chainLink{"1": link(5, a), "2": link(5, a), "3": link(5, a)}, ""},
		{"one differs", map[string][]chainLink{"1": link(5, a), "2": link(5, b), "3": link(5, a)}, "2"},
		{"no quorum", map[string][]chainLink{"1": link(5, a), "2": link(5, b)}, ""},
		{"one is behind", map[string][]chainLink{"1": link(5, a), "2": link(4, b), "3": link(5, a)}, ""},
	} {
		got := differing(c.values, 2)
		if _, ok := got[c.want]; len(got) > 1 || ok != (c.want != "") || len(got) == 1 && c.want == "" {
			t.Errorf("%s: %v", c.what, got)
		}
	}
}

func TestClockFollowsTheMedian(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var step atomic.Int64
		c := newClock(func() time.Time { return time.Now().Add(time.Duration(step.Load())) })
		c.sample([]time.Duration{c.own(), time.Second, 2 * time.Second}, 3)
		if got := c.now().Sub(c.steady()); got != time.Second {
			t.Errorf("the median of 0, 1 and 2 s is %v", got)
		}
		step.Store(int64(time.Hour)) // the clock is set while the node leads
		if got := c.now().Sub(c.steady()); got != time.Second {
			t.Errorf("a clock that was set is believed at once: %v", got)
		}
		c.sample([]time.Duration{c.own(), time.Second, 2 * time.Second}, 3)
		if got := c.now().Sub(c.steady()); got != 2*time.Second {
			t.Errorf("the median of 1 h, 1 and 2 s is %v", got)
		}
		if skew := c.skew(); skew != time.Hour-2*time.Second {
			t.Errorf("its own skew is %v", skew)
		}
		c.sample([]time.Duration{c.own(), 0}, 3)
		if got := c.now().Sub(c.steady()); got != 2*time.Second {
			t.Errorf("two clocks of three decide: %v", got)
		}
	})
}

func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pace
		appends := func(n int, took time.Duration) {
			for range n {
				p.begin(time.Now())
				time.Sleep(took)
				p.end(time.Now())
			}
		}
		appends(20, time.Millisecond)
		appends(3, 10*slowFsync)
		if s := p.slow(time.Now()); s != 0 {
			t.Errorf("a hiccup is called slow: %v", s)
		}
		appends(30, slowFsync)
		if s := p.slow(time.Now()); s != slowFsync {
			t.Errorf("a disk that stays slow is not: %v", s)
		}
		appends(20, time.Millisecond)
		if s := p.slow(time.Now()); s != 0 {
			t.Errorf("a disk that recovered is: %v", s)
		}
		p.begin(time.Now())
		time.Sleep(2 * slowFor)
		if s := p.slow(time.Now()); s == 0 {
			t.Error("an append that does not return is not slow")
		}
	})
}

// A leader whose clock is set an hour ahead hands over, and the time of the
// cluster does not follow it.
func TestALeaderWithAWrongClock(t *testing.T) {
	var skew atomic.Int64
	g := newGroup(t, 3, func(c *Config) {
		if c.NodeID == "n1" {
			c.Now = func() time.Time { return time.Now().Add(time.Duration(skew.Load())) }
		}
	})
	g.eventually("n1 leads and knows the time", func() bool {
		n := g.nodes["n1"]
		if !n.Leads() {
			_ = g.nodes["n2"].Transfer(t.Context(), "n1")
		}
		return n.Leads() && n.clock.known()
	})
	skew.Store(int64(time.Hour))
	g.eventually("another node leads", func() bool { return g.nodes["n2"].Leads() || g.nodes["n3"].Leads() })
	res, err := g.put(g.nodes["n1"], "S/k", "v")
	if err != nil {
		t.Fatal(err)
	}
	if ahead := time.Until(res.Time); ahead > 10*time.Second {
		t.Errorf("leader time is %v ahead", ahead)
	}
	g.eventually("the member's clock is reported", func() bool {
		all, err := g.nodes["n2"].Members(t.Context())
		if err != nil {
			return false
		}
		for _, m := range all {
			if m.ID == "n1" && strings.Contains(m.Note, "clock") && m.ClockOffset > 59*time.Minute {
				return true
			}
		}
		return false
	})
}

// A follower whose disk is full stays behind, and catches up when space is freed.
func TestAFollowerWithAFullDisk(t *testing.T) {
	var free atomic.Int64
	free.Store(1 << 40)
	g := newGroup(t, 3, func(c *Config) {
		if c.NodeID == "n3" {
			c.ReserveBytes, c.FreeBytes = 256<<20, func(string) (int64, error) { return free.Load(), nil }
		}
	})
	g.eventually("another node leads", func() bool {
		if g.nodes["n3"].Leads() {
			_ = g.nodes["n3"].Transfer(t.Context(), "")
		}
		return g.nodes["n1"].Leads() || g.nodes["n2"].Leads()
	})
	free.Store(1 << 20)
	g.nodes["n3"].reserve.look()
	for range 5 {
		if _, err := g.put(g.nodes["n1"], "S/k", "v"); err != nil {
			t.Fatal(err)
		}
	}
	if behind, ahead := g.nodes["n3"].raft.LastIndex(), g.leader().raft.LastIndex(); behind >= ahead {
		t.Errorf("a full disk took everything: %d, %d", behind, ahead)
	}
	if _, err := g.put(g.nodes["n3"], "S/k", "v"); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("a write there: %v", err)
	}
	free.Store(1 << 40)
	g.converge()
}

// A node whose state machine decides otherwise than the others stops.
func TestADivergedNodeHalts(t *testing.T) {
	g := newGroup(t, 3, nil)
	bad := g.nodes["n2"]
	write := func(k string) {
		t.Helper()
		if _, err := g.put(g.nodes["n1"], k, "v"); err != nil {
			t.Fatal(err)
		}
	}
	write("S/before")
	for bad.chains.all() == nil {
		var fs []store.Future
		for range 200 {
			tx := store.NewTx()
			tx.Put("S/k", []byte("v"))
			fs = append(fs, g.nodes["n1"].Submit(t.Context(), tx, store.Interactive))
			if len(fs)%4 == 0 {
				_, _ = fs[len(fs)-1].Wait(t.Context())
			}
		}
		for _, f := range fs {
			if _, err := f.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	bad.chains.mu.Lock()
	for i := range bad.chains.links { // as if a bit had flipped
		bad.chains.links[i].Chain[0] ^= 1
	}
	bad.chains.mu.Unlock()
	select {
	case err := <-bad.Fatal():
		if !strings.Contains(err.Error(), "differs from the other nodes") {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("it goes on")
	}
	g.stop("n2")
	if _, err := g.put(g.nodes["n3"], "S/after", "v"); err != nil {
		t.Errorf("the others: %v", err)
	}
}
