package rank

import (
	"reflect"
	"testing"
)

func stats(holding map[string]int) Statistics { return Statistics{Passages: 50, Holding: holding} }

func sentences(texts ...string) (out []Sentence) {
	for _, s := range texts {
		out = append(out, Sentence{Text: s, Passage: s})
	}
	return out
}

func TestTheSentenceThatAnswersComesFirst(t *testing.T) {
	st := stats(map[string]int{"gatewai": 8, "log": 10, "amber": 4, "keep": 10, "dai": 20})
	for _, c := range []struct {
		question string
		best     string
		others   []string
	}{
		{"How long does the amber gateway keep logs?", "The amber gateway keeps its logs for 9 days.",
			[]string{"The birch gateway keeps its logs for 7 days.", "The amber gateway is written in Rust.", "Logs matter."}},
		{"How long are logs of the amber gateway retained?", "Logs of the amber gateway are kept for 9 days.",
			[]string{"Logs of the amber gateway are read on Mondays.", "The amber gateway was rebuilt in 2019."}},
		{"How many replicas has the amber gateway?", "The amber gateway has 3 replicas.",
			[]string{"The amber gateway answers within 3 seconds.", "The amber gateway was launched in 2014."}},
	} {
		list := sentences(append(c.others, c.best)...)
		got := Rank(NewQuestion(c.question, st), list, st)
		if list[got[0].Index].Text != c.best {
			t.Errorf("%q: first is %q with %+v", c.question, list[got[0].Index].Text, got[0].Features)
		}
	}
}

func TestWhatIsAskedMustBeThere(t *testing.T) {
	st := stats(map[string]int{"gatewai": 8, "log": 10, "amber": 4, "keep": 10})
	for question, want := range map[string]bool{
		"How long does the amber gateway keep its logs?":   true,
		"How long does the birch gateway keep its logs?":   false, // another thing
		"How long does the amber gateway keep invoices?":   false, // another fact
		"Who keeps the logs of the amber gateway?":         false, // nobody is named
		"How long does the amber gateway 7 keep its logs?": false, // a number it does not hold
	} {
		q := NewQuestion(question, st)
		got := Rank(q, sentences("The amber gateway keeps its logs for 9 days.", "The birch tree keeps its leaves."), st)
		if v := Judge(q, got)[0]; v.Answers != want {
			t.Errorf("%q: answers = %v (sure %.2f, %+v)", question, v.Answers, v.Sure, got[0].Features)
		}
	}
}

func TestRankingTheSameTwiceIsTheSame(t *testing.T) {
	st := stats(nil)
	q := NewQuestion("Who approves changes to the store or its retention limits?", st)
	list := sentences("Changes are approved by Ines Holm.", "Limits are kept.", "The store retains data.", "Changes are approved by Lars Berg.")
	first := Rank(q, list, st)
	for range 20 {
		if again := Rank(q, list, st); !reflect.DeepEqual(first, again) {
			t.Fatalf("ranked %+v, then %+v", first, again)
		}
	}
}

func TestLikeness(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want float64
	}{
		{"keep", "keep", 1}, {"retain", "keep", relatedWeight}, {"journal", "jornal", nearWeight}, {"interceptor", "interception", stemWeight},
		{"replic", "replica", nearWeight}, {"cat", "car", 0}, {"v2", "v3", 0}, {"owner", "amber", 0},
	} {
		if got := Likeness(c.a, c.b); got != c.want {
			t.Errorf("%q stands for %q as %.1f, want %.1f", c.b, c.a, got, c.want)
		}
	}
}

func TestUnmatchedWords(t *testing.T) {
	q := NewQuestion("When did the zeppelin dock at the amber gateway?", stats(nil))
	got := Unmatched(q, sentences("The amber gateway docks nothing."))
	if !reflect.DeepEqual(got, []string{"zeppelin"}) {
		t.Errorf("unmatched = %v", got)
	}
}
