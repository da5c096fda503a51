package measure

import (
	"slices"
	"strings"

	"github.com/cloister-os/cloister/graph/answer"
)

// Grade is what was right about one answer.
type Grade struct {
	Shape    bool // understood as it should be
	Evidence bool // a citation holds the fact
	Right    bool // the answer says it
	Why      string
}

// Judge compares an answer with what was asked.
func Judge(q Asked, shape string, a answer.Answer) Grade {
	g := Grade{Shape: q.Shape == "" || q.Shape == shape}
	if q.None {
		g.Right, g.Evidence = a.Outcome != answer.Stated, a.Outcome != answer.Stated
		if !g.Right {
			g.Why = "answered: " + a.Answer
		}
		return g
	}
	g.Evidence, g.Right = true, a.Outcome == answer.Stated
	var cited strings.Builder
	for _, c := range a.Citations {
		cited.WriteString(c.Text + "\n" + c.Record + "\n" + c.Title + "\n")
	}
	for _, want := range q.Cites {
		if !strings.Contains(cited.String(), want) {
			g.Evidence, g.Right, g.Why = false, false, "no citation holds "+want
		}
	}
	for _, want := range q.Holds {
		if !strings.Contains(a.Answer, want) {
			g.Right, g.Why = false, "the answer lacks "+want
		}
		if !strings.Contains(cited.String(), want) && !slices.Contains([]string{"count_commits"}, q.Shape) {
			g.Evidence, g.Why = false, "no citation holds "+want
		}
	}
	if !g.Right || !g.Evidence {
		g.Why += " [" + string(a.Outcome) + ": " + a.Answer + "]"
	}
	return g
}
