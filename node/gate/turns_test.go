package gate

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

// TestACrowdWaitsForItself: beside 1,500 who wait from one address, the first from
// another one is next but one, and who goes on comes before who begins.
func TestACrowdWaitsForItself(t *testing.T) {
	crowd, lone := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	synctest.Test(t, func(t *testing.T) {
		q := newTurns(1)
		q.take(crowd, false)
		var mu sync.Mutex
		var order []string
		wait := func(source netip.Addr, again bool, name string) {
			go func() {
				q.take(source, again)
				mu.Lock()
				order = append(order, name)
				mu.Unlock()
				q.give()
			}()
			synctest.Wait()
		}
		for i := range 1500 {
			wait(crowd, false, fmt.Sprint("crowd ", i))
		}
		wait(lone, false, "lone")
		wait(crowd, true, "crowd goes on")
		wait(lone, true, "lone goes on")
		q.give()
		synctest.Wait()
		if got := strings.Join(order[:5], ", "); got != "crowd goes on, lone goes on, crowd 0, lone, crowd 1" {
			t.Errorf("the order is %s", got)
		}
		if len(order) != 1503 || order[1502] != "crowd 1499" || slices.Index(order, "crowd 700") > slices.Index(order, "crowd 701") {
			t.Errorf("%d had a turn, %s the last", len(order), order[len(order)-1])
		}
		if q.free != 1 || len(q.queue) != 0 || len(q.ring) != 0 {
			t.Errorf("left: %d free, %d waiting", q.free, len(q.queue))
		}
	})
}

// TestWhoComesFromElsewhereGetsAPlace: when all places are taken by who works, those
// of the largest crowd are given away, the newest first, and never for one of its own.
func TestWhoComesFromElsewhereGetsAPlace(t *testing.T) {
	crowd, lone := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	p := &pool{most: 3, shares: true}
	come := func(source netip.Addr) (c, out *conn, ok bool) {
		c = &conn{source: source}
		if out, ok = p.enter(c); ok {
			c.hold()
		}
		return c, out, ok
	}
	first, _, _ := come(crowd)
	second, _, _ := come(crowd)
	third, _, _ := come(crowd)
	if _, out, ok := come(crowd); ok || out != nil {
		t.Error("one more of the crowd got a place")
	}
	if _, out, ok := come(lone); !ok || out != third {
		t.Errorf("who comes from elsewhere: %v", ok)
	}
	if _, _, ok := come(lone); ok {
		t.Error("who comes from elsewhere got more than their share")
	}
	first.rest()
	if _, out, ok := come(lone); !ok || out != first {
		t.Error("who rests was kept for who comes")
	}
	p.shares = false
	if _, _, ok := come(netip.MustParseAddr("10.0.0.3")); ok || p.n != 3 || len(p.all()) != 3 || second.pool != p {
		t.Error("who works was let go where nobody shares")
	}
}
