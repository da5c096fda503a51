package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/cloister-os/cloister/test/bench/load"
	"github.com/cloister-os/cloister/test/kvnode/wire"
)

// failover kills the leader again and again under a load and measures how long
// nothing is written; then it hands leadership over as planned. BENCH_KILLS says
// how often (200).
func failover(ctx context.Context, f *figures) error {
	kills := count("BENCH_KILLS", 200)
	c, done, err := startCloister(ctx, "failover")
	if err != nil {
		return err
	}
	defer done()
	w, err := c.watch(ctx)
	if err != nil {
		return err
	}
	defer w.close()
	var gaps, handed []float64
	for i := range kills {
		gap, err := c.killLeader(ctx, w)
		if err != nil {
			return fmt.Errorf("kill %d: %w", i+1, err)
		}
		gaps = append(gaps, gap.Seconds()*1000)
	}
	for i := range max(10, kills/4) {
		gap, err := c.handOver(ctx, w)
		if err != nil {
			return fmt.Errorf("transfer %d: %w", i+1, err)
		}
		handed = append(handed, gap.Seconds()*1000)
	}
	f.add("kills", float64(len(gaps)), "")
	f.points("kill_gap", gaps, "ms")
	f.add("transfers", float64(len(handed)), "")
	f.points("transfer_gap", handed, "ms")
	return nil
}

func count(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
		return n
	}
	return otherwise
}

// startCloister starts three nodes in a folder of their own.
func startCloister(ctx context.Context, name string, more ...string) (*cloister, func(), error) {
	dir, err := filepath.Abs("build/bench-" + name)
	if err != nil {
		return nil, nil, err
	}
	c := &cloister{more: more}
	done := func() {
		c.stop()
		if os.Getenv("BENCH_KEEP") == "" {
			_ = os.RemoveAll(dir)
		}
	}
	if err := errors.Join(os.MkdirAll("build/peers", 0o755), os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		return nil, done, err
	}
	if err := c.start(ctx, dir); err != nil {
		done()
		return nil, nil, err
	}
	return c, done, nil
}

// watched are clients that write all the time, each at a node of its own, and
// note when they last succeeded.
type watched struct {
	end context.CancelFunc
	all sync.WaitGroup

	mu   sync.Mutex // guards all below
	last time.Time  // of the newest success of any client
	gap  time.Duration
}

func (c *cloister) watch(ctx context.Context) (*watched, error) {
	ctx, end := context.WithCancel(ctx)
	w := &watched{end: end, last: time.Now()}
	for i := range 6 {
		w.all.Go(func() { c.writeOn(ctx, w, i) })
	}
	return w, nil
}

// writeOn writes through one node, anew after each error.
func (c *cloister) writeOn(ctx context.Context, w *watched, client int) {
	for n := 0; ctx.Err() == nil; n++ {
		k, err := openCloister(ctx, c.keys, c.bench[client%3])
		if err != nil {
			pause(ctx, 20*time.Millisecond)
			continue
		}
		for ctx.Err() == nil && err == nil {
			one, cancel := context.WithTimeout(ctx, 2*time.Second)
			if err = k.Put(one, fmt.Sprintf("watch/%d/%d", client, n%load.Keys), make([]byte, 256)); err == nil {
				w.success()
			}
			cancel()
		}
		_ = k.Close()
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (w *watched) success() {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	w.gap, w.last = max(w.gap, now.Sub(w.last)), now
}

// since forgets the gaps so far.
func (w *watched) since() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gap = 0
}

// longest is the longest time without a success since then, the present included.
func (w *watched) longest() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return max(w.gap, time.Since(w.last))
}

func (w *watched) close() { w.end(); w.all.Wait() }

// killLeader kills the leader, waits until the two others write and the third is
// back, and returns the longest gap.
func (c *cloister) killLeader(ctx context.Context, w *watched) (time.Duration, error) {
	if err := until(ctx, "wait for three healthy nodes", c.findLeader); err != nil {
		return 0, err
	}
	dead := c.lead
	w.since()
	began := time.Now()
	node := c.node(dead)
	if err := node.Process.Signal(syscall.SIGKILL); err != nil {
		return 0, err
	}
	_ = node.Wait()
	err := until(ctx, "wait for writes after a kill", func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.last.Sub(began) < 50*time.Millisecond {
			return errors.New("nothing was written yet")
		}
		return nil
	})
	if err != nil {
		c.explain()
		return 0, err
	}
	pause(ctx, 500*time.Millisecond) // the longest gap is over when writes go on
	gap := w.longest()
	return gap, c.again(dead)
}

// explain ends every node with what its goroutines do in its log, for whoever
// keeps the folder (BENCH_KEEP).
func (c *cloister) explain() {
	for i := range c.running {
		fmt.Fprintf(os.Stderr, "node %d: process %d\n", i, c.node(i).Process.Pid)
		_ = c.node(i).Process.Signal(syscall.SIGQUIT)
	}
	time.Sleep(2 * time.Second)
}

// node is the newest process of a node.
func (c *cloister) node(i int) *nodeProc { return c.running[i] }

// handOver moves leadership as planned and returns the longest gap.
func (c *cloister) handOver(ctx context.Context, w *watched) (time.Duration, error) {
	if err := until(ctx, "wait for three healthy nodes", c.findLeader); err != nil {
		return 0, err
	}
	old := c.lead
	w.since()
	if err := c.ask(http.MethodPost, old, wire.AdminPath, wire.Admin{Do: "transfer"}, nil); err != nil {
		return 0, err
	}
	err := until(ctx, "wait for another leader", func() error {
		if err := c.findLeader(); err != nil {
			return err
		}
		if c.lead == old {
			return errors.New("the old one still leads")
		}
		return nil
	})
	pause(ctx, 200*time.Millisecond)
	return w.longest(), err
}
