package consensus_test

import (
	"fmt"
	"os"
	"sort"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/consensus"
)

func TestQuick(t *testing.T) {
	if os.Getenv("QUICK") == "" {
		t.Skip()
	}
	dir := t.TempDir()
	fl, _ := os.Create(dir + "/floor")
	fl.Write(make([]byte, 8<<20))
	fl.Sync()
	var ls []time.Duration
	buf := make([]byte, 4096)
	for i := 0; i < 1000; i++ {
		t := time.Now()
		fl.WriteAt(buf, int64(i)*4096)
		syscall.Fdatasync(int(fl.Fd()))
		ls = append(ls, time.Since(t))
	}
	sort.Slice(ls, func(i, j int) bool { return ls[i] < ls[j] })
	fmt.Println("fdatasync p50", ls[500], "p99", ls[990])
	n := open(t, consensus.Config{Dir: dir + "/d"})
	for _, c := range []int{1, 64, 256, 1, 64, 256} {
		var mu sync.Mutex
		var all []time.Duration
		var wg sync.WaitGroup
		var r0, r1 syscall.Rusage
		syscall.Getrusage(0, &r0)
		start := time.Now()
		end := start.Add(3 * time.Second)
		for k := range c {
			wg.Go(func() {
				var l []time.Duration
				for i := 0; time.Now().Before(end); i++ {
					tx := store.NewTx()
					tx.Put(store.Key(fmt.Sprintf("S/k/%d/%d/%d", c, k, i)), make([]byte, 256))
					s := time.Now()
					if _, err := n.Apply(t.Context(), tx); err != nil {
						t.Error(err)
						return
					}
					l = append(l, time.Since(s))
				}
				mu.Lock()
				all = append(all, l...)
				mu.Unlock()
			})
		}
		wg.Wait()
		el := time.Since(start)
		syscall.Getrusage(0, &r1)
		cpu := float64(r1.Utime.Nano()+r1.Stime.Nano()-r0.Utime.Nano()-r0.Stime.Nano()) / 1e3
		sort.Slice(all, func(i, j int) bool { return all[i] < all[j] })
		fmt.Printf("clients %d: %.0f/s p50 %v p99 %v cpu %.1f us/tx\n", c, float64(len(all))/el.Seconds(), all[len(all)/2], all[len(all)*99/100], cpu/float64(len(all)))
	}
}
