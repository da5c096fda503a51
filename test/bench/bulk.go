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

// snapshots measures writes while the leader stages all of its state, window by
// window in turn with writes alone.
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
	var ratio, staged []float64
	for round := range 10 {
		if err := alone.take(ctx, c, cell{64, 256, false}, round); err != nil {
			return err
		}
		took := make(chan float64, 1)
		stage, end := context.WithCancel(ctx)
		go func() { took <- c.stageFor(stage) }()
		err := beside.take(ctx, c, cell{64, 256, false}, round)
		end()
		if n := <-took; n > 0 {
			staged = append(staged, n)
		}
		if err != nil {
			return err
		}
		ratio = append(ratio, beside.rate[round]/alone.rate[round])
	}
	alone.report(f, "alone")
	beside.report(f, "beside_snapshot")
	f.spread("ratio", ratio, "")
	if len(staged) > 0 {
		f.spread("snapshot_took", staged, "s")
	}
	return nil
}

// stageFor stages on the leader, again and again until the context ends, and
// returns how long the first whole one took.
func (c *cloister) stageFor(ctx context.Context) (seconds float64) {
	for ctx.Err() == nil {
		began := time.Now()
		err := c.askWithin(10*time.Minute, http.MethodPost, c.lead, wire.AdminPath, wire.Admin{Do: "stage"}, nil)
		if err == nil && seconds == 0 {
			seconds = time.Since(began).Seconds()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "stage:", err)
			return seconds
		}
	}
	return seconds
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
