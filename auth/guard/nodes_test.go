package guard_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/budget"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/auth/guard/guardtest"
	"github.com/cloister-os/cloister/auth/policy"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/storetest"
)

// nodeGuard is the guard of one of several nodes that share a store.
type nodeGuard struct {
	*guard.Guard
	store *storetest.Follower
}

// node opens a guard as a node does, following the store, until the context
// ends.
func node(t *testing.T, ctx context.Context, st store.Store, name string, now func() time.Time) nodeGuard {
	t.Helper()
	f := storetest.NewFollower(st)
	policies, err := policy.New(ctx, f, nil)
	must(t, err)
	must(t, policies.Seed(ctx))
	ledger, err := budget.NewLedger(ctx, f, nil, now)
	must(t, err)
	g, err := guard.New(guard.Config{Store: f, Policies: policies, Ledger: ledger, Node: name, Now: now})
	must(t, err)
	go policies.Run(ctx)
	go ledger.Run(ctx)
	return nodeGuard{g, f}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func ask(g *guard.Guard) error {
	req := guard.Request{Principal: guardtest.Asker(), Action: auth.Ask, Resource: auth.TheSystem}
	return g.Read(context.Background(), req, func(context.Context, *guard.Permit) (guard.Outcome, error) { return guard.Outcome{}, nil })
}

// A node that lags behind refuses, after a second, what was forbidden through
// another, and a limit set there counts here.
func TestARightTakenAwayThroughOneNodeIsGoneOnAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer cancel()
		st := storetest.NewModel(nil)
		a, b := node(t, ctx, st, "a", nil), node(t, ctx, st, "b", nil)
		must(t, ask(b.Guard))
		synctest.Wait()
		b.store.Hold()
		tx := store.NewTx()
		_, err := a.Policies().Put(tx, `@id("no-asking") forbid (principal, action == Action::"ask", resource);`)
		must(t, err)
		must(t, a.Ledger().SetLimit(ctx, tx, budget.Limit{Dimension: budget.Everything, ID: "all", Period: budget.ForEver, Amount: 5}))
		_, err = a.store.Apply(ctx, tx)
		must(t, err)
		time.Sleep(time.Second)
		if err := ask(b.Guard); !errors.Is(err, auth.ErrDenied) {
			t.Errorf("what was forbidden a second ago: %v", err)
		}
		if got := b.Ledger().Limits(); len(got) != 1 || got[0].Amount != 5 {
			t.Errorf("the limits there are %v", got)
		}
	})
}

func TestANodeThatIsCutOffDecidesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer cancel()
		b := node(t, ctx, storetest.NewModel(nil), "b", nil)
		must(t, ask(b.Guard))
		time.Sleep(time.Second) // its outcome is written
		must(t, b.Recent(ctx))
		b.store.Cut()
		time.Sleep(time.Second)
		req := guard.Request{Principal: guardtest.Asker(), Action: auth.Ask, Resource: auth.TheSystem}
		if err := b.Decide(ctx, req); !errors.Is(err, store.ErrBusy) {
			t.Errorf("cut off it decides: %v", err)
		}
		b.store.Join()
		if err := b.Decide(ctx, req); err != nil {
			t.Errorf("joined again: %v", err)
		}
	})
}

// A node with a clock that is an hour ahead must not settle what another is still
// at, nor one that is behind leave what a dead one left.
func TestASweepJudgesByLeaderTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer cancel()
		st := storetest.NewModel(nil)
		clock := store.NewClock(st)
		go clock.Run(ctx)
		clock.Now()
		synctest.Wait()
		a, b := node(t, ctx, st, "a", clock.Now), node(t, ctx, st, "b", clock.Now)
		tx := store.NewTx()
		_, err := a.Begin(ctx, tx, guard.Request{Principal: guardtest.Admin(), Action: auth.SourceManage, Resource: auth.Source("s"), Within: time.Minute})
		must(t, err)
		_, err = a.store.Apply(ctx, tx)
		must(t, err)
		must(t, b.Sweep(ctx))
		if n := inDoubt(t, st); n != 0 {
			t.Fatalf("%d acts of a living node were settled", n)
		}
		time.Sleep(3 * time.Minute)
		must(t, b.Sweep(ctx))
		must(t, a.Sweep(ctx))
		if n := inDoubt(t, st); n != 1 {
			t.Errorf("the act was settled %d times", n)
		}
	})
}

// inDoubt counts the outcomes that nobody reported.
func inDoubt(t *testing.T, st store.Store) (n int) {
	t.Helper()
	for _, r := range (&guardtest.House{Store: st}).Records(t) {
		if r.Status == guard.StatusInDoubt {
			n++
		}
	}
	return n
}

// Only the node that leads sweeps for others; each settles its own.
func TestOnlyTheLeaderSweepsForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer cancel()
		st := storetest.NewModel(nil)
		var leads atomic.Bool
		house := guardtest.Open(t, st)
		g, err := guard.New(guard.Config{Store: st, Policies: house.Policies(), Ledger: house.Ledger(), Node: "b", Leads: leads.Load})
		must(t, err)
		go g.Run(ctx)
		tx := store.NewTx()
		_, err = house.Begin(ctx, tx, guard.Request{Principal: guardtest.Admin(), Action: auth.SourceManage, Resource: auth.Source("s"), Within: time.Minute})
		must(t, err)
		_, err = st.Apply(ctx, tx)
		must(t, err)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if n := inDoubt(t, st); n != 0 {
			t.Fatal("a node that does not lead swept")
		}
		leads.Store(true)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := inDoubt(t, st); n != 1 {
			t.Errorf("the node that leads settled %d acts", n)
		}
	})
}
