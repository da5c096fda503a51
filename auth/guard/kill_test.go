package guard_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/audit"
	"github.com/cloister-os/cloister/auth/budget"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/auth/guard/guardtest"
	"github.com/cloister-os/cloister/auth/policy"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/consensus"
)

// TestMain lets the test binary be the process that is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("GUARD_CHILD_DIR"); dir != "" {
		fmt.Fprintln(os.Stderr, callUpstream(dir, os.Getenv("GUARD_CHILD_UPSTREAM")))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func openStore(ctx context.Context, dir string) (*consensus.Node, error) {
	n, err := consensus.Open(ctx, consensus.Config{Dir: dir, NodeID: "n1", Logger: slog.New(slog.DiscardHandler), ReserveBytes: -1})
	if err != nil {
		return nil, err
	}
	<-n.Ready()
	return n, nil
}

// callUpstream calls upstream through the door from many sides until it is killed.
func callUpstream(dir, upstream string) error {
	ctx := context.Background()
	st, err := openStore(ctx, dir)
	if err != nil {
		return err
	}
	policies, err := policy.New(ctx, st, nil)
	if err != nil {
		return err
	}
	ledger, err := budget.NewLedger(ctx, st, nil, nil)
	if err != nil {
		return err
	}
	g, err := guard.New(guard.Config{Store: st, Policies: policies, Ledger: ledger, Node: "n1"})
	if err != nil {
		return err
	}
	failed := make(chan error)
	go func() { failed <- g.Run(ctx) }()
	for range 8 {
		go func() {
			c, err := net.Dial("unix", upstream)
			for err == nil {
				req := guard.Request{Principal: guardtest.Admin(), Action: auth.ModelInfer, Resource: auth.Model("far"), Reserve: 10, UseCase: "far"}
				err = g.Do(ctx, req, func(_ context.Context, p *guard.Permit) (guard.Outcome, error) {
					if _, err := fmt.Fprintln(c, p.ID()); err != nil {
						return guard.Outcome{}, err
					}
					_, err := c.Read(make([]byte, 1))
					return guard.Outcome{Cost: 7}, err
				})
			}
			failed <- err
		}()
	}
	return <-failed
}

// upstream counts what reaches it.
type upstream struct {
	mu  sync.Mutex
	got map[string]bool
}

func (u *upstream) serve(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer func() { _ = c.Close() }()
			for lines := bufio.NewScanner(c); lines.Scan(); {
				u.mu.Lock()
				u.got[lines.Text()] = true
				u.mu.Unlock()
				if _, err := c.Write([]byte{'.'}); err != nil {
					return
				}
			}
		}()
	}
}

func (u *upstream) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.got)
}

// TestUpstreamRequestsNeverExceedDurableIntents kills a process around its calls,
// over the real store, and compares what upstream saw with what is on record.
func TestUpstreamRequestsNeverExceedDurableIntents(t *testing.T) {
	dir, socket := t.TempDir(), filepath.Join(t.TempDir(), "up")
	seedHouse(t, dir)
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	u := &upstream{got: map[string]bool{}}
	go u.serve(l)
	for range 6 {
		killAfterCalls(t, dir, socket, u, u.count()+20+rand.IntN(60))
	}
	checkRecord(t, dir, u)
}

func seedHouse(t *testing.T, dir string) {
	t.Helper()
	st, err := openStore(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	h := guardtest.Open(t, st)
	limit(t, h, budget.Limit{Dimension: budget.ByUseCase, ID: "far", Period: budget.ForEver, Amount: 1_000_000})
	if err := errors.Join(h.Close(), st.Close()); err != nil {
		t.Fatal(err)
	}
}

func killAfterCalls(t *testing.T, dir, socket string, u *upstream, calls int) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), "GUARD_CHILD_DIR="+dir, "GUARD_CHILD_UPSTREAM="+socket)
	stderr, err := child.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	died := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(stderr)
		died <- string(b)
	}()
	for u.count() < calls {
		select {
		case said := <-died:
			t.Fatalf("the process ended by itself: %s", said)
		case <-time.After(time.Millisecond):
		}
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-died
	_ = child.Wait()
}

func checkRecord(t *testing.T, dir string, u *upstream) {
	t.Helper()
	st, err := openStore(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	h := guardtest.Open(t, st)
	ctx, cancel := context.WithCancel(t.Context())
	swept := make(chan error)
	go func() { swept <- h.Run(ctx) }()
	// guardtest's guard is node "test": what n1 left is settled by time alone, so
	// n1's own next process does it here.
	own, err := guard.New(guard.Config{Store: st, Policies: h.Policies(), Ledger: h.Ledger(), Node: "n1"})
	if err != nil {
		t.Fatal(err)
	}
	ownSwept := make(chan error)
	go func() { ownSwept <- own.Run(ctx) }()
	for openEntries(t, st) > 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := errors.Join(<-swept, <-ownSwept); err != nil {
		t.Fatal(err)
	}
	intents, outcomes, inDoubt, cost := map[string]bool{}, map[string]int{}, 0, int64(0)
	for _, r := range h.Records(t) {
		switch r.Kind {
		case audit.Intent:
			intents[r.ID] = true
		case audit.Outcome:
			outcomes[r.Intent]++
			cost += r.CostNanoUSD
			if r.Status == guard.StatusInDoubt {
				inDoubt++
			}
		}
	}
	for id := range u.got {
		if !intents[id] {
			t.Errorf("upstream saw %s, which is not on record", id)
		}
	}
	for id := range intents {
		if outcomes[id] != 1 {
			t.Errorf("intent %s has %d outcomes", id, outcomes[id])
		}
	}
	err = st.View(t.Context(), store.Fresh, func(s store.Snapshot) error {
		held, err := s.Sum(store.Space("S/budget-spent/").Key("use_case", "far", "for-ever", ""), 0)
		if err == nil && held != cost {
			t.Errorf("the budget counts %d nano-dollars, the record %d", held, cost)
		}
		return err
	})
	if err != nil || inDoubt == 0 {
		t.Errorf("%d acts in doubt (%v): the kills show nothing", inDoubt, err)
	}
	t.Logf("%d requests upstream, %d intents, %d in doubt", u.count(), len(intents), inDoubt)
}
