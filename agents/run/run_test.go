package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/blob"
	"github.com/cloister-os/cloister/store/storetest"
)

// openDoor permits everything but the actions in deny, and writes one leaf an
// intent and one an outcome, as the real one does.
type openDoor struct {
	st store.Store
	mu sync.Mutex
	// deny holds the steps that are refused.
	deny map[string]bool
}

func (d *openDoor) Decide(context.Context, guard.Request) error { return nil }

func (d *openDoor) Begin(_ context.Context, tx *store.Tx, req guard.Request) (*guard.Permit, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	step, _ := req.Detail["step"].(string)
	if d.deny[step] {
		return nil, &auth.DeniedError{Action: req.Action, Policies: []string{"test-forbid"}}
	}
	tx.Append("audit", fmt.Appendf(nil, "intent %s %s", req.Run, step))
	return &guard.Permit{}, nil
}

func (d *openDoor) Finish(tx *store.Tx, _ *guard.Permit, out guard.Outcome) error {
	tx.Append("audit", []byte("outcome "+out.Status))
	return nil
}

func (d *openDoor) Do(ctx context.Context, req guard.Request, act func(context.Context, *guard.Permit) (guard.Outcome, error)) error {
	if req.Action == auth.RunRead && req.Resource.Attrs["owner"] != req.Principal.Root().ID {
		return &auth.DeniedError{Action: req.Action}
	}
	_, err := act(ctx, nil)
	return err
}

func (d *openDoor) Read(ctx context.Context, req guard.Request, act func(context.Context, *guard.Permit) (guard.Outcome, error)) error {
	return d.Do(ctx, req, act)
}

// tally counts how often each step was executed.
type tally struct {
	mu   sync.Mutex
	done []string
}

func (c *tally) add(step string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done = append(c.done, step)
}

func (c *tally) count(step string) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.done {
		if s == step {
			n++
		}
	}
	return n
}

type words struct {
	List []string `json:"list"`
}

// three is an agent of three steps, each adding a word to the one before.
func three(c *tally) Agent {
	step := func(name, before string) Step {
		return Func(name, Read, func(_ context.Context, call *Call) (words, error) {
			c.add(name)
			w, err := Input[words](call)
			if before != "" {
				w, err = Result[words](call, before)
			}
			w.List = append(w.List, name)
			call.Emit("word", map[string]string{"word": name})
			call.Charge(7, map[string]int64{"rows": 1})
			return w, err
		})
	}
	return Agent{Name: "three", Revision: "1", Steps: []Step{step("one", ""), step("two", "one"), step("three", "two")}}
}

var ann = auth.Principal{Kind: auth.User, ID: "u-ann", Roles: []auth.Role{auth.Asker}}

func engine(t testing.TB, st store.Store, door guard.Door, agents ...Agent) *Engine {
	t.Helper()
	blobs, err := blob.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	e, err := New(Config{Store: st, Door: door, Blobs: blobs, Node: "n1", Agents: agents, Lease: 3 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func hear(t testing.TB, e *Engine, p auth.Principal, id ID, from uint64) []Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var out []Event
	for ev, err := range e.Events(ctx, p, id, from) {
		if err != nil {
			t.Fatalf("after %d events: %v", len(out), err)
		}
		out = append(out, ev)
	}
	return out
}

func kinds(list []Event) string {
	var b strings.Builder
	for i, ev := range list {
		fmt.Fprintf(&b, "%s%d:%s", map[bool]string{true: " "}[i > 0], ev.N, ev.Kind)
	}
	return b.String()
}

const wholeRun = "1:stage 2:word 3:stage 4:word 5:stage 6:word 7:final"

func TestAThreeStepRunIsFourCommits(t *testing.T) {
	st, c := storetest.NewModel(nil), &tally{}
	e := engine(t, st, &openDoor{st: st}, three(c))
	id, err := e.Start(t.Context(), ann, "three", words{List: []string{"zero"}})
	if err != nil {
		t.Fatal(err)
	}
	evs := hear(t, e, ann, id, 0)
	if got := kinds(evs); got != wholeRun {
		t.Errorf("events %s, want %s", got, wholeRun)
	}
	var result words
	if err := json.Unmarshal(evs[len(evs)-1].Data, &result); err != nil || strings.Join(result.List, " ") != "zero one two three" {
		t.Errorf("result %v, %v", result, err)
	}
	if st.Applied() != 4 {
		t.Errorf("%d commits, want 4", st.Applied())
	}
	if last := evs[len(evs)-1]; last.Cost != 21 {
		t.Errorf("the final event tells a cost of %d, want 21", last.Cost)
	}
	r, err := e.Get(t.Context(), ann, id)
	if err != nil || r.State != Done || r.Cost != 21 || !strings.Contains(string(r.Result), "three") || r.Ended.IsZero() {
		t.Errorf("run %+v, %v", r, err)
	}
	leaves := 0
	st.View(t.Context(), store.Local, func(s store.Snapshot) error { leaves = int(s.Log("audit").Size()); return nil })
	if leaves != 6 {
		t.Errorf("%d audit leaves, want an intent and an outcome for each of 3 steps", leaves)
	}
}

func TestListenersMayComeLateAndReadOn(t *testing.T) {
	st := storetest.NewModel(nil)
	e := engine(t, st, &openDoor{st: st}, three(&tally{}))
	id, err := e.Start(t.Context(), ann, "three", words{})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() {
			if got := kinds(hear(t, e, ann, id, 0)); got != wholeRun {
				t.Errorf("events %s", got)
			}
		})
	}
	all.Wait()
	if got := kinds(hear(t, e, ann, id, 5)); got != "6:word 7:final" {
		t.Errorf("from event 5 on: %s", got)
	}
}

func TestARunEndsBadlyOnlyInPlainWords(t *testing.T) {
	boom := func(f func() error) Agent {
		return Agent{Name: "boom", Revision: "1", Steps: []Step{Func("a", Read, func(context.Context, *Call) (int, error) { return 1, nil }),
			Func("b", Read, func(context.Context, *Call) (int, error) { return 0, f() })}}
	}
	tests := []struct {
		name string
		deny string
		f    func() error
		want string
	}{
		{name: "error", f: func() error { return errors.New("no such page\nsecond line") }, want: `{"error":"no such page"}`},
		{name: "panic", f: func() error { panic("secret") }, want: `{"error":"the step panicked; the node's log says where"}`},
		{name: "refused", deny: "b", f: func() error { return nil },
			want: `{"error":"ask is not permitted (policy test-forbid)"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			st := storetest.NewModel(nil)
			e := engine(t, st, &openDoor{st: st, deny: map[string]bool{tt.deny: true}}, boom(tt.f))
			id, err := e.Start(t.Context(), ann, "boom", nil)
			if err != nil {
				t.Fatal(err)
			}
			evs := hear(t, e, ann, id, 0)
			last := evs[len(evs)-1]
			if last.Kind != KindFailed || string(last.Data) != tt.want {
				t.Errorf("last event %s %s, want %s", last.Kind, last.Data, tt.want)
			}
			if r, err := e.Get(t.Context(), ann, id); err != nil || r.State != Failed || r.Error == "" {
				t.Errorf("run %+v, %v", r, err)
			}
		})
	}
}

func TestOnlyItsOwnerStopsARun(t *testing.T) {
	st := storetest.NewModel(nil)
	stuck := Agent{Name: "stuck", Revision: "1", Steps: []Step{Func("wait", Read, func(ctx context.Context, _ *Call) (int, error) {
		<-ctx.Done()
		return 0, ctx.Err()
	})}}
	e := engine(t, st, &openDoor{st: st}, stuck)
	id, err := e.Start(t.Context(), ann, "stuck", nil)
	if err != nil {
		t.Fatal(err)
	}
	bob := auth.Principal{Kind: auth.User, ID: "u-bob"}
	if err := e.Cancel(t.Context(), bob, id); !errors.Is(err, auth.ErrDenied) {
		t.Errorf("a stranger's cancel: %v", err)
	}
	if _, err := e.Get(t.Context(), bob, id); !errors.Is(err, auth.ErrDenied) {
		t.Errorf("a stranger's get: %v", err)
	}
	if err := e.Cancel(t.Context(), ann, id); err != nil {
		t.Fatal(err)
	}
	if got := kinds(hear(t, e, ann, id, 0)); got != "1:stage 2:cancelled" {
		t.Errorf("events %s", got)
	}
	if err := e.Cancel(t.Context(), ann, id); !errors.Is(err, ErrEnded) {
		t.Errorf("second cancel: %v", err)
	}
}

func TestALargeResultIsABlobAndComesBackWhole(t *testing.T) {
	st := storetest.NewModel(nil)
	big := strings.Repeat("x", 200<<10)
	agent := Agent{Name: "big", Revision: "1", Steps: []Step{
		Func("make", Read, func(context.Context, *Call) (string, error) { return big, nil }),
		Func("pass", Read, func(_ context.Context, c *Call) (string, error) { return Result[string](c, "make") }),
	}}
	e := engine(t, st, &openDoor{st: st}, agent)
	id, err := e.Start(t.Context(), ann, "big", nil)
	if err != nil {
		t.Fatal(err)
	}
	evs := hear(t, e, ann, id, 0)
	var got string
	if err := json.Unmarshal(evs[len(evs)-1].Data, &got); err != nil || got != big {
		t.Errorf("final of %d bytes, %v", len(got), err)
	}
	if r, err := e.Get(t.Context(), ann, id); err != nil || len(r.Result) != len(big)+2 {
		t.Errorf("result of %d bytes, %v", len(r.Result), err)
	}
}

func TestTheSameKeyStartsOneRun(t *testing.T) {
	st, c := storetest.NewModel(nil), &tally{}
	e := engine(t, st, &openDoor{st: st}, three(c))
	a, err := e.StartOnce(t.Context(), ann, "k", "three", words{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := e.StartOnce(t.Context(), ann, "k", "three", words{})
	if err != nil || a != b {
		t.Errorf("second start: %s, %v; want %s", b, err, a)
	}
	hear(t, e, ann, a, 0)
	list, err := e.List(t.Context(), ann, "", 10)
	if err != nil || len(list) != 1 || list[0].ID != a || c.count("one") != 1 {
		t.Errorf("list %v, %v; step one ran %d times", list, err, c.count("one"))
	}
}

func TestOldRunsAreForgottenWhole(t *testing.T) {
	st := storetest.NewModel(nil)
	e := engine(t, st, &openDoor{st: st}, three(&tally{}))
	ids := map[string]ID{}
	for _, name := range []string{"old", "new"} {
		if name == "new" {
			e.cfg.Now = func() time.Time { return time.Now().Add(e.cfg.Keep) }
		}
		id, err := e.StartOnce(t.Context(), ann, name, "three", words{})
		if err != nil {
			t.Fatal(err)
		}
		hear(t, e, ann, id, 0)
		ids[name] = id
	}
	for len(e.places) > 0 {
		time.Sleep(time.Millisecond)
	}
	e.cfg.Now = func() time.Time { return time.Now().Add(e.cfg.Keep + time.Hour) }
	if err := e.prune(t.Context()); err != nil {
		t.Fatal(err)
	}
	left := 0
	st.View(t.Context(), store.Local, func(s store.Snapshot) error {
		for _, space := range []store.Space{runs, steps, byOwner, starts, leases, events} {
			for item := range s.Scan(space.Prefix(), "") {
				left++
				if strings.Contains(string(item.Key), string(ids["old"])) || strings.HasSuffix(string(item.Key), "old\x00\x01") {
					t.Errorf("%q is still there", item.Key)
				}
			}
		}
		return nil
	})
	if left == 0 {
		t.Error("the new run is gone too")
	}
	if _, err := e.Get(t.Context(), ann, ids["new"]); err != nil {
		t.Errorf("the new run: %v", err)
	}
}

func TestStartsAreBounded(t *testing.T) {
	st := storetest.NewModel(nil)
	stuck := Agent{Name: "stuck", Revision: "1", Steps: []Step{Func("wait", Read, func(ctx context.Context, _ *Call) (int, error) {
		<-ctx.Done()
		return 0, nil
	})}}
	e := engine(t, st, &openDoor{st: st}, stuck)
	e.places, e.cfg.Waiting = make(chan struct{}, 1), 0
	if _, err := e.Start(t.Context(), ann, "stuck", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Start(t.Context(), ann, "stuck", nil); !errors.Is(err, ErrBusy) {
		t.Errorf("start beyond the bound: %v", err)
	}
	if _, err := e.Start(t.Context(), ann, "nobody", nil); !errors.Is(err, ErrUnknown) {
		t.Errorf("unknown agent: %v", err)
	}
}

func TestANewerFieldSurvivesARewrite(t *testing.T) {
	newer := map[string]any{"v": 2, "id": "r", "agent": "three", "from_the_future": "kept"}
	b, err := encode(newer)
	if err != nil {
		t.Fatal(err)
	}
	var r record
	if r.leftover, err = decodeKeeping(b, &r); err != nil {
		t.Fatal(err)
	}
	if b, err = encodeKeeping(r, r.leftover); err != nil {
		t.Fatal(err)
	}
	var back map[string]any
	if err := decode(b, &back); err != nil || back["from_the_future"] != "kept" || back["agent"] != "three" {
		t.Errorf("after a rewrite: %v, %v", back, err)
	}
}
