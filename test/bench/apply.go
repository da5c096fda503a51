package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/cloister-os/cloister/store/consensus"
	"github.com/cloister-os/cloister/store/storetest"
)

const applyRounds = 5

// apply measures durable transactions of 256 B at 1, 64 and 256 clients, in turn
// with the disk's own fdatasync, on the file system of the working folder.
func apply(ctx context.Context, f *figures) error {
	if err := os.MkdirAll("build", 0o755); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("build", "bench-apply-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	n, err := consensus.Open(ctx, consensus.Config{Dir: dir, NodeID: "bench", Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		return err
	}
	defer n.Close()
	<-n.Ready()
	var floor50, floor99 []float64
	rate, p50, p99, cpu := map[int][]float64{}, map[int][]float64{}, map[int][]float64{}, map[int][]float64{}
	for range applyRounds {
		l, err := storetest.Fdatasync(dir, 500)
		if err != nil {
			return err
		}
		floor50, floor99 = append(floor50, millis(l.P50)), append(floor99, millis(l.P99))
		for _, clients := range []int{1, 64, 256} {
			x, err := storetest.Apply(ctx, n, clients, 256, 3*time.Second)
			if err != nil {
				return err
			}
			rate[clients] = append(rate[clients], x.PerSecond)
			p50[clients] = append(p50[clients], millis(x.P50))
			p99[clients] = append(p99[clients], millis(x.P99))
			cpu[clients] = append(cpu[clients], x.CPUMicros)
		}
	}
	f.spread("fdatasync_p50", floor50, "ms")
	f.spread("fdatasync_p99", floor99, "ms")
	for _, clients := range []int{1, 64, 256} {
		name := fmt.Sprintf("%d_clients_", clients)
		f.spread(name+"rate", rate[clients], "tx/s")
		f.spread(name+"latency_p50", p50[clients], "ms")
		f.spread(name+"latency_p99", p99[clients], "ms")
		f.spread(name+"cpu", cpu[clients], "us/tx")
	}
	return nil
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
