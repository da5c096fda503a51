package answer

import (
	"context"
	"testing"
)

// lookalike embeds a text as counts of its letters' pairs: texts that are
// written alike are near.
type lookalike struct{ calls int }

func (e *lookalike) Embed(_ context.Context, texts []string) ([][]float32, error) {
	e.calls++
	out := make([][]float32, len(texts))
	for i, t := range texts {
		out[i] = make([]float32, 1024)
		for j := 1; j < len(t); j++ {
			out[i][(int(t[j-1])*31+int(t[j]))%1024]++
		}
	}
	return out, nil
}

func (e *lookalike) Model() string   { return "lookalike" }
func (e *lookalike) Dimensions() int { return 1024 }

func TestTheNearestExemplarsSayWhatIsAsked(t *testing.T) {
	e := &lookalike{}
	a := &Answerer{cfg: Config{Embed: e}}
	for masked, want := range map[string]Shape{
		"Whose fingers were in FILE last time?": LastChange,
		"What is the birthday of FILE please?":  FirstAdded,
		"zzz qqq xxx":                           ByText,
	} {
		if got := a.byExemplars(t.Context(), masked); got != want {
			t.Errorf("%q is read as %s, want %s", masked, got, want)
		}
	}
	if e.calls != len(exemplars)+3 {
		t.Errorf("the exemplars were embedded again: %d calls", e.calls)
	}
	if got := (&Answerer{}).byExemplars(t.Context(), "Who is to blame for the present state of FILE?"); got != ByText {
		t.Errorf("without an embedder: %s", got)
	}
}
