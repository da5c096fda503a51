package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cloister-os/cloister/test/bench/load"
	"github.com/cloister-os/cloister/test/kvnode/wire"
)

// stateMB is how much state the benchmarks of a large node fill in.
func stateMB() int { return count("BENCH_STATE_MB", 1024) }

// fillState writes incompressible values of 4 KB, in bulk, to the leader.
func (c *cloister) fillState(ctx context.Context, megabytes int) error {
	const perTx = 40
	total := megabytes << 20 / (4096 * perTx)
	next := make(chan int)
	errs := make(chan error, 8)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range next {
				if err := c.fillOne(ctx, i, perTx); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	var err error
	for i := 0; i < total && err == nil; {
		select {
		case next <- i:
			i++
		case err = <-errs:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	close(next)
	wg.Wait()
	return err
}

func (c *cloister) fillOne(ctx context.Context, i, values int) error {
	tx := wire.Tx{Bulk: true}
	for v := range values {
		b := make([]byte, 2048)
		_, _ = rand.Read(b)
		tx.Puts = append(tx.Puts, wire.Put{Key: fmt.Sprintf("S/kv/fill/%d/%d", i, v), Value: hex.EncodeToString(b)})
	}
	return until(ctx, "fill", func() error { return c.ask(http.MethodPost, c.lead, wire.TxPath, tx, nil) })
}

// snapshots measures writes while the leader stages all of its state, from the first
// byte of a stage to its last, in turn with writes alone.
func snapshots(ctx context.Context, f *figures) error {
	c, done, err := startCloister(ctx, "snapshot")
	if err != nil {
		return err
	}
	defer done()
	if err := c.fillState(ctx, stateMB()); err != nil {
		return err
	}
	f.add("state", float64(stateMB()), "MB")
	var alone, beside samples
	var rates, tails, took []float64
	for round := range 10 {
		if err := alone.take(ctx, c, cell{64, 256, false}, round); err != nil {
			return err
		}
		first := len(beside.rate)
		seconds, err := c.takeBesideStage(ctx, &beside)
		if err != nil {
			return err
		}
		took = append(took, seconds)
		rates = append(rates, median(beside.rate[first:])/alone.rate[round])
		tails = append(tails, median(beside.p99[first:])/alone.p99[round])
		fmt.Fprintf(os.Stderr, "round %d: %.1f s, %.2f of the rate, %.2f times the p99\n", round+1, seconds, rates[round], tails[round])
	}
	alone.report(f, "alone")
	beside.report(f, "beside_snapshot")
	f.spread("rate_ratio", rates, "")
	f.spread("p99_ratio", tails, "")
	f.spread("snapshot_took", took, "s")
	return nil
}

// takeBesideStage drives writes, slice by slice, until the leader has staged, and
// returns how long that took. The last slice, which outlives the stage, does not count.
func (c *cloister) takeBesideStage(ctx context.Context, x *samples) (seconds float64, err error) {
	type stage struct {
		seconds float64
		err     error
	}
	staged := make(chan stage, 1)
	go func() {
		began := time.Now()
		err := c.askWithin(10*time.Minute, http.MethodPost, c.lead, wire.AdminPath, wire.Admin{Do: "stage"}, nil)
		staged <- stage{time.Since(began).Seconds(), err}
	}()
	for slice := 0; ; slice++ {
		before := *x
		if err := x.take(ctx, c, cell{64, 256, false}, slice); err != nil {
			return 0, err
		}
		select {
		case s := <-staged:
			if slice > 0 {
				*x = before
			}
			return s.seconds, s.err
		default:
		}
	}
}

// restarts measures how long a node with much state takes to be ready after a
// kill, and what memory it holds.
func restarts(ctx context.Context, f *figures) error {
	c, done, err := startCloister(ctx, "restart")
	if err != nil {
		return err
	}
	defer done()
	if err := c.fillState(ctx, stateMB()); err != nil {
		return err
	}
	f.add("state", float64(stateMB()), "MB")
	f.add("anonymous_memory_after_fill", c.anonymous(c.lead), "MB")
	var ready, healthy []float64
	for range 5 {
		if err := until(ctx, "wait for three healthy nodes", c.findLeader); err != nil {
			return err
		}
		i := (c.lead + 1) % 3
		node := c.node(i)
		if err := node.Process.Signal(syscall.SIGKILL); err != nil {
			return err
		}
		_ = node.Wait()
		if _, err := c.drive(ctx, load.Job{Clients: 64, Bytes: 256, For: 2 * time.Second, Name: "meanwhile"}); err != nil {
			return err
		}
		began := time.Now()
		if err := c.again(i); err != nil {
			return err
		}
		err := until(ctx, "wait for a node that was started again", func() error {
			var s wire.Status
			if err := c.status(i, &s); err != nil {
				return err
			}
			if s.Trouble != "" {
				return errors.New(s.Trouble)
			}
			return nil
		})
		if err != nil {
			return err
		}
		ready = append(ready, time.Since(began).Seconds())
		if err := until(ctx, "wait for three healthy nodes", c.findLeader); err != nil {
			return err
		}
		healthy = append(healthy, time.Since(began).Seconds())
	}
	f.spread("ready", ready, "s")
	f.spread("caught_up", healthy, "s")
	for i := range 3 {
		f.add(fmt.Sprintf("anonymous_memory_node_%d", i), c.anonymous(i), "MB")
	}
	return nil
}

// anonymous is a node's RssAnon, in MB.
func (c *cloister) anonymous(i int) float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.node(i).Process.Pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		var kb float64
		if _, err := fmt.Sscanf(line, "RssAnon: %f kB", &kb); err == nil {
			return kb / 1024
		}
	}
	return 0
}
