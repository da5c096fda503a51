package answer

import (
	"context"

	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/answer/rank"
	"github.com/cloister-os/cloister/graph/search"
)

// RankedSentence is a ranked candidate for tests that fit and measure.
type RankedSentence struct {
	Native     string
	Start, End int
	Text       string
	rank.Scored
}

// RankSentences runs the text path up to the ranking.
func RankSentences(ctx context.Context, x *search.Index, r *graph.Reader, question string, hide func(native string, start, end int) bool) (rank.Question, []RankedSentence, error) {
	var drop func(*search.Passage, search.Sentence) bool
	if hide != nil {
		drop = func(p *search.Passage, s search.Sentence) bool { return hide(p.Record.ID.Native, s.Start, s.End) }
	}
	q, cands, scored, err := searchText(ctx, x, r, question, drop)
	out := make([]RankedSentence, len(scored))
	for i, s := range scored {
		c := cands[s.Index]
		se := c.passage.Sentences[c.number]
		out[i] = RankedSentence{c.passage.Record.ID.Native, se.Start, se.End, se.Text, s}
	}
	return q, out, err
}
