package guard_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
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

// flaky is a store whose answers are refused, lost before or lost after the work
// is done. Like the real one it does a transaction once, however often it is sent.
type flaky struct {
	*storetest.Model
	mu   sync.Mutex
	rand *rand.Rand
	odds int // one in so many answers is bad; 0 = none
	did  map[*store.Tx]store.Result
}

// fail makes one in so many answers bad, or none.
func (f *flaky) fail(odds int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.odds = odds
}

func (f *flaky) Apply(ctx context.Context, tx *store.Tx) (store.Result, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fault := -1
	if f.odds > 0 && f.rand.IntN(f.odds) == 0 {
		fault = f.rand.IntN(4)
	}
	bad := func(err error) (store.Result, error) {
		tx.Done(store.Result{}, err)
		return store.Result{}, err
	}
	switch fault {
	case 0:
		return bad(store.ErrBusy)
	case 1:
		return bad(store.ErrReadOnly)
	case 2:
		return bad(store.ErrUnknown)
	case 3:
		if _, done := f.did[tx]; !done && tx.Err() == nil {
			bare := store.NewTx()
			for _, op := range tx.Ops() {
				repeat(bare, op)
			}
			if res, err := f.Model.Apply(ctx, bare); err == nil {
				f.did[tx] = res
			}
		}
		return bad(store.ErrUnknown)
	}
	if res, done := f.did[tx]; done {
		tx.Done(res, nil)
		return res, nil
	}
	return f.Model.Apply(ctx, tx)
}

func (f *flaky) Submit(ctx context.Context, tx *store.Tx, _ store.Class) store.Future {
	done := make(chan struct{})
	close(done)
	res, err := f.Apply(ctx, tx)
	return &later{done: done, res: res, err: err}
}

func repeat(tx *store.Tx, op store.Op) {
	switch op.Kind {
	case store.OpCheck:
		tx.Check(op.Key, op.Version)
	case store.OpPut:
		tx.Put(op.Key, op.Value)
	case store.OpDelete:
		tx.Delete(op.Key)
	case store.OpAppend:
		tx.Append(op.Log, op.Value)
	case store.OpAdd:
		tx.Add(op.Key, op.Delta, op.Limit, op.Window)
	}
}

// TestWhateverTheStoreAnswers runs acts through a door whose store fails in every
// way, and counts: no act without a durable intent, no intent with two outcomes,
// and once the sweeper has passed each intent that set money aside has one and the
// money spent is the sum of them.
func TestWhateverTheStoreAnswers(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	synctest.Test(t, func(t *testing.T) {
		f := &flaky{Model: storetest.NewModel(nil), rand: rand.New(rand.NewPCG(seed, 1)), did: map[*store.Tx]store.Result{}}
		h := guardtest.Open(t, f)
		limit(t, h, budget.Limit{Dimension: budget.ByUseCase, ID: "chat", Period: budget.ForEver, Amount: 20_000})
		f.fail(4)
		acted := map[string]bool{}
		for i := range 400 {
			req := guard.Request{Principal: guardtest.Admin(), Action: auth.ModelInfer, Resource: auth.Model("m"), Reserve: 100, UseCase: "chat", Within: time.Minute}
			door := h.Do
			if i%2 == 1 {
				door = h.Read
			}
			err := door(t.Context(), req, func(ctx context.Context, p *guard.Permit) (guard.Outcome, error) {
				if p.Admit(ctx, auth.ModelInfer, auth.Model("m")) == nil {
					acted[p.ID()] = true
				}
				if i%7 == 0 {
					return guard.Outcome{Cost: 3}, errors.New("upstream is down")
				}
				return guard.Outcome{Cost: int64(i % 100)}, nil
			})
			_ = err // every answer is allowed; what is on record counts
		}
		time.Sleep(10 * time.Minute)
		f.fail(0)
		if err := h.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()

		intents, outcomes, cost := map[string]bool{}, map[string]int{}, int64(0)
		for _, r := range h.Records(t) {
			switch r.Kind {
			case audit.Intent:
				intents[r.ID] = true
			case audit.Outcome:
				outcomes[r.Intent]++
				cost += r.CostNanoUSD
			}
		}
		for id := range acted {
			if !intents[id] {
				t.Errorf("act %s happened without an intent on record", id)
			}
		}
		for id := range intents {
			if outcomes[id] != 1 {
				t.Errorf("intent %s has %d outcomes", id, outcomes[id])
			}
		}
		if len(acted) == 0 || len(intents) == len(acted) || openEntries(t, f) != 0 {
			t.Errorf("%d acts, %d intents, %d open: the faults show nothing", len(acted), len(intents), openEntries(t, f))
		}
		total, err := h.Ledger().Of(t.Context(), budget.ByUseCase, "chat", time.Now().AddDate(0, 0, -1), time.Now())
		if err != nil || total.Cost != cost || cost > 20_000 {
			t.Errorf("the ledger says %d, the record %d (%v)", total.Cost, cost, err)
		}
		t.Logf("%d intents, %d acts, %d nano-dollars", len(intents), len(acted), cost)
	})
}
