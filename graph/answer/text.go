package answer

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/answer/rank"
	"github.com/cloister-os/cloister/graph/search"
	"github.com/cloister-os/cloister/graph/search/lex"
)

// Bounds of the text path.
const (
	maxPassages  = 24  // read for one question
	relatedBoost = 0.2 // of a related word, beside one of the question's own
	maxRelated   = 6   // related words looked for, for each of the question's
)

// candidate is a sentence that was found, with where it stands.
type candidate struct {
	passage  *search.Passage
	number   int // of the sentence in the passage
	sentence rank.Sentence
}

// searchText finds and ranks the sentences that could answer a question. hide,
// if not nil, leaves sentences out: for measuring what happens without them.
func searchText(ctx context.Context, x *search.Index, r *graph.Reader, question string, hide func(p *search.Passage, s search.Sentence) bool) (rank.Question, []candidate, []rank.Scored, error) {
	var stems []string
	for _, t := range lex.Content(lex.Tokens(question)) {
		stems = append(stems, t.Stem)
	}
	counts, err := x.Count(ctx, r, stems)
	if err != nil {
		return rank.Question{}, nil, nil, err
	}
	stats := rank.Statistics(counts)
	q := rank.NewQuestion(question, stats)
	passages, err := x.Passages(ctx, r, search.Query{Text: question, Terms: searchTerms(q)}, maxPassages)
	if err != nil {
		return rank.Question{}, nil, nil, err
	}
	if hide != nil {
		for i := range passages {
			p := &passages[i]
			p.Sentences = slices.DeleteFunc(p.Sentences, func(s search.Sentence) bool { return hide(p, s) })
		}
	}
	candidates := candidatesOf(passages)
	more, err := x.Count(ctx, r, stemsOf(candidates))
	if err != nil {
		return rank.Question{}, nil, nil, err
	}
	for s, n := range more.Holding {
		stats.Holding[s] = n
	}
	return q, candidates, rank.Rank(q, alike(candidates), stats), nil
}

// alike are the candidates' sentences, all with vectors or all without:
// while some vectors are still missing, text alone decides.
func alike(list []candidate) []rank.Sentence {
	out := make([]rank.Sentence, len(list))
	all := true
	for i, c := range list {
		out[i] = c.sentence
		all = all && c.sentence.Embedded
	}
	for i := range out {
		if !all {
			out[i].Embedded, out[i].Cosine, out[i].Nearby = false, 0, 0
		}
	}
	return out
}

func searchTerms(q rank.Question) []search.Term {
	var out []search.Term
	for _, t := range q.Terms {
		boost := 1.0
		if t.Framing {
			boost = 0.4
		}
		out = append(out, search.Term{Stem: t.Stem, Boost: boost})
		for i, s := range rank.Related(t.Stem) {
			if i == maxRelated {
				break
			}
			out = append(out, search.Term{Stem: s, Boost: boost * relatedBoost})
		}
	}
	return out
}

// candidatesOf lists the sentences of the passages, best passage first.
func candidatesOf(passages []search.Passage) []candidate {
	var out []candidate
	for i := range passages {
		p := &passages[i]
		var whole strings.Builder
		for _, s := range p.Sentences {
			whole.WriteString(s.Text)
			whole.WriteByte(' ')
		}
		head := p.Record.Title + " > " + strings.Join(p.Path, " > ")
		for n, s := range p.Sentences {
			c := candidate{passage: p, number: n, sentence: rank.Sentence{
				Text: s.Text, Before: p.Before, Head: head, Passage: whole.String(),
				Cosine: s.Cosine, Embedded: s.Embedded,
			}}
			if n > 0 {
				c.sentence.Before, c.sentence.Nearby = p.Sentences[n-1].Text, p.Sentences[n-1].Cosine
			}
			if n+1 < len(p.Sentences) {
				c.sentence.After = p.Sentences[n+1].Text
			}
			out = append(out, c)
		}
	}
	return out[:min(len(out), rank.MaxCandidates)]
}

// stemsOf lists the different stems of the candidates' sentences.
func stemsOf(list []candidate) []string {
	seen := map[string]bool{}
	var out []string
	for _, c := range list {
		for _, s := range lex.Stems(c.sentence.Text) {
			if !seen[s] {
				seen[s] = true
				out = append(out, s)
			}
		}
	}
	return out
}

// maxHits is how many sentences are kept as evidence.
const maxHits = 6

// text gathers the sentences that answer the question best.
func (a *Answerer) text(ctx context.Context, r *graph.Reader, p Plan, e *Evidence) error {
	q, candidates, scored, err := searchText(ctx, a.cfg.Index, r, p.Search, nil)
	if err != nil {
		return err
	}
	e.Unmatched = unmatched(q, candidates)
	verdicts := rank.Judge(q, scored)
	for i, s := range scored[:min(len(scored), maxHits)] {
		c := candidates[s.Index]
		hit := Hit{Quote: c.quote(), Head: c.sentence.Head, Score: s.Score, Sure: verdicts[i].Sure, Verdict: outcomeOf(verdicts[i])}
		if len(p.Missing) > 0 && hit.Verdict == Stated && !holdsAll(c, p.Missing) {
			hit.Verdict = Closest
		}
		if spans := rank.Candidates(q, c.sentence.Text); len(spans) == 1 {
			hit.Bold = [2]int{spans[0].Start, spans[0].End}
		}
		e.Hits = append(e.Hits, hit)
	}
	return nil
}

func outcomeOf(v rank.Verdict) Outcome {
	switch {
	case v.Answers:
		return Stated
	case v.Close:
		return Closest
	}
	return Unknown
}

// holdsAll reports whether a candidate's passage holds every one of the names.
func holdsAll(c candidate, names []string) bool {
	text := lex.Normalize(c.sentence.Passage + " " + c.sentence.Head)
	for _, n := range names {
		if !strings.Contains(text, lex.Normalize(n)) {
			return false
		}
	}
	return true
}

func unmatched(q rank.Question, candidates []candidate) []string {
	sentences := make([]rank.Sentence, len(candidates))
	for i, c := range candidates {
		sentences[i] = c.sentence
	}
	return rank.Unmatched(q, sentences)
}

func (c candidate) quote() Quote {
	s := c.passage.Sentences[c.number]
	return Quote{Record: c.passage.Record.ID, Part: TextPart, Start: s.Start, End: s.End, Text: s.Text,
		Title: c.passage.Record.Title, URI: uriOf(c.passage)}
}

// above quotes the document's title and the passage's heading.
func (c candidate) above() []Quote {
	var out []Quote
	p := c.passage
	if n := len(p.Path); n > 0 && p.Heading != (graph.Span{}) && (p.Path[n-1] != p.Record.Title || p.Heading == p.Title) {
		out = append(out, c.part(p.Path[n-1], p.Heading))
	}
	if p.Title != (graph.Span{}) && p.Title != p.Heading {
		out = append(out, c.part(p.Record.Title, p.Title))
	}
	return out
}

func (c candidate) part(text string, at graph.Span) Quote {
	q := c.quote()
	q.Text, q.Start, q.End = text, at.Start, at.End
	return q
}

// uriOf is where a person finds a passage: the document, at the section's anchor.
func uriOf(p *search.Passage) string {
	if p.Record.URI == "" || p.Anchor == "" {
		return p.Record.URI
	}
	return p.Record.URI + "#" + p.Anchor
}

// saidByText reports whether a sentence states the answer: then a question that
// could be about a feature or about a document is about the document.
func (a *Answerer) saidByText(ctx context.Context, r *graph.Reader, question string) (bool, error) {
	q, _, scored, err := searchText(ctx, a.cfg.Index, r, question, nil)
	if err != nil || len(scored) == 0 {
		return false, err
	}
	return rank.Judge(q, scored)[0].Answers, nil
}

// documents gathers the documents that explain a topic, best first, each by its
// best sentence.
func (a *Answerer) documents(ctx context.Context, r *graph.Reader, p Plan, e *Evidence) error {
	q, candidates, scored, err := searchText(ctx, a.cfg.Index, r, p.Search, nil)
	if err != nil {
		return err
	}
	e.Unmatched = unmatched(q, candidates)
	type found struct {
		score float64
		top   rank.Scored
	}
	docs := map[graph.RecordID]*found{}
	var order []graph.RecordID
	for _, s := range scored {
		id := candidates[s.Index].passage.Record.ID
		score := s.Features.Topic()
		d := docs[id]
		if d == nil {
			d = &found{score: score, top: s}
			docs[id] = d
			order = append(order, id)
		}
		if score > d.score {
			d.score, d.top = score, s
		}
	}
	slices.SortStableFunc(order, func(a, b graph.RecordID) int { // ties too have one order, so that every node answers alike
		return cmp.Or(cmp.Compare(docs[b].score, docs[a].score), cmp.Compare(a.Source, b.Source), cmp.Compare(a.Stream, b.Stream), cmp.Compare(a.Native, b.Native))
	})
	for _, id := range order[:min(len(order), maxHits)] {
		d := docs[id]
		c := candidates[d.top.Index]
		e.Hits = append(e.Hits, Hit{Quote: c.quote(), Head: c.sentence.Head, Above: c.above(), Score: d.score, Sure: d.score, Verdict: outcomeOf(rank.JudgeTopic(d.top))})
	}
	return nil
}
