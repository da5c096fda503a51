package budget

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/storetest"
)

var someDay = time.Date(2026, 3, 31, 23, 0, 0, 0, time.UTC)

type books struct {
	*Ledger
	st  store.Store
	day atomic.Int64 // hours after someDay
}

func newBooks(t testing.TB, st store.Store) *books {
	t.Helper()
	b := &books{st: st}
	var err error
	b.Ledger, err = NewLedger(context.Background(), st, nil, b.clock)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *books) clock() time.Time { return someDay.Add(time.Duration(b.day.Load()) * time.Hour) }

func (b *books) set(t testing.TB, l Limit) {
	t.Helper()
	tx := store.NewTx()
	if err := b.SetLimit(context.Background(), tx, l); err != nil {
		t.Fatal(err)
	}
	if _, err := b.st.Apply(context.Background(), tx); err != nil {
		t.Fatal(err)
	}
}

// reserve applies a reservation of its own.
func (b *books) reserve(by Attribution, amount NanoUSD) (Hold, error) {
	tx := store.NewTx()
	h, err := b.Reserve(tx, by, amount)
	if err == nil {
		_, err = b.st.Apply(context.Background(), tx)
	}
	return h, err
}

func (b *books) settle(t testing.TB, h Hold, cost NanoUSD, usage map[string]int64) {
	t.Helper()
	tx := store.NewTx()
	if err := b.Settle(tx, h, cost, usage); err != nil {
		t.Fatal(err)
	}
	if _, err := b.st.Apply(context.Background(), tx); err != nil {
		t.Fatal(err)
	}
}

func TestAThousandConcurrentReservationsNeverOverspendByOne(t *testing.T) {
	b := newBooks(t, storetest.NewModel(nil))
	b.set(t, Limit{ByAgent, "answer@1", Day, 700})
	b.set(t, Limit{ByPerson, "u-1", Month, 333})
	var got atomic.Int64
	var all sync.WaitGroup
	for range 1000 {
		all.Go(func() {
			switch _, err := b.reserve(Attribution{Agent: "answer@1", Person: "u-1"}, 1); {
			case err == nil:
				got.Add(1)
			case !errors.Is(err, store.ErrLimit):
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got.Load() != 333 {
		t.Errorf("%d reservations of 1 fit into 333", got.Load())
	}
}

// TestALimitHoldsWhateverTheOrder draws reservations and settlements and checks
// after each that what is held and spent never passes the limit.
func TestALimitHoldsWhateverTheOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := &books{st: storetest.NewModel(nil)}
		var err error
		if b.Ledger, err = NewLedger(context.Background(), b.st, nil, b.clock); err != nil {
			t.Fatal(err)
		}
		tx := store.NewTx()
		if err := b.SetLimit(context.Background(), tx, Limit{ByUseCase, "chat", ForEver, 100}); err != nil {
			t.Fatal(err)
		}
		if _, err := b.st.Apply(context.Background(), tx); err != nil {
			t.Fatal(err)
		}
		by := Attribution{UseCase: "chat"}
		var holds []Hold
		var used int64
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			if len(holds) > 0 && rapid.Bool().Draw(t, "settle") {
				h := holds[0]
				holds = holds[1:]
				cost := rapid.Int64Range(0, h.Amount).Draw(t, "cost")
				tx := store.NewTx()
				if err := b.Settle(tx, h, cost, nil); err != nil {
					t.Fatal(err)
				}
				if _, err := b.st.Apply(context.Background(), tx); err != nil {
					t.Fatal(err)
				}
				used += cost - h.Amount
				continue
			}
			amount := rapid.Int64Range(0, 60).Draw(t, "amount")
			h, err := b.reserve(by, amount)
			fits := used+amount <= 100
			if (err == nil) != fits {
				t.Fatalf("reserving %d of 100 with %d used: %v", amount, used, err)
			}
			if err == nil {
				used += amount
				holds = append(holds, h)
			}
		}
	})
}

func TestAPeriodBeginsAnewAndSettlesWhereItWasReserved(t *testing.T) {
	b := newBooks(t, storetest.NewModel(nil))
	b.set(t, Limit{ByPerson, "u", Day, 10})
	b.set(t, Limit{ByPerson, "u", Month, 15})
	by := Attribution{Person: "u"}
	late, err := b.reserve(by, 10) // on 31 March
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.reserve(by, 1); !errors.Is(err, store.ErrLimit) {
		t.Fatalf("%v", err)
	}
	b.day.Add(2) // 1 April: both periods begin anew
	if _, err := b.reserve(by, 10); err != nil {
		t.Fatal(err)
	}
	b.settle(t, late, 0, nil) // gives March back, not April
	if _, err := b.reserve(by, 1); !errors.Is(err, store.ErrLimit) {
		t.Errorf("money of March was spent in April: %v", err)
	}
	b.day.Add(24)
	if _, err := b.reserve(by, 6); !errors.Is(err, store.ErrLimit) {
		t.Errorf("the month's limit does not hold: %v", err)
	}
	if _, err := b.reserve(by, 5); err != nil {
		t.Error(err)
	}
}

func TestALimitCountsWhatWasSpentBeforeIt(t *testing.T) {
	b := newBooks(t, storetest.NewModel(nil))
	by := Attribution{Person: "u", Model: "m"}
	h, err := b.reserve(by, 40)
	if err != nil {
		t.Fatal(err)
	}
	b.settle(t, h, 40, nil)
	b.set(t, Limit{ByPerson, "u", Month, 100})
	if _, err := b.reserve(by, 61); !errors.Is(err, store.ErrLimit) {
		t.Errorf("%v", err)
	}
	if _, err := b.reserve(by, 60); err != nil {
		t.Error(err)
	}
	b.set(t, Limit{ByPerson, "u", Month, 101}) // raising it keeps what is counted
	if _, err := b.reserve(by, 2); !errors.Is(err, store.ErrLimit) {
		t.Errorf("%v", err)
	}
	if _, err := b.reserve(by, 1); err != nil {
		t.Error(err)
	}
}

func TestANewLimitAppliesToTheNextReservationHereAndSoonElsewhere(t *testing.T) {
	st := storetest.NewModel(nil)
	a, b := newBooks(t, st), newBooks(t, st)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- b.Run(ctx) }()
	a.set(t, Limit{ByModel, "m", ForEver, 0})
	by := Attribution{Model: "m"}
	if _, err := a.reserve(by, 1); !errors.Is(err, store.ErrLimit) {
		t.Errorf("here: %v", err)
	}
	for len(b.Limits()) == 0 {
		if t.Context().Err() != nil {
			t.Fatal("the limit does not reach the other node")
		}
	}
	if _, err := b.reserve(by, 1); !errors.Is(err, store.ErrLimit) {
		t.Errorf("elsewhere: %v", err)
	}
	tx := store.NewTx()
	if err := a.RemoveLimit(tx, Limit{Dimension: ByModel, ID: "m", Period: ForEver}); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Apply(ctx, tx); err != nil {
		t.Fatal(err)
	}
	if _, err := a.reserve(by, 1); err != nil {
		t.Errorf("after the removal: %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if again := newBooks(t, st); len(again.Limits()) != 0 {
		t.Errorf("%+v", again.Limits())
	}
}

func TestTotalsAddUpInEveryDimension(t *testing.T) {
	b := newBooks(t, storetest.NewModel(nil))
	by := Attribution{Agent: "answer@1", UseCase: "ask", Person: "u-1", Model: "gemma", Run: "r-1"}
	for i := range 3 {
		h, err := b.reserve(by, 100)
		if err != nil {
			t.Fatal(err)
		}
		b.settle(t, h, int64(10*(i+1)), map[string]int64{TokensIn: 7, TokensOut: 5})
		b.day.Add(24)
	}
	other, err := b.reserve(Attribution{Person: "u-2", UseCase: "ask"}, 5)
	if err != nil {
		t.Fatal(err)
	}
	b.settle(t, other, 100, nil)
	to := b.clock()
	for d, id := range map[Dimension]string{ByAgent: "answer@1", ByPerson: "u-1", ByModel: "gemma", ByRun: "r-1"} {
		list, err := b.Totals(t.Context(), d, someDay, to, 10)
		want := Total{ID: id, Cost: 60, Calls: 3, TokensIn: 21, TokensOut: 15}
		if err != nil || len(list) == 0 || list[len(list)-1] != want {
			t.Errorf("%s: %+v %v", d, list, err)
		}
	}
	all, err := b.Totals(t.Context(), Everything, someDay, to, 10)
	if err != nil || len(all) != 1 || all[0].Cost != 160 || all[0].Calls != 4 {
		t.Errorf("%+v %v", all, err)
	}
	people, err := b.Totals(t.Context(), ByPerson, someDay, to, 1)
	if err != nil || len(people) != 1 || people[0].ID != "u-2" {
		t.Errorf("the most expensive first: %+v %v", people, err)
	}
	one, err := b.Of(t.Context(), ByRun, "r-1", someDay.AddDate(0, 0, 1), someDay.AddDate(0, 0, 1))
	if err != nil || one.Cost != 20 {
		t.Errorf("%+v %v", one, err)
	}
	if _, err := b.Totals(t.Context(), ByRun, someDay, someDay.AddDate(2, 0, 0), 1); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("a range without bound: %v", err)
	}
}

func TestNegativeMoneyIsRefused(t *testing.T) {
	b := newBooks(t, storetest.NewModel(nil))
	if _, err := b.Reserve(store.NewTx(), Attribution{}, -1); !errors.Is(err, store.ErrInvalid) {
		t.Error(err)
	}
	if err := b.Settle(store.NewTx(), Hold{}, -1, nil); !errors.Is(err, store.ErrInvalid) {
		t.Error(err)
	}
	for _, l := range []Limit{{ByRun, "r", Day, -1}, {ByRun, "", Day, 1}, {"colour", "red", Day, 1}, {ByRun, "r", "decade", 1}} {
		if err := b.SetLimit(t.Context(), store.NewTx(), l); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%+v: %v", l, err)
		}
	}
}

func TestPrices(t *testing.T) {
	p, err := NewPrices(t.Context(), storetest.NewModel(nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	file := `{"v":1,"prices":[
		{"model":"gpt","unit":"tokens_in","nano_usd":3,"per":2,"from":"2026-01-01"},
		{"model":"gpt","unit":"tokens_in","nano_usd":9,"per":1,"from":"2026-04-01"},
		{"model":"gpt*","unit":"tokens_in","nano_usd":1,"per":1,"from":"2020-01-01"},
		{"model":"gpt-5*","unit":"tokens_in","nano_usd":2,"per":1,"from":"2020-01-01"},
		{"model":"big","unit":"tokens_in","nano_usd":9223372036854775807,"per":1,"from":"2020-01-01"}]}`
	if n, err := p.Import(t.Context(), strings.NewReader(file)); err != nil || n != 5 {
		t.Fatal(n, err)
	}
	march, april := time.Date(2026, 3, 31, 23, 59, 59, 0, time.UTC), time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		model, unit string
		n           int64
		at          time.Time
		want        NanoUSD
	}{
		{"gpt", TokensIn, 3, march, 5}, // 4.5, rounded up
		{"gpt", TokensIn, 3, april, 27},
		{"gpt", TokensIn, 3, time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC), 3},
		{"gpt-4", TokensIn, 3, april, 3},
		{"gpt-5-mini", TokensIn, 3, april, 6},
		{"local/gemma", CPU, int64(time.Second), april, 13889},
		{"local/gemma", CPU, 1, april, 1},
		{"local/gemma", TokensOut, 1000, april, 0},
		{"big", TokensIn, 1, april, math.MaxInt64},
	} {
		got, err := p.Cost(c.model, map[string]int64{c.unit: c.n}, c.at)
		if err != nil || got != c.want {
			t.Errorf("%s %s at %s: %d %v, want %d", c.model, c.unit, c.at.Format(time.DateOnly), got, err, c.want)
		}
	}
	for model, unit := range map[string]string{"gpt": "images", "unheard-of": TokensIn, "local/gemma": "gpu_ns"} {
		if got, err := p.Cost(model, map[string]int64{unit: 1}, april); !errors.Is(err, ErrUnknownPrice) || got != 0 {
			t.Errorf("%s %s: %d %v", model, unit, got, err)
		}
	}
	for _, usage := range []map[string]int64{{TokensIn: 2}, {TokensIn: -1}} {
		if got, err := p.Cost("big", usage, april); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%v: %d %v", usage, got, err)
		}
	}
}

func TestABadPriceFileChangesNothing(t *testing.T) {
	st := storetest.NewModel(nil)
	p, err := NewPrices(t.Context(), st, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{
		``, `{}`, `{"v":1,"prices":[]}`, `{"v":2,"prices":[{"model":"m","unit":"u","nano_usd":1,"per":1,"from":"2026-01-01"}]}`,
		`{"v":1,"prices":[{"model":"m","unit":"u","nano_usd":1,"per":1,"from":"2026-01-01"},{"model":"m","unit":"u","nano_usd":1,"per":0,"from":"2026-01-01"}]}`,
		`{"v":1,"prices":[{"model":"m","unit":"u","nano_usd":-1,"per":1,"from":"2026-01-01"}]}`,
		`{"v":1,"prices":[{"model":"m","unit":"u","nano_usd":1.5,"per":1,"from":"2026-01-01"}]}`,
		`{"v":1,"prices":[{"model":"a*b","unit":"u","nano_usd":1,"per":1,"from":"2026-01-01"}]}`,
		`{"v":1,"prices":[{"model":"m","unit":"u","nano_usd":1,"per":1,"from":"soon"}]}`,
		`{"v":1,"prices":[{"model":"m","unit":"u","nano_usd":1,"per":1,"from":"2026-01-01","prize":1}]}`,
	} {
		before := st.Applied()
		if _, err := p.Import(t.Context(), strings.NewReader(file)); !errors.Is(err, store.ErrInvalid) || st.Applied() != before {
			t.Errorf("%s: %v", file, err)
		}
	}
}
