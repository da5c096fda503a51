package typed

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestSpans(t *testing.T) {
	for _, c := range []struct{ sentence, want string }{
		{"Copies are kept for 35 days.", "duration:35 days"},
		{"The contract ends on 31 March 2027.", "date:31 March 2027"},
		{"It was founded in 1923 by Rosa Delgado.", "date:1923 name:Rosa Delgado"},
		{"An upload is at most 25 MB.", "size:25 MB"},
		{"It costs 1,200 euros a year.", "money:1,200 euros"},
		{"It is up 99.95% of the time.", "percent:99.95%"},
		{"See dev/limits.md or mail ada@example.org.", "path:dev/limits.md address:ada@example.org"},
		{"Since v1.2.0 the limit is twelve.", "version:v1.2.0 number:twelve"},
		{"The export runs on heron-3.", "name:heron-3"},
		{"Backups run every night at 02:30.", "duration:every night date:02:30"},
		{"Whoever is on call answers.", ""},
	} {
		var got []string
		for _, s := range Spans(c.sentence) {
			got = append(got, string(s.Kind)+":"+c.sentence[s.Start:s.End])
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%q holds %q, want %q", c.sentence, s, c.want)
		}
	}
}

func TestSpansAreRangesThatDoNotOverlap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringMatching(`([A-Za-z0-9 .,:/@%$€-]|ten|May|days|Ada){0,80}`).Draw(t, "sentence")
		last := 0
		for _, x := range Spans(s) {
			if x.Start < last || x.End <= x.Start || x.End > len(s) {
				t.Fatalf("span %+v of %q", x, s)
			}
			last = x.End
		}
	})
}

func TestAsked(t *testing.T) {
	for question, want := range map[string]Kind{
		"When does the contract end?":                 Date,
		"On which day does the phone change hands?":   Date,
		"Who leads the team?":                         Name,
		"How many requests are allowed?":              Number,
		"How long are logs kept?":                     Duration,
		"How often is it backed up?":                  Duration,
		"What is the maximum message size of the hub": Size,
		"How much does it cost?":                      Money,
		"What percentage of the time is it up?":       Percent,
		"Where does it run?":                          Place,
		"What is the hub written in?":                 Any,
		"What is the number of replicas of the hub?":  Number,
		"What does the hub cost?":                     Money,
	} {
		if got := Asked(question); got != want {
			t.Errorf("%q asks for %q, want %q", question, got, want)
		}
	}
}
