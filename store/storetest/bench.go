package storetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/cloister-os/cloister/store"
)

// Latency is two points of a distribution.
type Latency struct{ P50, P99 time.Duration }

// Figures are what Apply measured.
type Figures struct {
	Clients   int
	PerSecond float64 // durable transactions
	Latency
	CPUMicros float64 // of this process, user and system, for each transaction
}

// Apply measures durable transactions of one put of size bytes, in a closed
// loop of clients, for a while. Interleave it with Fdatasync in one run: the
// figures mean something only beside the disk's.
func Apply(ctx context.Context, s store.Store, clients, size int, d time.Duration) (Figures, error) {
	var mu sync.Mutex
	var all []time.Duration
	var failed error
	run := time.Now().UnixNano()
	cpu := cpuTime()
	begin := time.Now()
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			own, err := client(ctx, s, fmt.Sprintf("S/bench/%x/%d/", run, c), size, begin.Add(d))
			mu.Lock()
			defer mu.Unlock()
			all = append(all, own...)
			failed = errors.Join(failed, err)
		})
	}
	wg.Wait()
	took := time.Since(begin)
	if failed != nil || len(all) == 0 {
		return Figures{}, fmt.Errorf("measure transactions: %w", failed)
	}
	return Figures{
		Clients: clients, PerSecond: float64(len(all)) / took.Seconds(), Latency: points(all),
		CPUMicros: float64((cpuTime() - cpu).Microseconds()) / float64(len(all)),
	}, nil
}

func client(ctx context.Context, s store.Store, prefix string, size int, end time.Time) ([]time.Duration, error) {
	var took []time.Duration
	value := make([]byte, size)
	for i := 0; ; i++ {
		begin := time.Now()
		if begin.After(end) {
			return took, nil
		}
		tx := store.NewTx()
		tx.Put(store.Key(fmt.Sprint(prefix, i)), value)
		if _, err := s.Apply(ctx, tx); err != nil {
			return took, err
		}
		took = append(took, time.Since(begin))
	}
}

// Fdatasync measures what the disk of dir takes to make 4 KiB durable in a file
// that was allocated before: the floor under every durable transaction.
func Fdatasync(dir string, times int) (Latency, error) {
	f, err := os.Create(filepath.Join(dir, "fdatasync"))
	if err != nil {
		return Latency{}, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	block := make([]byte, 4096)
	for range times {
		if _, err := f.Write(block); err != nil {
			return Latency{}, err
		}
	}
	if err := f.Sync(); err != nil {
		return Latency{}, err
	}
	var took []time.Duration
	for i := range times {
		begin := time.Now()
		if _, err := f.WriteAt(block, int64(i)*4096); err != nil {
			return Latency{}, err
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			return Latency{}, err
		}
		took = append(took, time.Since(begin))
	}
	return points(took), nil
}

func points(d []time.Duration) Latency {
	slices.Sort(d)
	return Latency{P50: d[len(d)/2], P99: d[len(d)*99/100]}
}

// cpuTime is what this process has used so far.
func cpuTime() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
