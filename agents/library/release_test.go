package library

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-os/cloister/agents/run"
	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard/guardtest"
	"github.com/cloister-os/cloister/graph/answer"
)

const finance = "corp/0e6bd2a5-6d0c-4a3a-9c52-2f7b1d9a5b11"

// holding is the agent with a stop after one of its steps: it tells that it came
// there and waits to be let on.
func holding(a run.Agent, after string) (run.Agent, chan bool, chan bool) {
	at, on := make(chan bool), make(chan bool)
	i := slices.Index([]string{"recall", "understand", "gather", "compose", "verify", "cite"}, after)
	a.Steps = slices.Insert(slices.Clone(a.Steps), i+1, run.Func("hold", run.Read, func(ctx context.Context, c *run.Call) (string, error) {
		at <- true
		<-on
		return "", ctx.Err()
	}))
	return a, at, on
}

// TestAnAudienceThatNarrowsInMidAnswerReleasesNothing closes the source after
// each step that comes before the last.
func TestAnAudienceThatNarrowsInMidAnswerReleasesNothing(t *testing.T) {
	for _, after := range []string{"understand", "gather", "compose", "verify"} {
		t.Run(after, func(t *testing.T) {
			h := open(t)
			a, at, on := holding(Answering(h.answers, h.Store, h.Guard, h.memories), after)
			runs, err := run.New(run.Config{Store: h.Store, Door: h.Guard, Blobs: h.blobs, Node: "held", Agents: []run.Agent{a}, Release: Release(h.Store, h.Guard, h.memories)})
			must(t, err)
			t.Cleanup(func() { runs.Close() })
			who := guardtest.Asker()
			id, err := runs.Start(t.Context(), who, AnswerName, Question{Question: answer.Question{Text: "How long are backups kept?"}})
			must(t, err)
			<-at
			_, err = h.sources.SetAudience(t.Context(), guardtest.Admin(), "handbook", []string{finance})
			must(t, err)
			on <- true
			told := heard(t, runs, who, id)
			for _, word := range []string{"35 days", "handbook", "backup.md", "archive host"} {
				if strings.Contains(told, word) {
					t.Errorf("%q is told: %s", word, told)
				}
			}
			if !strings.Contains(told, `"final"`) {
				t.Errorf("the run did not end well: %s", told)
			}
		})
	}
}

// heard is all that a run tells somebody, as events and as its result.
func heard(t *testing.T, runs *run.Engine, p auth.Principal, id run.ID) string {
	t.Helper()
	var all []byte
	for ev, err := range runs.Events(t.Context(), p, id, 0) {
		must(t, err)
		b, err := json.Marshal(ev)
		must(t, err)
		all = append(append(all, b...), '\n')
	}
	got, err := runs.Get(t.Context(), p, id)
	must(t, err)
	return string(all) + string(got.Result)
}

// TestAnAnswerIsToldWhileItsSourcesAreOpen closes and opens the source of an
// answer that was given, and removes it.
func TestAnAnswerIsToldWhileItsSourcesAreOpen(t *testing.T) {
	h := open(t)
	who := guardtest.Asker()
	id, err := h.runs.Start(t.Context(), who, AnswerName, Question{Question: answer.Question{Text: "How long are backups kept?"}})
	must(t, err)
	first := heard(t, h.runs, who, id)
	if strings.Count(first, "35 days") < 3 { // partial, citations, final
		t.Fatalf("not answered: %s", first)
	}
	audience := func(list ...string) {
		t.Helper()
		_, err := h.sources.SetAudience(t.Context(), guardtest.Admin(), "handbook", list)
		must(t, err)
	}
	audience(finance)
	closed := heard(t, h.runs, who, id)
	for _, word := range []string{"35 days", "handbook", "backup.md"} {
		if strings.Contains(closed, word) {
			t.Errorf("%q is told: %s", word, closed)
		}
	}
	if strings.Count(closed, Withheld) != 3 { // partial, final, result
		t.Errorf("it does not say why: %s", closed)
	}
	audience("user")
	if again := heard(t, h.runs, who, id); again != first {
		t.Errorf("opened again it tells %s\nnot %s", again, first)
	}
	must(t, h.sources.Remove(t.Context(), guardtest.Admin(), "handbook"))
	if after := heard(t, h.runs, who, id); after != first {
		t.Errorf("a source that is removed takes an answer back: %s", after)
	}
}
