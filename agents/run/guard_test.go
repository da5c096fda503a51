package run

import (
	"context"
	"testing"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/audit"
	"github.com/cloister-os/cloister/auth/guard/guardtest"
	"github.com/cloister-os/cloister/store/storetest"
)

func TestThroughTheRealDoorEveryStepIsOnRecord(t *testing.T) {
	st := storetest.NewModel(nil)
	house := guardtest.Open(t, st)
	e := engine(t, st, house.Guard, three(&tally{}))
	before := st.Applied()
	id, err := e.Start(t.Context(), guardtest.Asker(), "three", words{})
	if err != nil {
		t.Fatal(err)
	}
	for st.Applied() < before+4 {
		hear(t, e, guardtest.Asker(), id, 0)
	}
	intents, outcomes := 0, 0
	for _, r := range house.Records(t) {
		if r.Run != string(id) || r.Action != auth.Ask {
			continue
		}
		switch r.Kind {
		case audit.Intent:
			intents++
			if r.Actor.Kind != auth.Agent || r.Actor.OnBehalfOf == nil || r.Actor.OnBehalfOf.ID != guardtest.Asker().ID {
				t.Errorf("intent by %+v, want the agent on behalf of who asked", r.Actor)
			}
		case audit.Outcome:
			outcomes++
		}
	}
	if intents != 3 || outcomes != 3 {
		t.Errorf("%d intents and %d outcomes on record, want 3 and 3", intents, outcomes)
	}
	if _, err := e.Start(t.Context(), guardtest.Auditor(), "three", words{}); err == nil {
		t.Error("an auditor, who may not ask, started a run")
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

func TestAForbidStopsARunAtItsNextStep(t *testing.T) {
	st := storetest.NewModel(nil)
	house := guardtest.Open(t, st)
	c := &tally{}
	agent := three(c)
	first := agent.Steps[0].do
	agent.Steps[0].do = func(ctx context.Context, call *Call) (any, error) {
		house.Put(t, `@id("no-more-questions") forbid (principal, action == Action::"ask", resource);`)
		return first(ctx, call)
	}
	e := engine(t, st, house.Guard, agent)
	id, err := e.Start(t.Context(), guardtest.Asker(), "three", words{})
	if err != nil {
		t.Fatal(err)
	}
	evs := hear(t, e, guardtest.Asker(), id, 0)
	last := evs[len(evs)-1]
	if last.Kind != KindFailed || string(last.Data) != `{"error":"ask is not permitted (policy no-more-questions)"}` || c.count("two") != 0 {
		t.Errorf("last event %s %s, step two ran %d times", last.Kind, last.Data, c.count("two"))
	}
}
