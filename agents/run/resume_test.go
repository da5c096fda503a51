package run

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/storetest"
)

// failingStore lets n transactions through and then none: what the process
// behind it does after that is lost, as if it had been killed. When lost is set
// the last one is applied and its reply lost.
type failingStore struct {
	store.Store
	left atomic.Int64
	lost bool
	dead chan struct{}
	once sync.Once
}

var errKilled = errors.New("killed")

func killAfter(st store.Store, n int64, lost bool) *failingStore {
	f := &failingStore{Store: st, lost: lost, dead: make(chan struct{})}
	f.left.Store(n)
	return f
}

func (f *failingStore) Apply(ctx context.Context, tx *store.Tx) (store.Result, error) {
	left := f.left.Add(-1)
	if left >= 0 {
		return f.Store.Apply(ctx, tx)
	}
	if left == -1 && f.lost {
		f.Store.Apply(ctx, tx)
	}
	f.once.Do(func() { close(f.dead) })
	return store.Result{}, errKilled
}

// abandoned starts a run of the agent whose process dies after n commits.
func abandoned(t *testing.T, n int64, a Agent, input any) (store.Store, *Engine, ID) {
	t.Helper()
	st := storetest.NewModel(nil)
	dying := killAfter(st, n, false)
	first := engine(t, dying, &openDoor{st: st}, a)
	id, err := first.Start(t.Context(), ann, a.Name, input)
	if err != nil {
		t.Fatal(err)
	}
	<-dying.dead
	return st, first, id
}

// A kill at every commit, before it is applied or after it is applied and
// before the process hears of it.
func TestAKillBetweenAnyTwoStepsLosesNothing(t *testing.T) {
	for n := int64(1); n <= 3; n++ {
		for _, lost := range []bool{false, true} {
			t.Run(fmt.Sprintf("after %d commits, next one applied %v", n, lost), func(t *testing.T) {
				st, before, after := storetest.NewModel(nil), &tally{}, &tally{}
				dying := killAfter(st, n, lost)
				first := engine(t, dying, &openDoor{st: st}, three(before))
				id, err := first.Start(t.Context(), ann, "three", words{})
				if err != nil {
					t.Fatal(err)
				}
				<-dying.dead
				first.Close()
				second := engine(t, st, &openDoor{st: st}, three(after))
				go second.Resume(t.Context())
				evs := hear(t, second, ann, id, 0)
				finals := 0
				for _, ev := range evs {
					if ev.Last() {
						finals++
					}
				}
				if finals != 1 || evs[len(evs)-1].Kind != KindFinal {
					t.Errorf("events %s: want exactly one final, at the end", kinds(evs))
				}
				journaled := int(n) - 1
				if lost {
					journaled++
				}
				for i, step := range []string{"one", "two", "three"} {
					want := 1
					if i < journaled {
						want = 0
					}
					if got := after.count(step); got != want {
						t.Errorf("step %s executed %d times after the kill, want %d (%d were journaled)", step, got, want, journaled)
					}
				}
			})
		}
	}
}

func TestAStaleWorkerCannotCommit(t *testing.T) {
	st, c := storetest.NewModel(nil), &tally{}
	entered, goOn := make(chan struct{}), make(chan struct{})
	slow := Agent{Name: "slow", Revision: "1", Steps: []Step{
		Func("wait", Read, func(context.Context, *Call) (string, error) {
			c.add("stale")
			close(entered)
			<-goOn
			return "stale", nil
		}),
	}}
	quick := slow
	quick.Steps = []Step{Func("wait", Read, func(context.Context, *Call) (string, error) { return "fresh", nil })}
	first := engine(t, st, &openDoor{st: st}, slow)
	id, err := first.Start(t.Context(), ann, "slow", nil)
	if err != nil {
		t.Fatal(err)
	}
	<-entered
	second := engine(t, st, &openDoor{st: st}, quick) // the same node, another boot
	go second.Resume(t.Context())
	evs := hear(t, second, ann, id, 0)
	applied := st.Applied()
	close(goOn)
	first.work.Wait()
	if st.Applied() != applied {
		t.Errorf("the stale worker committed version %d after %d", st.Applied(), applied)
	}
	if got := string(evs[len(evs)-1].Data); got != `"fresh"` {
		t.Errorf("result %s, want the one of the worker that holds the lease", got)
	}
}

func TestTheLeaseOfAnotherNodeIsTakenOnlyWhenItIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &tally{}
		st, first, id := abandoned(t, 1, three(&tally{}), words{})
		other := engine(t, st, &openDoor{st: st}, three(c))
		other.cfg.Node = "n2"
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go other.Resume(ctx)
		time.Sleep(2500 * time.Millisecond) // of a lease of 3 s
		synctest.Wait()
		if n := c.count("one"); n != 0 {
			t.Errorf("the run was taken over while its lease was alive")
		}
		if got := hear(t, other, ann, id, 0); got[len(got)-1].Kind != KindFinal {
			t.Errorf("events %s", kinds(got))
		}
		cancel()
		first.Close()
		other.Close()
	})
}

// Two nodes find the same lease dead. Whoever comes second finds a living one in its
// place and leaves the run alone: it may not take it from who has just begun.
func TestARunThatWasTakenOverMeanwhileIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, first, id := abandoned(t, 1, three(&tally{}), words{})
		var nodes []*Engine
		for _, name := range []string{"n2", "n3"} {
			e := engine(t, st, &openDoor{st: st}, three(&tally{}))
			e.cfg.Node = name
			if _, err := e.dead(t.Context()); err != nil { // its clock for this lease begins
				t.Fatal(err)
			}
			nodes = append(nodes, e)
		}
		time.Sleep(2 * first.cfg.Lease)
		var found [2]store.Version
		for i, e := range nodes {
			dead, err := e.dead(t.Context())
			if err != nil || dead[id] == 0 {
				t.Fatalf("dead: %v, %v", dead, err)
			}
			found[i] = dead[id]
		}
		taken, err := nodes[0].takeOver(t.Context(), id, found[0])
		if taken == nil || err != nil {
			t.Fatalf("%v, %v", taken, err)
		}
		if w, err := nodes[1].takeOver(t.Context(), id, found[1]); w != nil || err != nil {
			t.Errorf("the second took it from the first: %v, %v", w, err)
		}
		for _, e := range append(nodes, first) {
			e.Close()
		}
	})
}

func TestALongStepKeepsItsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, n := storetest.NewModel(nil), atomic.Int64{}
		long := Agent{Name: "long", Revision: "1", Steps: []Step{Func("sleep", Read, func(ctx context.Context, _ *Call) (int64, error) {
			time.Sleep(5 * time.Second)
			return n.Add(1), nil
		})}}
		first := engine(t, st, &openDoor{st: st}, long)
		other := engine(t, st, &openDoor{st: st}, long)
		other.cfg.Node = "n2"
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go other.Resume(ctx)
		id, err := first.Start(t.Context(), ann, "long", nil)
		if err != nil {
			t.Fatal(err)
		}
		evs := hear(t, first, ann, id, 0)
		if n.Load() != 1 || kinds(evs) != "1:stage 2:final" {
			t.Errorf("executed %d times, events %s", n.Load(), kinds(evs))
		}
		cancel()
		first.Close()
		other.Close()
	})
}

func TestAnUnsafeStepIsNeverDoneAgain(t *testing.T) {
	c := &tally{}
	agent := Agent{Name: "send", Revision: "1", Steps: []Step{Func("mail", Unsafe, func(context.Context, *Call) (int, error) {
		c.add("mail")
		return 0, nil
	})}}
	st, _, id := abandoned(t, 1, agent, nil)
	second := engine(t, st, &openDoor{st: st}, agent)
	go second.Resume(t.Context())
	evs := hear(t, second, ann, id, 0)
	if last := evs[len(evs)-1]; last.Kind != KindFailed || !strings.Contains(string(last.Data), "may or may not") || c.count("mail") != 1 {
		t.Errorf("last event %s %s, executed %d times", last.Kind, last.Data, c.count("mail"))
	}
}
