// Command kvnode is a node of the store and nothing else, for tests of what the
// store promises: the peer port, store/consensus, and a key-value front over
// HTTPS (see test/kvnode/wire). It is never part of the product.
//
// It promises to add nothing to the store that could hide a fault of the store:
// no retries, no caches. It links no engine, so it builds in seconds.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/cloister-os/cloister/node/heap"
	"github.com/cloister-os/cloister/store/threads"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "kvnode:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) > 0 && args[0] == "spoil" {
		return spoil(args[1:])
	}
	var c config
	if err := c.parse(args); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	threads.Keep()
	go heap.Keep(ctx)
	log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("node", c.id)
	n, err := open(ctx, c, log)
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
	case err = <-n.store.Fatal():
	case err = <-n.failed:
	}
	return errors.Join(err, n.close())
}

// config is a kvnode's command line.
type config struct {
	dir, id, ca string
	listen      string // HTTPS
	peer        string // "" = a node alone
	found       bool
	clock       string // file with an offset of the clock
	reserve     int64
	queue       int
	sync        string
	entries     uint64
	sealed      bool
	history     time.Duration
	bench       string // address of the benchmark's front; "" = none
	bug         string
}

func (c *config) parse(args []string) error {
	f := flag.NewFlagSet("kvnode", flag.ContinueOnError)
	f.StringVar(&c.dir, "dir", "", "data `folder`")
	f.StringVar(&c.id, "id", "", "the node's `name`")
	f.StringVar(&c.ca, "ca", "", "`folder` of the test CA, made when missing")
	f.StringVar(&c.listen, "listen", "127.0.0.1:0", "`address` of the HTTPS front")
	f.StringVar(&c.peer, "peer", "", "`address` of the peer port; empty = a node alone")
	f.BoolVar(&c.found, "found", false, "found a cluster when the folder is new")
	f.StringVar(&c.clock, "clock", "", "`file` that holds an offset for the clock, such as 1h; read often")
	f.Int64Var(&c.reserve, "reserve", 0, "`bytes` of disk kept free, 0 = the default")
	f.IntVar(&c.queue, "queue", 0, "`bytes` of queue for each class, 0 = the default")
	f.StringVar(&c.sync, "sync", "", "`duration` between syncs of the databases, empty = the default")
	f.Uint64Var(&c.entries, "entries", 0, "`entries` after which the log is cut, 0 = the default")
	f.BoolVar(&c.sealed, "sealed", false, "encrypt what is on disk")
	f.DurationVar(&c.history, "history", 0, "how long old versions are kept, in small databases that soon drop them; 0 = for ever")
	f.StringVar(&c.bug, "bug", "", "a fault on `purpose`, for tests of tests: "+strings.Join(bugs[1:], ", "))
	f.StringVar(&c.bench, "bench", "", "`address` of the front for benchmarks; empty = none")
	if err := f.Parse(args); err != nil {
		return err
	}
	if err := checkBug(c.bug); err != nil {
		return err
	}
	if c.dir == "" || c.id == "" || c.ca == "" {
		return errors.New("give -dir, -id and -ca")
	}
	return nil
}
