package guard_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/audit"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/auth/guard/guardtest"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/storetest"
)

// gate is a store that can refuse, lose the answer of, or hold up what is written.
type gate struct {
	*storetest.Model
	fail atomic.Pointer[error] // Apply and Submit fail with it, doing nothing
	lose atomic.Int32          // so many Applies do their work and answer ErrUnknown
	hold chan struct{}         // when not nil, Submit's outcome waits for it
}

func newGate() *gate { return &gate{Model: storetest.NewModel(nil)} }

func (g *gate) Apply(ctx context.Context, tx *store.Tx) (store.Result, error) {
	if err := g.fail.Load(); err != nil {
		tx.Done(store.Result{}, *err)
		return store.Result{}, *err
	}
	if g.lose.Load() > 0 && g.lose.Add(-1) >= 0 {
		tx.Done(store.Result{}, store.ErrUnknown)
		return store.Result{}, store.ErrUnknown
	}
	return g.Model.Apply(ctx, tx)
}

func (g *gate) Submit(ctx context.Context, tx *store.Tx, class store.Class) store.Future {
	done := make(chan struct{})
	f := &later{done: done}
	go func() {
		if g.hold != nil {
			<-g.hold
		}
		f.res, f.err = g.Apply(context.WithoutCancel(ctx), tx)
		close(done)
	}()
	return f
}

type later struct {
	done chan struct{}
	res  store.Result
	err  error
}

func (l *later) Wait(ctx context.Context) (store.Result, error) {
	select {
	case <-l.done:
		return l.res, l.err
	case <-ctx.Done():
		return store.Result{}, ctx.Err()
	}
}

func kinds(list []audit.Record) []string {
	var out []string
	for _, r := range list {
		out = append(out, string(r.Kind)+" "+string(r.Action)+" "+r.Status)
	}
	return out
}

func request(p auth.Principal) guard.Request {
	return guard.Request{Principal: p, Action: auth.SourceManage, Resource: auth.Source("wiki"), Args: map[string]any{"path": "/docs"}}
}

func nothing(context.Context, *guard.Permit) (guard.Outcome, error) { return guard.Outcome{}, nil }

func TestDoActsOnlyAfterItsIntentIsDurable(t *testing.T) {
	h := guardtest.Open(t, nil)
	var seen []string
	err := h.Do(t.Context(), request(guardtest.Admin()), func(ctx context.Context, p *guard.Permit) (guard.Outcome, error) {
		seen = kinds(h.Records(t))
		if err := p.Admit(ctx, auth.SourceManage, auth.Source("wiki")); err != nil {
			t.Error(err)
		}
		if err := p.Covers(auth.SourceManage, auth.Source("hr")); !errors.Is(err, auth.ErrDenied) {
			t.Errorf("a permit for wiki covered hr: %v", err)
		}
		return guard.Outcome{Usage: map[string]int64{"rows": 3}}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(seen, []string{"intent source.manage "}) {
		t.Errorf("while acting the record was %q", seen)
	}
	recs := h.Records(t)
	if got := kinds(recs); !slices.Equal(got, []string{"intent source.manage ", "outcome source.manage ok"}) {
		t.Fatalf("the record is %q", got)
	}
	if recs[1].Intent != recs[0].ID || len(recs[0].ArgsSHA256) != 64 || recs[0].Policies[0] != "administrators-manage-sources" {
		t.Errorf("intent %+v outcome %+v", recs[0], recs[1])
	}
}

func TestARefusalIsRecordedAndNamesThePolicy(t *testing.T) {
	h := guardtest.Open(t, nil)
	for name, c := range map[string]struct {
		req    guard.Request
		policy string
	}{
		"export": {guard.Request{Action: auth.AuditExport, Resource: auth.AuditLog}, "key-without-scope-audit"},
		"source": {guard.Request{Action: auth.SourceManage, Resource: auth.Source("wiki")}, "key-without-scope-source"},
		"model":  {guard.Request{Action: auth.ModelInfer, Resource: auth.Model("gemma")}, "key-without-scope-model"},
		"read":   {guard.Request{Action: auth.SourceRead, Resource: auth.Source("hr")}, "key-outside-its-sources"},
	} {
		t.Run(name, func(t *testing.T) {
			c.req.Principal = guardtest.KeyFor("wiki")
			err := h.Do(t.Context(), c.req, func(context.Context, *guard.Permit) (guard.Outcome, error) {
				t.Error("the refused act happened")
				return guard.Outcome{}, nil
			})
			var denied *auth.DeniedError
			if !errors.As(err, &denied) || !errors.Is(err, auth.ErrDenied) || !slices.Equal(denied.Policies, []string{c.policy}) {
				t.Fatalf("%v", err)
			}
			rec := h.Records(t)[denied.Record]
			if rec.Kind != audit.Refusal || rec.Decision != "deny" || rec.Policies[0] != c.policy || rec.Action != c.req.Action {
				t.Errorf("record %d is %+v", denied.Record, rec)
			}
		})
	}
}

func TestARefusalIsRecordedEvenWhenTheCallerHasGone(t *testing.T) {
	h := guardtest.Open(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := h.Do(ctx, request(guardtest.Asker()), nothing)
	if !errors.Is(err, auth.ErrDenied) || len(h.Records(t)) != 1 {
		t.Fatalf("%v, %d records", err, len(h.Records(t)))
	}
}

func TestAuditFailureMeansRefusal(t *testing.T) {
	g := newGate()
	h := guardtest.Open(t, g)
	full := error(store.ErrReadOnly)
	g.fail.Store(&full)
	acted := false
	act := func(context.Context, *guard.Permit) (guard.Outcome, error) { acted = true; return guard.Outcome{}, nil }
	if err := h.Do(t.Context(), request(guardtest.Admin()), act); !errors.Is(err, store.ErrReadOnly) || acted {
		t.Errorf("Do: error %v, acted %v", err, acted)
	}
	if err := h.Read(t.Context(), request(guardtest.Admin()), nothing); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("Read released what it read: %v", err)
	}
	if err := h.Do(t.Context(), request(guardtest.Asker()), act); !errors.Is(err, auth.ErrDenied) || acted {
		t.Errorf("a refusal that cannot be recorded: %v", err)
	}
	tooMuch := request(guardtest.Admin())
	tooMuch.Detail = map[string]any{"text": strings.Repeat("x", audit.MaxLeafBytes)}
	g.fail.Store(nil)
	if err := h.Do(t.Context(), tooMuch, act); err == nil || acted {
		t.Errorf("an act whose record is too large: error %v, acted %v", err, acted)
	}
}

func TestReadReleasesNothingBeforeItsIntentIsDurable(t *testing.T) {
	g := newGate()
	h := guardtest.Open(t, g)
	g.hold = make(chan struct{})
	read, returned := make(chan struct{}), make(chan error)
	go func() {
		returned <- h.Read(t.Context(), request(guardtest.Admin()), func(context.Context, *guard.Permit) (guard.Outcome, error) {
			close(read)
			return guard.Outcome{}, nil
		})
	}()
	<-read
	select {
	case err := <-returned:
		t.Fatalf("Read returned (%v) before its intent was durable", err)
	default:
	}
	if n := len(h.Records(t)); n != 0 {
		t.Fatalf("%d records", n)
	}
	close(g.hold)
	if err := <-returned; err != nil {
		t.Fatal(err)
	}
	if got := kinds(h.Records(t)); got[0] != "intent source.manage " {
		t.Fatalf("after Read returned the record is %q", got)
	}
}

func TestOutcomesOfReadsAreWrittenWithin50ms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := guardtest.Open(t, nil)
		for range 300 {
			if err := h.Read(t.Context(), request(guardtest.Admin()), nothing); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(50 * time.Millisecond)
		synctest.Wait()
		outcomes, intents := map[string]int{}, 0
		for _, r := range h.Records(t) {
			if r.Kind == audit.Outcome {
				outcomes[r.Intent]++
			} else {
				intents++
			}
		}
		if intents != 300 || len(outcomes) != 300 {
			t.Fatalf("%d intents, %d outcomes", intents, len(outcomes))
		}
	})
}

func TestAPermitFinishesOnce(t *testing.T) {
	h := guardtest.Open(t, nil)
	begin := store.NewTx()
	p, err := h.Begin(t.Context(), begin, request(guardtest.Admin()))
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Finish(store.NewTx(), p, guard.Outcome{Status: guard.StatusOK}); err == nil {
		t.Error("a permit whose intent is not durable was finished")
	}
	apply(t, h, begin)
	var wins atomic.Int32
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			tx := store.NewTx()
			if h.Finish(tx, p, guard.Outcome{Status: guard.StatusOK}) != nil {
				return
			}
			if _, err := h.Store.Apply(context.Background(), tx); err == nil {
				wins.Add(1)
			}
		})
	}
	all.Wait()
	if wins.Load() != 1 {
		t.Errorf("%d transactions carried the outcome", wins.Load())
	}
	again := store.NewTx()
	if err := h.Finish(again, p, guard.Outcome{}); err == nil || again.Err() == nil {
		t.Errorf("a finished permit was finished again: %v, and its transaction %v", err, again.Err())
	}
	if err := p.Covers(auth.SourceManage, auth.Source("wiki")); !errors.Is(err, auth.ErrDenied) {
		t.Errorf("a finished permit covers: %v", err)
	}
}

func TestFinishMayBeRepeatedAfterAFailedTransaction(t *testing.T) {
	h := guardtest.Open(t, nil)
	begin := store.NewTx()
	p, err := h.Begin(t.Context(), begin, request(guardtest.Admin()))
	if err != nil {
		t.Fatal(err)
	}
	apply(t, h, begin)
	const k store.Key = "S/test/1"
	first := store.NewTx()
	first.Check(k, 99)
	if err := h.Finish(first, p, guard.Outcome{Status: guard.StatusOK}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Store.Apply(t.Context(), first); !errors.Is(err, store.ErrConflict) {
		t.Fatal(err)
	}
	second := store.NewTx()
	if err := h.Finish(second, p, guard.Outcome{Status: guard.StatusOK}); err != nil {
		t.Fatal(err)
	}
	apply(t, h, second)
}

func TestIntentAndOutcomeMayShareATransaction(t *testing.T) {
	h := guardtest.Open(t, nil)
	tx := store.NewTx()
	p, err := h.Begin(t.Context(), tx, request(guardtest.Admin()))
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Finish(tx, p, guard.Outcome{Status: guard.StatusOK}); err != nil {
		t.Fatal(err)
	}
	apply(t, h, tx)
	if got := kinds(h.Records(t)); len(got) != 2 {
		t.Fatalf("%q", got)
	}
	if n := openEntries(t, h.Store); n != 0 {
		t.Fatalf("%d acts are open", n)
	}
}

func TestAnUnknownOutcomeIsWrittenOnce(t *testing.T) {
	g := newGate()
	h := guardtest.Open(t, g)
	err := h.Do(t.Context(), request(guardtest.Admin()), func(context.Context, *guard.Permit) (guard.Outcome, error) {
		g.lose.Store(2)
		return guard.Outcome{}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := kinds(h.Records(t)); !slices.Equal(got, []string{"intent source.manage ", "outcome source.manage ok"}) {
		t.Fatalf("%q", got)
	}
}

func TestAPanicIsAnOutcome(t *testing.T) {
	h := guardtest.Open(t, nil)
	func() {
		defer func() { _ = recover() }()
		_ = h.Do(t.Context(), request(guardtest.Admin()), func(context.Context, *guard.Permit) (guard.Outcome, error) { panic("ouch") })
	}()
	if got := kinds(h.Records(t)); !slices.Equal(got, []string{"intent source.manage ", "outcome source.manage in-doubt"}) {
		t.Fatalf("%q", got)
	}
}

func TestNoAPIKeyReachesTheRecord(t *testing.T) {
	h := guardtest.Open(t, nil)
	secret := "cl_0123456789abcdef_ThisIsTheSecretPartOfTheKey0123456789"
	req := request(guardtest.Admin())
	req.Detail = map[string]any{"name": secret, "names": []string{secret}, "deep": map[string]any{"name": "x " + secret}}
	_ = h.Do(t.Context(), req, func(context.Context, *guard.Permit) (guard.Outcome, error) {
		return guard.Outcome{Error: "could not open " + secret, Detail: map[string]any{"name": secret}}, nil
	})
	for _, p := range []auth.Principal{guardtest.Admin(), guardtest.Asker()} {
		req := guard.Request{Principal: p, Action: auth.SourceManage, Resource: auth.Source(secret)}
		err := h.Do(t.Context(), req, func(context.Context, *guard.Permit) (guard.Outcome, error) {
			t.Error("an act on a resource named by an API key")
			return guard.Outcome{}, nil
		})
		if !errors.Is(err, store.ErrInvalid) || strings.Contains(err.Error(), "ThisIsTheSecret") {
			t.Errorf("%v", err)
		}
	}
	leaves := 0
	err := h.Store.View(t.Context(), store.Fresh, func(s store.Snapshot) error {
		for leaf, err := range s.Log(audit.LogName).Leaves(0) {
			leaves++
			if err != nil || strings.Contains(string(leaf.Data), "ThisIsTheSecret") {
				t.Errorf("%v %s", err, leaf.Data)
			}
		}
		return nil
	})
	if err != nil || leaves != 2 {
		t.Fatalf("%v, %d leaves", err, leaves)
	}
}

func TestAnObligationThatNobodyCanMeetRefuses(t *testing.T) {
	h := guardtest.Open(t, nil)
	if err := h.Decide(t.Context(), request(guardtest.Admin())); err != nil {
		t.Fatal(err)
	}
	h.Put(t, `@id("two-eyes") @obligation("approve:1-of:owners") permit (principal, action == Action::"source.manage", resource is Source);`)
	if err := h.Decide(t.Context(), request(guardtest.Admin())); !errors.Is(err, auth.ErrDenied) {
		t.Fatal("an act that must be approved first was permitted")
	}
}

func TestAPermitOfNobodyCoversNothing(t *testing.T) {
	for _, p := range []*guard.Permit{nil, {}} {
		if err := p.Covers(auth.Ask, auth.TheSystem); !errors.Is(err, auth.ErrDenied) {
			t.Errorf("%v", err)
		}
	}
}

func apply(t *testing.T, h *guardtest.House, tx *store.Tx) {
	t.Helper()
	if _, err := h.Store.Apply(t.Context(), tx); err != nil {
		t.Fatal(err)
	}
}
