package run

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/storetest"
)

func TestARunThatKillsItsNodeIsGivenUp(t *testing.T) {
	c := &tally{}
	st, first, id := abandoned(t, 1, three(c), words{})
	first.Close()
	for range MaxAttempts - 1 {
		dying := killAfter(st, 1, false) // a takeover, and nothing after it
		next := engine(t, dying, &openDoor{st: st}, three(c))
		go next.Resume(t.Context())
		<-dying.dead
		next.Close()
	}
	last := engine(t, st, &openDoor{st: st}, three(c))
	go last.Resume(t.Context())
	evs := hear(t, last, ann, id, 0)
	if ev := evs[len(evs)-1]; ev.Kind != KindFailed || !strings.Contains(string(ev.Data), "stopped 8 times during step one") || c.count("one") != MaxAttempts {
		t.Errorf("last event %s %s, step one ran %d times", ev.Kind, ev.Data, c.count("one"))
	}
}

func TestAnotherVersionOfTheAgentDoesNotGoOnWithARun(t *testing.T) {
	c := &tally{}
	st, _, id := abandoned(t, 2, three(&tally{}), words{})
	changed := three(c)
	changed.Revision = "2"
	second := engine(t, st, &openDoor{st: st}, changed)
	go second.Resume(t.Context())
	evs := hear(t, second, ann, id, 0)
	if ev := evs[len(evs)-1]; ev.Kind != KindFailed || !strings.Contains(string(ev.Data), "has changed since the run was started") || c.count("two") != 0 {
		t.Errorf("last event %s %s", ev.Kind, ev.Data)
	}
}

func TestARunThatTakesTooLongEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.NewModel(nil)
		stuck := Agent{Name: "stuck", Revision: "1", Steps: []Step{Func("wait", Read, func(ctx context.Context, _ *Call) (int, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		})}}
		e := engine(t, st, &openDoor{st: st}, stuck)
		e.cfg.Longest = 3 * time.Second
		id, err := e.Start(t.Context(), ann, "stuck", nil)
		if err != nil {
			t.Fatal(err)
		}
		evs := hear(t, e, ann, id, 0)
		if ev := evs[len(evs)-1]; string(ev.Data) != `{"error":"the run took longer than it may"}` {
			t.Errorf("last event %s %s", ev.Kind, ev.Data)
		}
		e.Close()
	})
}

func TestEventsAndResultsAreBounded(t *testing.T) {
	tests := []struct {
		name string
		do   func(*Call) any
		want string
	}{
		{"too many events", func(c *Call) any {
			for range MaxEvents {
				c.Emit("x", 1)
			}
			return nil
		}, "a run has at most 1000 events"},
		{"a large event", func(c *Call) any { c.Emit("x", strings.Repeat("x", inlineBytes)); return nil }, "that an event may have"},
		{"an event that is no JSON", func(c *Call) any { c.Emit("x", func() {}); return nil }, "unsupported type"},
		{"a huge result", func(*Call) any { return make([]byte, maxPayload+1) }, "that a step may return"},
		{"a result that is no CBOR", func(*Call) any { return func() {} }, "func"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			st := storetest.NewModel(nil)
			agent := Agent{Name: "a", Revision: "1", Steps: []Step{
				Func("do", Read, func(_ context.Context, c *Call) (any, error) { return tt.do(c), nil }),
				Func("end", Read, func(context.Context, *Call) (int, error) { return 0, nil }),
			}}
			e := engine(t, st, &openDoor{st: st}, agent)
			id, err := e.Start(t.Context(), ann, "a", nil)
			if err != nil {
				t.Fatal(err)
			}
			evs := hear(t, e, ann, id, 0)
			if ev := evs[len(evs)-1]; ev.Kind != KindFailed || !strings.Contains(string(ev.Data), tt.want) {
				t.Errorf("last event %s %s, want %q", ev.Kind, ev.Data, tt.want)
			}
		})
	}
}

func TestARevokedOwnerEndsTheRunAtItsNextStep(t *testing.T) {
	st, c := storetest.NewModel(nil), &tally{}
	e := engine(t, st, &openDoor{st: st}, three(c))
	e.cfg.Rights = func(_ context.Context, p auth.Principal) (auth.Principal, error) {
		if c.count("one") > 0 {
			return p, fmt.Errorf("key revoked: %w", auth.ErrUnauthenticated)
		}
		return p, nil
	}
	id, err := e.Start(t.Context(), ann, "three", words{})
	if err != nil {
		t.Fatal(err)
	}
	evs := hear(t, e, ann, id, 0)
	if ev := evs[len(evs)-1]; ev.Kind != KindFailed || !strings.Contains(string(ev.Data), "key revoked") || c.count("two") != 0 {
		t.Errorf("last event %s %s, step two ran %d times", ev.Kind, ev.Data, c.count("two"))
	}
}

func TestAnAgentThatMakesNoSenseIsRefused(t *testing.T) {
	st := storetest.NewModel(nil)
	step := Func("s", Read, func(context.Context, *Call) (int, error) { return 0, nil })
	for _, agents := range [][]Agent{
		{{Name: "", Steps: []Step{step}}}, {{Name: "a"}}, {{Name: "a", Steps: []Step{step, step}}}, {{Name: "a", Steps: []Step{{}}}},
		{{Name: "a", Steps: make([]Step, MaxSteps+1)}}, {{Name: "a", Steps: []Step{step}}, {Name: "a", Steps: []Step{step}}},
	} {
		if _, err := New(Config{Store: st, Door: &openDoor{st: st}, Blobs: noBlobs{}, Node: "n", Agents: agents}); err == nil {
			t.Errorf("%d agents %q were accepted", len(agents), agents[0].Name)
		}
	}
	if _, err := New(Config{}); err == nil {
		t.Error("an engine without a store was made")
	}
	if _, err := (&Engine{}).StartOnce(t.Context(), ann, "", "nobody", nil); !errors.Is(err, ErrUnknown) {
		t.Errorf("start of nobody: %v", err)
	}
}

type noBlobs struct{ Blobs }

func TestASecretInTheInputIsNotJournaled(t *testing.T) {
	st := storetest.NewModel(nil)
	e := engine(t, st, &openDoor{st: st}, Agent{Name: "echo", Revision: "1", Steps: []Step{Func("say", Read, func(_ context.Context, c *Call) (int, error) { return 0, nil })}})
	key := "cl_abcdefgh234567ab_" + strings.Repeat("A", 52)
	if _, err := e.Start(t.Context(), ann, "echo", "Whose is "+key+"?"); !errors.Is(err, store.ErrInvalid) || strings.Contains(err.Error(), key) {
		t.Errorf("a key in the input: %v", err)
	}
	if _, err := e.StartOnce(t.Context(), ann, key, "echo", nil); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("a key as the key of a start: %v", err)
	}
	if _, err := e.Start(t.Context(), ann, "echo", "Whose is it?"); err != nil {
		t.Error(err)
	}
}
