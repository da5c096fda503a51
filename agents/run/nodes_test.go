package run

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard/guardtest"
	"github.com/cloister-os/cloister/store"
	leasing "github.com/cloister-os/cloister/store/lease"
	"github.com/cloister-os/cloister/store/storetest"
)

// member is an engine on one of several nodes that share a store.
type member struct {
	*Engine
	store *storetest.Follower
}

func join(t *testing.T, ctx context.Context, st store.Store, name string, agents ...Agent) member {
	t.Helper()
	f := storetest.NewFollower(st)
	e := engine(t, f, &openDoor{st: f}, agents...)
	e.cfg.Node = name
	go e.Resume(ctx)
	return member{e, f}
}

// stint is when a step was at work, from its begin to when its context ended or
// it returned.
type stint struct{ from, to time.Time }

// slow is an agent of one long step that notes when it was at work.
type slow struct {
	mu     sync.Mutex
	stints []stint
	long   time.Duration
}

func (s *slow) agent() Agent {
	return Agent{Name: "slow", Revision: "1", Steps: []Step{
		Func("first", Read, func(context.Context, *Call) (int, error) { return 1, nil }),
		Func("long", Read, func(ctx context.Context, c *Call) (int, error) {
			from := time.Now()
			s.mu.Lock()
			long := s.long
			s.mu.Unlock()
			leasing.Wait(ctx, long)
			s.mu.Lock()
			defer s.mu.Unlock()
			s.stints = append(s.stints, stint{from, time.Now()})
			return len(s.stints), ctx.Err()
		}),
	}}
}

func (s *slow) seen() []stint {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]stint(nil), s.stints...)
}

// apart fails when two workers were at the step together.
func (s *slow) apart(t *testing.T) {
	t.Helper()
	list := s.seen()
	for i, a := range list {
		for _, b := range list[i+1:] {
			if a.from.Before(b.to) && b.from.Before(a.to) {
				t.Errorf("two workers were at it together: %v to %v and %v to %v", a.from, a.to, b.from, b.to)
			}
		}
	}
}

// cluster runs f with three nodes in a bubble.
func cluster(t *testing.T, s *slow, f func(t *testing.T, ctx context.Context, n []member)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		st := storetest.NewModel(nil)
		var nodes []member
		for _, name := range []string{"n1", "n2", "n3"} {
			nodes = append(nodes, join(t, ctx, st, name, s.agent()))
		}
		f(t, ctx, nodes)
		for _, n := range nodes {
			n.store.Join()
		}
		cancel()
		for _, n := range nodes {
			n.Close()
		}
		synctest.Wait()
	})
}

func only(t *testing.T, list []Event, kind string) {
	t.Helper()
	last := 0
	for i, ev := range list {
		if ev.N != list[0].N+uint64(i) {
			t.Errorf("event %d follows %d", ev.N, list[i-1].N)
		}
		if ev.Last() {
			last++
		}
	}
	if last != 1 || list[len(list)-1].Kind != kind {
		t.Errorf("events %s, want one last one, %s", kinds(list), kind)
	}
}

// The node that works on a run is cut off in the middle of a step: one of the
// others goes on within seconds, never together with it, and whoever listened
// through the first listens on through another.
func TestANodeThatIsCutOffLosesItsRunToOneOther(t *testing.T) {
	s := &slow{long: 20 * time.Second}
	cluster(t, s, func(t *testing.T, ctx context.Context, n []member) {
		id, err := n[0].Start(ctx, ann, "slow", nil)
		if err != nil {
			t.Fatal(err)
		}
		heard := uint64(0)
		for ev, err := range n[0].Events(ctx, ann, id, 0) {
			if err != nil {
				t.Fatal(err)
			}
			heard = ev.N
			if ev.Step == "long" {
				break
			}
		}
		synctest.Wait() // the step is at work, not only begun
		cut := time.Now()
		n[0].store.Cut()
		s.mu.Lock()
		s.long = 100 * time.Millisecond
		s.mu.Unlock()
		only(t, hear(t, n[2].Engine, ann, id, heard), KindFinal)
		if took := time.Since(cut); took > 3*n[1].cfg.Lease {
			t.Errorf("it took %v, with leases of %v", took, n[1].cfg.Lease)
		}
		if got := len(s.seen()); got != 2 {
			t.Errorf("the step was begun %d times: %v", got, s.seen())
		}
		s.apart(t)
		n[0].store.Join()
		only(t, hear(t, n[0].Engine, ann, id, 0), KindFinal)
	})
}

// A run is stopped through another node than the one that works on it: its step
// ends at once, not only when it would have committed.
func TestARunIsStoppedThroughAnyNode(t *testing.T) {
	s := &slow{long: time.Hour}
	cluster(t, s, func(t *testing.T, ctx context.Context, n []member) {
		id, err := n[0].Start(ctx, ann, "slow", nil)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		n[1].store.Hold() // it lags, too
		if err := n[1].Cancel(ctx, ann, id); err != nil {
			t.Fatal(err)
		}
		only(t, hear(t, n[2].Engine, ann, id, 0), KindCancelled)
		synctest.Wait()
		if got := s.seen(); len(got) != 1 {
			t.Errorf("the step was at work %d times or is so still", len(got))
		}
	})
}

func TestANodeThatStopsHandsItsRunsOver(t *testing.T) {
	s := &slow{long: time.Hour}
	cluster(t, s, func(t *testing.T, ctx context.Context, n []member) {
		id, err := n[0].Start(ctx, ann, "slow", nil)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		s.mu.Lock()
		s.long = 0
		s.mu.Unlock()
		began := time.Now()
		n[0].Close()
		only(t, hear(t, n[1].Engine, ann, id, 0), KindFinal)
		if took := time.Since(began); took > n[1].cfg.Lease/2 {
			t.Errorf("it took %v, with leases of %v", took, n[1].cfg.Lease)
		}
	})
}

// Nodes elect a leader for longer than a lease lasts: nobody can write, so
// nobody takes a run over together with another, and the run ends.
func TestARunOutlivesAnElection(t *testing.T) {
	s := &slow{long: 50 * time.Millisecond}
	cluster(t, s, func(t *testing.T, ctx context.Context, n []member) {
		id, err := n[0].Start(ctx, ann, "slow", nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range n {
			m.store.Cut()
		}
		time.Sleep(3 * time.Second)
		for _, m := range n {
			m.store.Join()
		}
		only(t, hear(t, n[1].Engine, ann, id, 0), KindFinal)
		s.apart(t)
	})
}

// A run started through one node is known to one that lags.
func TestARunIsKnownWhereItHasNotArrivedYet(t *testing.T) {
	s := &slow{long: time.Millisecond}
	cluster(t, s, func(t *testing.T, ctx context.Context, n []member) {
		if _, err := n[1].Start(ctx, ann, "slow", nil); err != nil {
			t.Fatal(err)
		}
		n[1].store.Hold()
		id, err := n[0].StartOnce(ctx, ann, "once", "slow", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := n[1].Get(ctx, ann, id); err != nil {
			t.Errorf("the run on a node that lags: %v", err)
		}
		n[1].store.Hold()
		if again, err := n[1].StartOnce(ctx, ann, "once", "slow", nil); err != nil || again != id {
			t.Errorf("the same key through another node began %q, not %q: %v", again, id, err)
		}
	})
}

// forgetful loses the reply to every transaction the first time, as when the
// leader dies right after it has committed, and remembers it when the same one
// is sent again, as the real store does.
type forgetful struct {
	store.Store
	mu   sync.Mutex
	done map[*store.Tx]store.Result
	lost atomic.Int64
}

func (f *forgetful) Apply(ctx context.Context, tx *store.Tx) (store.Result, error) {
	f.mu.Lock()
	res, ok := f.done[tx]
	f.mu.Unlock()
	if ok {
		tx.Done(res, nil)
		return res, nil
	}
	copied := store.NewTx()
	for _, op := range tx.Ops() {
		switch op.Kind {
		case store.OpCheck:
			copied.Check(op.Key, op.Version)
		case store.OpPut:
			copied.Put(op.Key, op.Value)
		case store.OpDelete:
			copied.Delete(op.Key)
		case store.OpAppend:
			copied.Append(op.Log, op.Value)
		case store.OpAdd:
			copied.Add(op.Key, op.Delta, op.Limit, op.Window)
		}
	}
	f.lost.Add(1) // before: what is applied is seen at once, by who counts too
	res, err := f.Store.Apply(ctx, copied)
	if err != nil {
		f.lost.Add(-1)
		tx.Done(res, err)
		return res, err
	}
	f.mu.Lock()
	f.done[tx] = res
	f.mu.Unlock()
	tx.Done(store.Result{}, store.ErrUnknown)
	return store.Result{}, store.ErrUnknown
}

func TestALostReplyToACommitDoesNothingTwice(t *testing.T) {
	st := &forgetful{Store: storetest.NewModel(nil), done: map[*store.Tx]store.Result{}}
	house := guardtest.Open(t, st.Store)
	door := guardtest.Open(t, st)
	c := &tally{}
	e := engine(t, st, door.Guard, three(c))
	id, err := e.Start(t.Context(), guardtest.Asker(), "three", words{})
	if err != nil {
		t.Fatal(err)
	}
	list := hear(t, e, auth.Principal{Kind: auth.User, ID: guardtest.Asker().ID, Roles: guardtest.Asker().Roles}, id, 0)
	only(t, list, KindFinal)
	if got := fmt.Sprint(c.done); got != "[one two three]" || st.lost.Load() < 4 {
		t.Errorf("executed %s with %d lost replies", got, st.lost.Load())
	}
	outcomes := map[string]int{}
	for _, r := range house.Records(t) {
		if r.Run == string(id) && r.Intent != "" {
			outcomes[r.Intent]++
		}
	}
	for intent, n := range outcomes {
		if n != 1 {
			t.Errorf("intent %s has %d outcomes", intent, n)
		}
	}
}

// A run started in a session ends, at its next step, with the session.
func TestARunKnowsTheSessionItWasStartedIn(t *testing.T) {
	st, c := storetest.NewModel(nil), &tally{}
	e := engine(t, st, &openDoor{st: st}, three(c))
	var out atomic.Bool
	e.cfg.Rights = func(_ context.Context, p auth.Principal) (auth.Principal, error) {
		if p.Session != "s-1" {
			t.Errorf("the owner came by session %q", p.Session)
		}
		if out.Swap(true) {
			return p, fmt.Errorf("%w: who started this has signed out", auth.ErrUnauthenticated)
		}
		return p, nil
	}
	p := ann
	p.Session = "s-1"
	id, err := e.Start(t.Context(), p, "three", words{})
	if err != nil {
		t.Fatal(err)
	}
	only(t, hear(t, e, p, id, 0), KindFailed)
	if c.count("one") != 1 || c.count("two") != 0 {
		t.Errorf("it went on: %v", c.done)
	}
}

// A node that has another version of an agent leaves a run to those that have
// the right one, for a while.
func TestAStrangeRunIsLeftToNodesThatKnowIt(t *testing.T) {
	s := &slow{long: time.Hour}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		st := storetest.NewModel(nil)
		first := join(t, ctx, st, "n1", s.agent())
		newer := s.agent()
		newer.Revision = "2"
		other := join(t, ctx, st, "n2", newer)
		other.cfg.Leave = time.Minute
		id, err := first.Start(ctx, ann, "slow", nil)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		first.Close()
		time.Sleep(30 * time.Second)
		if r, err := other.Get(ctx, ann, id); err != nil || r.State != Running {
			t.Errorf("after half a minute it is %s, %v", r.State, err)
		}
		time.Sleep(time.Minute)
		if r, err := other.Get(ctx, ann, id); err != nil || r.State != Failed {
			t.Errorf("after its time it is %s, %v", r.State, err)
		}
		cancel()
		other.Close()
		synctest.Wait()
	})
}
