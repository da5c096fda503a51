package measure

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/answer"
)

// EvidenceScore says how well sentences were found and judged.
type EvidenceScore struct {
	Asked, First, Three   int // questions; evidence first, and among the first three
	Answered, Right       int // given an answer; whose citation holds the evidence
	Foreign, FalseAnswers int // questions about paragraphs that were not loaded; answered all the same
	Milliseconds          []float64
}

// P95 is the time within which 95 % of the questions were answered.
func (s EvidenceScore) P95() float64 {
	if len(s.Milliseconds) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s.Milliseconds))
	return sorted[len(sorted)*95/100]
}

// Evidence asks every question of loaded, whose Files are in the source that
// access covers, and of foreign, whose files are not.
func Evidence(ctx context.Context, a *answer.Answerer, access graph.Access, loaded, foreign XQuAD) (EvidenceScore, error) {
	var s EvidenceScore
	files := loaded.Files()
	for i, p := range loaded.Paragraphs {
		for _, q := range p.Questions {
			hits, got, ms, err := hitsOf(ctx, a, access, q.Text)
			if err != nil {
				return s, err
			}
			s.Milliseconds = append(s.Milliseconds, ms)
			s.add(files[i].Path, q, hits, got)
		}
	}
	for _, p := range foreign.Paragraphs {
		for _, q := range p.Questions {
			_, got, _, err := hitsOf(ctx, a, access, q.Text)
			if err != nil {
				return s, err
			}
			s.Foreign++
			if got.Outcome == answer.Stated {
				s.FalseAnswers++
			}
		}
	}
	return s, nil
}

func (s *EvidenceScore) add(path string, q SpanQuestion, hits []answer.Hit, got answer.Answer) {
	s.Asked++
	holds := func(record graph.RecordID, start, end int) bool {
		return record.Native == path && start <= q.Start && q.Start < end
	}
	for i, h := range hits[:min(3, len(hits))] {
		if holds(h.Quote.Record, h.Quote.Start, h.Quote.End) {
			s.Three++
			if i == 0 {
				s.First++
			}
		}
	}
	if got.Outcome != answer.Stated {
		return
	}
	s.Answered++
	for _, c := range got.Citations {
		if id, err := graph.ParseRecordID(c.Record); err == nil && holds(id, c.Start, c.End) {
			s.Right++
			return
		}
	}
}

// hitsOf asks and returns what was found on the way, and how long it took.
func hitsOf(ctx context.Context, a *answer.Answerer, access graph.Access, text string) ([]answer.Hit, answer.Answer, float64, error) {
	began := time.Now()
	plan, err := a.Understand(ctx, access, answer.Question{Text: text})
	if err != nil {
		return nil, answer.Answer{}, 0, fmt.Errorf("ask %q: %w", text, err)
	}
	found, err := a.Gather(ctx, access, plan)
	if err != nil {
		return nil, answer.Answer{}, 0, fmt.Errorf("ask %q: %w", text, err)
	}
	draft, err := a.Compose(plan, found)
	if err == nil {
		draft, err = a.Verify(draft)
	}
	if err != nil {
		return nil, answer.Answer{}, 0, fmt.Errorf("ask %q: %w", text, err)
	}
	got, err := a.Cite(ctx, access, draft)
	return found.Hits, got, float64(time.Since(began).Microseconds()) / 1000, err
}
