package consensus_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/cloister-os/cloister/store/consensus"
	"github.com/cloister-os/cloister/store/storetest"
)

// BenchmarkApply prints the store's figures beside the disk's floor:
//
//	go test -run '^$' -bench Apply -benchtime 1x ./store/consensus
func BenchmarkApply(b *testing.B) {
	n := open(b, consensus.Config{Dir: b.TempDir()})
	for range b.N {
		for _, clients := range []int{1, 64, 256} {
			floor, err := storetest.Fdatasync(b.TempDir(), 500)
			if err != nil {
				b.Fatal(err)
			}
			f, err := storetest.Apply(b.Context(), n, clients, 256, 3*time.Second)
			if err != nil {
				b.Fatal(err)
			}
			fmt.Printf("fdatasync p50 %v p99 %v; %d clients: %.0f/s, p50 %v p99 %v, %.1f us of CPU each\n",
				floor.P50, floor.P99, f.Clients, f.PerSecond, f.P50, f.P99, f.CPUMicros)
		}
	}
}
