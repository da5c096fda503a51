package chaos

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cloister-os/cloister/test/kvnode/wire"
)

const (
	flooders  = 120
	floodSize = 30 << 10 // bytes of a value
	floodShed = 100      // a flood goes on until so many were turned away
	floodAcks = 200      // and so many acknowledged
	floods    = 4
)

// TestFloodIsShed: when more comes than a queue holds, it is refused with a time
// to come back (see post), what was acknowledged is kept, and leadership stays
// where it is: a flood of clients is no election. The machine itself may be so
// busy that a node misses its heartbeats, so of a few floods one must pass.
func TestFloodIsShed(t *testing.T) {
	t.Parallel()
	binary := need(t)
	c := Start(t, binary, Options{Nodes: 3, Disks: true, Args: []string{"-queue", "131072"}})
	calm := false
	for i := 0; i < floods && !calm; i++ {
		before := c.waitLeader()
		was, err := c.status(before)
		if err != nil {
			t.Fatal(err)
		}
		shed, acked := c.flood(t, i)
		now, err := c.status(before)
		calm = err == nil && now.Leads && now.Terms == was.Terms
		t.Logf("%d shed, %d acknowledged, leadership stayed: %v", shed, len(acked), calm)
		c.mustHold(t, acked)
	}
	if !calm {
		t.Errorf("leadership was lost in each of %d floods", floods)
	}
}

// flood writes large values from many clients until enough were turned away, and
// returns the keys that were acknowledged.
func (c *Cluster) flood(t *testing.T, round int) (shed int64, acked []string) {
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	var turned, taken atomic.Int64
	var mu sync.Mutex
	var clients sync.WaitGroup
	value := strings.Repeat("x", floodSize)
	trust := c.client.Transport.(*http.Transport).TLSClientConfig
	for i := range flooders {
		clients.Go(func() {
			client := &http.Client{Transport: &http.Transport{TLSClientConfig: trust.Clone(), MaxConnsPerHost: 1}}
			defer client.CloseIdleConnections()
			for k := 0; ctx.Err() == nil; k++ {
				key := fmt.Sprintf("S/kv/flood/%d-%d-%d", round, i, k)
				n := c.nodes[(i+k)%len(c.nodes)]
				err := post(ctx, client, n.url()+wire.TxPath, wire.Tx{Puts: []wire.Put{{Key: key, Value: value}}}, &wire.Done{})
				var p *problem
				switch {
				case err == nil:
					mu.Lock()
					acked = append(acked, key)
					mu.Unlock()
					taken.Add(1)
				case errors.As(err, &p) && p.Kind == wire.Busy:
					turned.Add(1)
				case errors.As(err, &p) && p.Kind != wire.Unknown:
					t.Errorf("a flood met %v", err)
				}
				if turned.Load() >= floodShed && taken.Load() >= floodAcks {
					stop()
				}
			}
		})
	}
	clients.Wait()
	if turned.Load() < floodShed || len(acked) < floodAcks {
		t.Errorf("%d were shed and %d acknowledged in %v, so nothing was proven", turned.Load(), len(acked), patience)
	}
	return turned.Load(), acked
}

// mustHold reads acknowledged keys back, through any node.
func (c *Cluster) mustHold(t *testing.T, keys []string) {
	t.Helper()
	const page = 100 // of values, or an answer would be huge
	for i := 0; i < len(keys); i += page {
		var v wire.View
		part := keys[i:min(len(keys), i+page)]
		c.until("a fresh read is answered", func() error {
			n := c.nodes[i/page%len(c.nodes)]
			return post(t.Context(), c.client, n.url()+wire.ReadPath, wire.Read{Keys: part}, &v)
		})
		if len(v.Items) != len(part) {
			t.Errorf("%d of %d acknowledged keys are there", len(v.Items), len(part))
		}
	}
}
