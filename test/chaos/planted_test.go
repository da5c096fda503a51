package chaos

import (
	"context"
	"strings"
	"sync"
	"testing"
)

// TestPlantedFaultsAreFound: a node that breaks its word is caught by what the
// runs do and check, so a run that finds nothing means something.
func TestPlantedFaultsAreFound(t *testing.T) {
	t.Parallel()
	binary := need(t)
	for _, p := range []struct {
		bug, sort string
		nodes     int
	}{
		{"lose", "lost", 1},
		{"twice", "applied twice", 1},
		{"overspend", "overspent", 1},
		{"stale", "out of real-time order", 3},
	} {
		t.Run(p.bug, func(t *testing.T) {
			t.Parallel()
			s := seed(t)
			c := Start(t, binary, Options{Nodes: p.nodes, Args: []string{"-bug", p.bug}})
			found := false
			for round := uint64(0); round < 20 && !found; round++ {
				work(t.Context(), c, s+round, 200)
				c.settle()
				for _, w := range c.history.Check() {
					found = found || strings.HasPrefix(w, p.sort+":")
				}
			}
			if !found {
				t.Errorf("%q was not found in %v operations", p.bug, c.history.Count())
			}
		})
	}
}

// work has clients do operations until there are so many more.
func work(ctx context.Context, c *Cluster, seed uint64, more int) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var clients sync.WaitGroup
	goal := c.history.Len() + more
	for i := range 6 {
		clients.Go(func() { c.newClient(i, seed).work(ctx) })
	}
	for c.history.Len() < goal && ctx.Err() == nil {
		c.watch(ctx, 1)
	}
	stop()
	clients.Wait()
}
