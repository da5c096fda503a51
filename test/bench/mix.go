package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloister-os/cloister/agents/run"
	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/budget"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/auth/policy"
	"github.com/cloister-os/cloister/auth/seal"
	"github.com/cloister-os/cloister/node/cluster"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/blob"
	"github.com/cloister-os/cloister/store/consensus"
	"github.com/cloister-os/cloister/store/sealed"
)

const (
	mixRounds  = 5
	mixFor     = 4 * time.Second
	mixGuarded = 32 // clients
	mixRuns    = 16
	mixBulk    = 8
)

// mix runs guarded transactions, journaled runs and bulk ingest, each alone and
// together, on a cluster of three nodes with mutual TLS and encrypted disks, all
// in this process: the rooms work on the leader.
func mix(ctx context.Context, f *figures) error {
	dir, err := filepath.Abs("build/bench-mix")
	if err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	h, err := openHouse(ctx, dir)
	if err != nil {
		return err
	}
	defer h.close()
	combinations := []struct {
		name                string
		guarded, runs, bulk bool
	}{
		{"guarded_alone", true, false, false}, {"runs_alone", false, true, false}, {"bulk_alone", false, false, true},
		{"without_bulk", true, true, false}, {"all", true, true, true},
	}
	seen := map[string]*latencies{}
	for range mixRounds {
		for _, c := range combinations {
			var wg sync.WaitGroup
			start := func(on bool, what string, clients int, one func(context.Context, int) error) {
				if !on {
					return
				}
				key := c.name + "_" + what
				if seen[key] == nil {
					seen[key] = &latencies{}
				}
				wg.Go(func() { seen[key].measure(ctx, clients, one) })
			}
			start(c.guarded, "guarded", mixGuarded, h.guarded)
			start(c.runs, "runs", mixRuns, h.runOnce)
			start(c.bulk, "bulk", mixBulk, h.ingest)
			wg.Wait()
		}
	}
	for _, key := range slices.Sorted(mapKeys(seen)) {
		if err := seen[key].report(f, key); err != nil {
			return err
		}
	}
	return nil
}

func mapKeys[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// latencies are what one kind of work showed, round by round.
type latencies struct {
	rate, p50, p99 []float64
	failed         int
	first          error
}

// measure runs a closed loop of clients.
func (l *latencies) measure(ctx context.Context, clients int, one func(context.Context, int) error) {
	var mu sync.Mutex
	var all []time.Duration
	var wg sync.WaitGroup
	began := time.Now()
	for c := range clients {
		wg.Go(func() {
			for time.Since(began) < mixFor && ctx.Err() == nil {
				at := time.Now()
				err := one(ctx, c)
				took := time.Since(at)
				mu.Lock()
				if err == nil {
					all = append(all, took)
				} else if l.failed++; l.first == nil {
					l.first = err
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(all) == 0 {
		return
	}
	slices.Sort(all)
	l.rate = append(l.rate, float64(len(all))/time.Since(began).Seconds())
	l.p50, l.p99 = append(l.p50, millis(all[len(all)/2])), append(l.p99, millis(all[len(all)*99/100]))
}

func (l *latencies) report(f *figures, name string) error {
	if len(l.rate) == 0 {
		return fmt.Errorf("%s: nothing succeeded: %w", name, l.first)
	}
	f.spread(name+"_rate", l.rate, "/s")
	f.spread(name+"_p50", l.p50, "ms")
	f.spread(name+"_p99", l.p99, "ms")
	f.add(name+"_failed", float64(l.failed), "")
	return nil
}

// house is a cluster of three with the rooms that the mix needs.
type house struct {
	nodes  []*consensus.Node
	ports  []*cluster.Port
	store  *consensus.Node // the leader
	guard  *guard.Guard
	runs   *run.Engine
	person auth.Principal
	value  []byte
	next   atomic.Uint64
	ending []func() error
}

func openHouse(ctx context.Context, dir string) (_ *house, err error) {
	h := &house{person: auth.Principal{Kind: auth.User, ID: "u-bench", Roles: []auth.Role{auth.Administrator}}, value: make([]byte, 4096)}
	_, _ = rand.Read(h.value)
	defer func() {
		if err != nil {
			err = errors.Join(err, h.close())
		}
	}()
	if err := os.MkdirAll(filepath.Join(dir, "seal"), 0o700); err != nil {
		return nil, err
	}
	keys, err := seal.Open(filepath.Join(dir, "seal"))
	if err != nil {
		return nil, err
	}
	ring, err := keys.Keyring("bench", true)
	if err != nil {
		return nil, err
	}
	for i := range 3 {
		if err := h.openNode(ctx, keys, ring, dir, i); err != nil {
			return nil, err
		}
	}
	h.store = h.nodes[0]
	if err := until(ctx, "wait for three voters", func() error { return h.voters(ctx) }); err != nil {
		return nil, err
	}
	return h, h.openRooms(ctx, dir)
}

func (h *house) openNode(ctx context.Context, keys *seal.Keys, ring sealed.Ring, dir string, i int) error {
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	id := fmt.Sprintf("n%d", i)
	ca, err := keys.CA()
	if err != nil {
		return err
	}
	cert, err := ca.NodeCert(seal.Identity{Cluster: "bench", Node: id}, 0, nil)
	if err != nil {
		return err
	}
	port, err := cluster.Open(cluster.Config{Address: "127.0.0.1:0", Cluster: "bench", Node: id, CA: ca.Certificate(), Certificate: cert.Get, Logger: quiet})
	if err != nil {
		return err
	}
	h.ports = append(h.ports, port)
	n, err := consensus.Open(ctx, consensus.Config{
		Dir: filepath.Join(dir, id), NodeID: id, Logger: quiet, Peers: port, Address: port.Addr().String(), Found: i == 0, Ring: ring,
	})
	if err != nil {
		return err
	}
	h.nodes = append(h.nodes, n)
	if i == 0 {
		<-n.Ready()
		return nil
	}
	return until(ctx, "add a node", func() error {
		return h.nodes[0].AddNonvoter(ctx, consensus.Peer{ID: id, Address: port.Addr().String()})
	})
}

func (h *house) voters(ctx context.Context) error {
	members, err := h.store.Members(ctx)
	if err != nil {
		return err
	}
	voters := 0
	for _, m := range members {
		if m.Voter && m.Healthy {
			voters++
		}
	}
	if voters < 3 || !h.store.Leads() {
		return fmt.Errorf("%d of 3 nodes vote", voters)
	}
	return nil
}

func (h *house) openRooms(ctx context.Context, dir string) error {
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	policies, err := policy.New(ctx, h.store, quiet)
	if err != nil {
		return err
	}
	if err := policies.Seed(ctx); err != nil {
		return err
	}
	ledger, err := budget.NewLedger(ctx, h.store, quiet, nil)
	if err != nil {
		return err
	}
	if h.guard, err = guard.New(guard.Config{Store: h.store, Policies: policies, Ledger: ledger, Node: "n0", Logger: quiet}); err != nil {
		return err
	}
	h.ending = append(h.ending, h.guard.Close)
	blobs, err := blob.Open(filepath.Join(dir, "blobs"))
	if err != nil {
		return err
	}
	work := func(ctx context.Context, c *run.Call) (string, error) { return c.Key(), nil }
	h.runs, err = run.New(run.Config{
		Store: h.store, Door: h.guard, Blobs: blobs, Node: "n0", Parallel: 64, Logger: quiet,
		Agents: []run.Agent{{Name: "three", Revision: "1", Steps: []run.Step{
			run.Func("one", run.Idempotent, work), run.Func("two", run.Idempotent, work), run.Func("three", run.Idempotent, work),
		}}},
	})
	if err != nil {
		return err
	}
	h.ending = append(h.ending, h.runs.Close)
	return nil
}

func (h *house) close() error {
	var errs []error
	for _, end := range slices.Backward(h.ending) {
		errs = append(errs, end())
	}
	for _, n := range slices.Backward(h.nodes) {
		errs = append(errs, n.Close())
	}
	for _, p := range h.ports {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}

// guarded is one decision, its intent, a change and its outcome in one transaction.
func (h *house) guarded(ctx context.Context, client int) error {
	tx := store.NewTx()
	p, err := h.guard.Begin(ctx, tx, guard.Request{Principal: h.person, Action: auth.Ask, Resource: auth.TheSystem})
	if err != nil {
		return err
	}
	tx.Put(store.Key(fmt.Sprintf("S/bench/guarded/%d", client)), h.value[:256])
	if err := h.guard.Finish(tx, p, guard.Outcome{Status: "ok"}); err != nil {
		return err
	}
	_, err = h.store.Apply(ctx, tx)
	return err
}

// runOnce is one run of three steps, from its start to its end.
func (h *house) runOnce(ctx context.Context, _ int) error {
	id, err := h.runs.Start(ctx, h.person, "three", struct{}{})
	if err != nil {
		return err
	}
	for _, err := range h.runs.Events(ctx, h.person, id, 0) {
		if err != nil {
			return err
		}
	}
	return nil
}

// ingest is one bulk transaction of 160 KB.
func (h *house) ingest(ctx context.Context, _ int) error {
	tx := store.NewTx()
	for i := range 40 {
		tx.Put(store.Key(fmt.Sprintf("S/bench/bulk/%d/%d", h.next.Add(1)%20_000, i)), h.value)
	}
	_, err := h.store.Submit(ctx, tx, store.Bulk).Wait(ctx)
	return err
}
