package answer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/store"
)

// MaxCitations bounds the citations of one answer.
const MaxCitations = 64

// Cite reads every cited range again, through the access of now, and releases
// the answer only if each has the bytes that the draft was made from.
func (a *Answerer) Cite(ctx context.Context, access graph.Access, d Draft) (Answer, error) {
	out := Answer{Outcome: d.Outcome, Understood: d.Plan.Understood, Answer: d.text(), Citations: []Citation{}, Freshness: d.Freshness, Resolved: d.Plan.Resolved, Unclear: d.Plan.Unclear}
	if out.Freshness == nil {
		out.Freshness = []Freshness{}
	}
	seen := map[Quote]bool{}
	err := a.view(ctx, access, d.Plan.Version, func(r *graph.Reader, _ store.Snapshot) error {
		for _, s := range d.Statements {
			for _, q := range s.Quotes {
				if seen[q] || len(out.Citations) == MaxCitations {
					continue
				}
				seen[q] = true
				c, err := cite(r, q)
				if err != nil {
					return err
				}
				out.Citations = append(out.Citations, c)
			}
		}
		return nil
	})
	if err != nil {
		return Answer{}, fmt.Errorf("cite: %w", err)
	}
	return out, nil
}

func cite(r *graph.Reader, q Quote) (Citation, error) {
	rec, err := r.Record(q.Record)
	if err != nil {
		return Citation{}, err
	}
	content := rec.Payload
	if q.Part == TextPart {
		content = rec.Text
	}
	b, err := r.Range(content, q.Start, q.End)
	if err != nil {
		return Citation{}, fmt.Errorf("read %s again: %w", q.Record, err)
	}
	sum, want := sha256.Sum256(b), sha256.Sum256([]byte(q.Text))
	if sum != want {
		return Citation{}, fmt.Errorf("%s: the bytes %d to %d are not those that the answer was made from", q.Record, q.Start, q.End)
	}
	return Citation{Source: q.Record.Source, Record: q.Record.String(), Version: r.Version(), Title: q.Title, URI: q.URI,
		Start: q.Start, End: q.End, Text: string(b), SHA256: hex.EncodeToString(sum[:])}, nil
}

// text is the answer as people read it; what is asked for is in bold.
func (d Draft) text() string {
	var lines []string
	if d.Lead != "" {
		lines = append(lines, d.Lead)
	}
	for _, s := range d.Statements {
		lines = append(lines, s.text())
	}
	sep := "\n"
	if d.Outcome == Stated && d.Lead == "" {
		sep = " "
	}
	return strings.Join(lines, sep)
}

func (s Statement) text() string {
	var b strings.Builder
	for _, p := range s.Parts {
		if p.Bold && strings.TrimSpace(p.Text) != "" {
			b.WriteString("**" + p.Text + "**")
		} else {
			b.WriteString(p.Text)
		}
	}
	return b.String()
}
