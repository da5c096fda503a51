package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/test/kvnode/wire"
)

// The faults that a kvnode can be given on purpose, so that a test of tests can
// see them found.
const (
	bugLose      = "lose"      // acknowledges some transactions without applying them
	bugTwice     = "twice"     // applies some twice
	bugOverspend = "overspend" // forgets the limits of counters
	bugStale     = "stale"     // serves Fresh reads from what is here
)

var bugs = []string{"", bugLose, bugTwice, bugOverspend, bugStale}

const bugShare = 20 // one request in so many

func checkBug(name string) error {
	if !slices.Contains(bugs, name) {
		return fmt.Errorf("-bug: there are %q", bugs)
	}
	return nil
}

// spoilTx does to a transaction what the planted bug does. done means that it is
// answered with the result.
func (n *node) spoilTx(ctx context.Context, in *wire.Tx) (out wire.Done, done bool) {
	switch n.cfg.bug {
	case bugLose:
		if rand.IntN(bugShare) == 0 && len(in.Appends) == 1 && len(in.Adds) == 0 {
			var size uint64
			_ = n.store.View(ctx, store.Fresh, func(s store.Snapshot) error {
				size, out.Version = s.Log(in.Appends[0].Log).Size(), s.Version()+1
				return nil
			})
			out.Seqs = []uint64{size}
			return out, true
		}
	case bugTwice:
		if rand.IntN(bugShare) == 0 && in.Once == "" {
			if tx, err := build(*in); err == nil {
				_, _ = n.store.Apply(ctx, tx)
			}
		}
	case bugOverspend:
		for i := range in.Adds {
			in.Adds[i].Limit = store.NoLimit
		}
	}
	return out, false
}
