package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cloister-os/cloister/store/storetest"
	"github.com/cloister-os/cloister/test/bench/load"
)

const (
	storeRounds = 5
	storeFor    = 3 * time.Second
)

// cell is one load of the comparison.
type cell struct {
	clients, bytes int
	reads          bool
}

func (c cell) name() string {
	kind := "write"
	if c.reads {
		kind = "read"
	}
	return fmt.Sprintf("%s_%dB_%d", kind, c.bytes, c.clients)
}

// storeCells are the loads; reads are compared with etcd alone. BENCH_LOAD leaves those
// whose name holds it, and BENCH_SYSTEM one system, for whoever looks into one.
func storeCells() []cell {
	return slices.DeleteFunc(allCells(), func(c cell) bool { return !strings.Contains(c.name(), os.Getenv("BENCH_LOAD")) })
}

func allCells() (out []cell) {
	for _, bytes := range []int{256, 4096} {
		for _, clients := range []int{1, 64, 256} {
			out = append(out, cell{clients, bytes, false})
		}
	}
	for _, clients := range []int{1, 64, 256} {
		out = append(out, cell{clients, 256, true})
	}
	return out
}

// replicated compares the replicated store with etcd and rqlite: three processes
// each, TLS with client certificates, separate connections, one write for each
// call, every load in turn on every system, in rounds.
func replicated(ctx context.Context, f *figures) error {
	if err := os.MkdirAll("build/peers", 0o755); err != nil {
		return err
	}
	dir, err := filepath.Abs("build/bench-store")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	systems := []system{&cloister{}, &etcd{}, &rqlite{}}
	systems = slices.DeleteFunc(systems, func(s system) bool { return !strings.Contains(s.name(), os.Getenv("BENCH_SYSTEM")) })
	for _, s := range systems {
		own := filepath.Join(dir, s.name())
		if err := errors.Join(os.RemoveAll(own), os.MkdirAll(own, 0o755)); err != nil {
			return err
		}
		defer s.stop()
		if err := s.start(ctx, own); err != nil {
			return fmt.Errorf("start %s: %w", s.name(), err)
		}
	}
	return compare(ctx, f, dir, systems)
}

// compare puts each load on each system in turn, so that whatever else the
// machine does meets them alike.
func compare(ctx context.Context, f *figures, dir string, systems []system) error {
	seen := map[string]*samples{}
	var floor []float64
	for round := range storeRounds {
		l, err := storetest.Fdatasync(dir, 300)
		if err != nil {
			return err
		}
		floor = append(floor, millis(l.P50))
		for _, c := range storeCells() {
			for i := range systems {
				s := systems[(i+round)%len(systems)] // nobody is always first
				if c.reads && s.name() == "rqlite" {
					continue
				}
				key := s.name() + "_" + c.name()
				if seen[key] == nil {
					seen[key] = &samples{}
				}
				if err := seen[key].take(ctx, s, c, round); err != nil {
					return fmt.Errorf("%s: %w", key, err)
				}
			}
		}
		fmt.Fprintf(os.Stderr, "round %d of %d\n", round+1, storeRounds)
	}
	f.spread("fdatasync_p50", floor, "ms")
	for _, c := range storeCells() {
		for _, s := range systems {
			if x := seen[s.name()+"_"+c.name()]; x != nil {
				x.report(f, s.name()+"_"+c.name())
			}
		}
	}
	return nil
}

// samples are what one system showed under one load, round by round.
type samples struct {
	rate, p50, p99, server, client []float64
	failed                         int
}

func (x *samples) take(ctx context.Context, s system, c cell, round int) error {
	before := s.cpu()
	r, err := s.drive(ctx, load.Job{Clients: c.clients, Bytes: c.bytes, Reads: c.reads, For: storeFor, Name: fmt.Sprintf("%s-%d", c.name(), round)})
	if err != nil {
		return err
	}
	if r.Failed > 0 {
		fmt.Fprintf(os.Stderr, "%s %s: %d calls failed: %s\n", s.name(), c.name(), r.Failed, r.FirstFailure)
	}
	x.failed += r.Failed
	x.rate, x.p50, x.p99 = append(x.rate, r.PerSecond), append(x.p50, millis(r.P50)), append(x.p99, millis(r.P99))
	x.server = append(x.server, float64((s.cpu()-before).Microseconds())/float64(r.Done))
	x.client = append(x.client, float64(r.CPU.Microseconds())/float64(r.Done))
	return nil
}

func (x *samples) report(f *figures, name string) {
	f.spread(name+"_rate", x.rate, "op/s")
	f.spread(name+"_latency_p50", x.p50, "ms")
	f.spread(name+"_latency_p99", x.p99, "ms")
	f.spread(name+"_server_cpu", x.server, "us/op")
	f.spread(name+"_client_cpu", x.client, "us/op")
	f.add(name+"_failed", float64(x.failed), "op")
}

// generate is the load generator: `bench load -system …`, started by drive.
func generate(ctx context.Context, args []string) error {
	var j load.Job
	fs := flag.NewFlagSet("load", flag.ContinueOnError)
	fs.IntVar(&j.Clients, "clients", 1, "clients, each with a connection of its own")
	fs.IntVar(&j.Bytes, "bytes", 256, "size of a value")
	fs.DurationVar(&j.For, "for", storeFor, "how long")
	fs.BoolVar(&j.Reads, "reads", false, "read linearizably instead of writing")
	fs.StringVar(&j.Name, "name", "bench", "prefix of the keys")
	system, server := fs.String("system", "", "cloister or rqlite"), fs.String("server", "", "host:port")
	var keys pki
	fs.StringVar(&keys.ca, "ca", "", "CA, PEM")
	fs.StringVar(&keys.client, "cert", "", "client certificate, PEM")
	fs.StringVar(&keys.clientKey, "key", "", "its key, PEM")
	if err := fs.Parse(args); err != nil {
		return err
	}
	r, err := load.Run(ctx, j, func(ctx context.Context, _ int) (load.Client, error) {
		switch *system {
		case "rqlite":
			return openRqlite(keys, *server)
		case "cloister":
			return openCloister(ctx, keys, *server)
		}
		return nil, fmt.Errorf("no system is called %q", *system)
	})
	if err != nil {
		return err
	}
	return r.Print(os.Stdout)
}
