package consensus

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/storetest"
)

// BenchmarkCluster prints the figures of three nodes in one process over loopback
// TCP without TLS, through the leader, a follower and all:
//
//	go test -run '^$' -bench Cluster -benchtime 1x ./store/consensus
func BenchmarkCluster(b *testing.B) {
	g := newGroup(b, 3, nil)
	leader := g.leader()
	follower := g.nodes["n3"]
	if leader == follower {
		follower = g.nodes["n2"]
	}
	for range b.N {
		for _, clients := range []int{1, 64, 256} {
			for _, via := range []string{"leader", "follower"} {
				n := map[string]*Node{"leader": leader, "follower": follower}[via]
				f, err := storetest.Apply(b.Context(), n, clients, 256, 3*time.Second)
				if err != nil {
					b.Fatal(err)
				}
				fmt.Printf("%s, %d clients: %.0f/s, p50 %v p99 %v, %.1f us of CPU each\n", via, clients, f.PerSecond, f.P50, f.P99, f.CPUMicros)
				count, took := freshReads(b, n, clients)
				fmt.Printf("%s, %d readers: %.0f/s, mean %v\n", via, clients, float64(count)/took.Seconds(), (took * time.Duration(clients) / time.Duration(count)).Round(time.Microsecond))
			}
		}
	}
}

func freshReads(b *testing.B, n *Node, clients int) (int64, time.Duration) {
	var count atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for range clients {
		wg.Go(func() {
			for time.Since(began) < 2*time.Second {
				if err := n.View(b.Context(), store.Fresh, func(store.Snapshot) error { return nil }); err != nil {
					b.Error(err)
					return
				}
				count.Add(1)
			}
		})
	}
	wg.Wait()
	return count.Load(), time.Since(began)
}
