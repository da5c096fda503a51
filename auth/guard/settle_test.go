package guard_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/audit"
	"github.com/cloister-os/cloister/auth/budget"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/auth/guard/guardtest"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/storetest"
)

func TestASpentBudgetRefusesAndIsOnRecord(t *testing.T) {
	h := guardtest.Open(t, nil)
	limit(t, h, budget.Limit{Dimension: budget.ByPerson, ID: "u-admin", Period: budget.Day, Amount: 100})
	req := guard.Request{Principal: guardtest.Admin(), Action: auth.ModelInfer, Resource: auth.Model("m"), Reserve: 60}
	spend := func(context.Context, *guard.Permit) (guard.Outcome, error) { return guard.Outcome{Cost: 50}, nil }
	if err := h.Do(t.Context(), req, spend); err != nil {
		t.Fatal(err)
	}
	for _, door := range []func(context.Context, guard.Request, func(context.Context, *guard.Permit) (guard.Outcome, error)) error{h.Do, h.Read} {
		err := door(t.Context(), req, spend)
		var denied *auth.DeniedError
		if !errors.Is(err, store.ErrLimit) || !errors.As(err, &denied) || denied.Policies[0] != guard.BudgetSpent {
			t.Fatalf("%v", err)
		}
		if rec := h.Records(t)[denied.Record]; rec.Kind != audit.Refusal {
			t.Errorf("%+v", rec)
		}
	}
	req.Reserve = 50
	if err := h.Do(t.Context(), req, spend); err != nil {
		t.Errorf("what is left cannot be spent: %v", err)
	}
}

func TestAThousandConcurrentCallsDoNotOverspendByOne(t *testing.T) {
	h := guardtest.Open(t, nil)
	limit(t, h, budget.Limit{Dimension: budget.ByUseCase, ID: "chat", Period: budget.Month, Amount: 617})
	var acted atomic.Int64
	var all sync.WaitGroup
	for range 1000 {
		all.Go(func() {
			req := guard.Request{Principal: guardtest.Admin(), Action: auth.ModelInfer, Resource: auth.Model("m"), Reserve: 1, UseCase: "chat"}
			err := h.Do(t.Context(), req, func(context.Context, *guard.Permit) (guard.Outcome, error) {
				acted.Add(1)
				return guard.Outcome{Cost: 1}, nil
			})
			if err != nil && !errors.Is(err, store.ErrLimit) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if acted.Load() != 617 {
		t.Errorf("%d calls were made with a budget of 617", acted.Load())
	}
	total, err := h.Ledger().Of(t.Context(), budget.ByUseCase, "chat", time.Now(), time.Now())
	if err != nil || total.Cost != 617 || total.Calls != 617 {
		t.Errorf("%+v, %v", total, err)
	}
}

func TestWhatADeadProcessLeftIsSettledAsInDoubt(t *testing.T) {
	st := storetest.NewModel(nil)
	dead := guardtest.Open(t, st)
	limit(t, dead, budget.Limit{Dimension: budget.ByModel, ID: "m", Period: budget.ForEver, Amount: 10})
	tx := store.NewTx()
	req := guard.Request{Principal: guardtest.AgentFor(guardtest.Admin()), Action: auth.ModelInfer, Resource: auth.Model("m"), Reserve: 10, Run: "r1"}
	p, err := dead.Begin(t.Context(), tx, req)
	if err != nil {
		t.Fatal(err)
	}
	apply(t, dead, tx)

	ctx, cancel := context.WithCancel(t.Context())
	h := guardtest.Open(t, st)
	stopped := make(chan error)
	go func() { stopped <- h.Run(ctx) }()
	for openEntries(t, st) > 0 {
		if t.Context().Err() != nil {
			t.Fatal("the act stays open")
		}
	}
	cancel()
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	recs := h.Records(t)
	last := recs[len(recs)-1]
	if last.Kind != audit.Outcome || last.Intent != p.ID() || last.Status != guard.StatusInDoubt || last.CostNanoUSD != 10 || last.Run != "r1" ||
		last.Actor.Kind != auth.Agent || last.Actor.OnBehalfOf == nil || last.Actor.OnBehalfOf.ID != "u-admin" {
		t.Errorf("%+v", last)
	}
	late := store.NewTx()
	if err := dead.Finish(late, p, guard.Outcome{Status: guard.StatusOK, Cost: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Apply(t.Context(), late); !errors.Is(err, store.ErrConflict) {
		t.Errorf("an act was settled twice: %v", err)
	}
}

func TestAnActIsSweptOnlyAfterItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := guardtest.Open(t, storetest.NewModel(nil))
		tx := store.NewTx()
		req := request(guardtest.Admin())
		req.Within = time.Minute
		if _, err := h.Begin(t.Context(), tx, req); err != nil {
			t.Fatal(err)
		}
		apply(t, h, tx)
		time.Sleep(time.Minute)
		if err := h.Sweep(t.Context()); err != nil || openEntries(t, h.Store) != 1 {
			t.Fatalf("%v, or settled while its outcome may be on its way", err)
		}
		time.Sleep(2 * time.Minute)
		if err := h.Sweep(t.Context()); err != nil || openEntries(t, h.Store) != 0 {
			t.Fatalf("%v, or not settled", err)
		}
	})
}

func TestAnActEndsWhenItsTimeIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := guardtest.Open(t, nil)
		req := request(guardtest.Admin())
		req.Within = time.Second
		err := h.Do(t.Context(), req, func(ctx context.Context, _ *guard.Permit) (guard.Outcome, error) {
			<-ctx.Done()
			return guard.Outcome{}, ctx.Err()
		})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		recs := h.Records(t)
		if last := recs[len(recs)-1]; last.Status != guard.StatusFailed || last.Error != "out of time" {
			t.Errorf("%+v", last)
		}
	})
}

func limit(t *testing.T, h *guardtest.House, l budget.Limit) {
	t.Helper()
	tx := store.NewTx()
	if err := h.Ledger().SetLimit(t.Context(), tx, l); err != nil {
		t.Fatal(err)
	}
	apply(t, h, tx)
}

func openEntries(t *testing.T, st store.Store) (n int) {
	t.Helper()
	err := st.View(context.Background(), store.Local, func(s store.Snapshot) error {
		for _, err := range s.Scan("S/guard-open/", "") {
			if err != nil {
				return err
			}
			n++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
