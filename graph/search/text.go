package search

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"

	"github.com/blevesearch/bleve/v2"
	"github.com/blevesearch/bleve/v2/search/query"

	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/search/lex"
	"github.com/cloister-os/cloister/store"
)

// Bounds of a query.
const (
	MaxTerms    = 256
	MaxPassages = 64
	maxCommits  = 2000
	maxScanned  = 2000 // documents read for a version older than the index remembers
	overfetch   = 2    // hits asked for, per hit wanted: some fail the check against the store
	fuse        = 60.0 // constant of reciprocal rank fusion
)

// Term is a stem to look for. Boost is relative to 1.
type Term struct {
	Stem  string
	Boost float64
}

// Query asks for passages.
type Query struct {
	Text  string // as asked; embedded when there is an embedder
	Terms []Term
}

// Sentence is one sentence of a passage.
type Sentence struct {
	Start    int // byte range in the document's extracted text
	End      int
	Text     string
	Cosine   float64 // with the question
	Embedded bool    // whether Cosine is known
}

// Passage is a part of a document that was found.
type Passage struct {
	Record    graph.Record
	Number    int // of the passage in the document
	Path      []string
	Anchor    string
	Heading   graph.Span // of the innermost heading in the text; zero = none
	Title     graph.Span // of the document's title in the text; zero = it is not there
	Sentences []Sentence
	Before    string // the sentence before the first one, in the same section
	Score     float64
}

// place names a passage before it is read.
type place struct {
	source string
	native string
	hash   string
	number int
}

// Passages returns the k passages that answer the query best by text and, where
// there are vectors, by meaning, best first.
func (x *Index) Passages(ctx context.Context, r *graph.Reader, q Query, k int) ([]Passage, error) {
	k = min(k, MaxPassages)
	q.Terms = q.Terms[:min(len(q.Terms), MaxTerms)]
	parts := x.readable(r.Access())
	asked := x.embedQuestion(ctx, parts, q.Text)
	scores := map[place]float64{}
	add := func(list []scoredPlace) {
		sort.SliceStable(list, func(i, j int) bool { return list[i].better(list[j]) })
		for i, s := range list {
			scores[s.place] += 1 / (fuse + float64(i+1))
		}
	}
	var byText, byMeaning, byPast []scoredPlace
	for _, p := range parts {
		hits, err := p.bm25(ctx, q.Terms, overfetch*k)
		if err != nil {
			return nil, fmt.Errorf("search text: %w", err)
		}
		byText = append(byText, hits...)
		past, err := p.past(r, q.Terms, k)
		if err != nil {
			return nil, fmt.Errorf("search the past: %w", err)
		}
		byPast = append(byPast, past...)
		byMeaning = append(byMeaning, p.nearest(r, asked, overfetch*k)...)
	}
	add(byText)
	add(byMeaning)
	add(byPast)
	return x.read(r, scores, asked, k)
}

type scoredPlace struct {
	place
	score float64
}

func (s scoredPlace) better(o scoredPlace) bool {
	if s.score != o.score {
		return s.score > o.score
	}
	if s.source != o.source {
		return s.source < o.source
	}
	if s.native != o.native {
		return s.native < o.native
	}
	return s.number < o.number
}

// headBoost is what a word in the headings counts, beside one in the text.
const headBoost = 0.6

func (p *partition) bm25(ctx context.Context, terms []Term, k int) ([]scoredPlace, error) {
	if len(terms) == 0 {
		return nil, nil
	}
	q := bleve.NewDisjunctionQuery()
	for _, t := range terms {
		q.AddQuery(termQuery(fieldText, t.Stem, t.Boost), termQuery(fieldHead, t.Stem, t.Boost*headBoost))
	}
	res, err := p.text.SearchInContext(ctx, bleve.NewSearchRequestOptions(q, k, 0, false))
	if err != nil {
		return nil, err
	}
	var out []scoredPlace
	for _, h := range res.Hits {
		if pl, ok := p.parsePlace(h.ID); ok {
			out = append(out, scoredPlace{pl, h.Score})
		}
	}
	return out, nil
}

func termQuery(field, stem string, boost float64) query.Query {
	q := bleve.NewTermQuery(stem)
	q.SetField(field)
	q.SetBoost(boost)
	return q
}

func (p *partition) parsePlace(id string) (place, bool) {
	parts := strings.Split(id, "\x00")
	if len(parts) != 4 || parts[0] != kindPassage {
		return place{}, false
	}
	n, err := strconv.Atoi(parts[3])
	return place{p.source, parts[1], parts[2], n}, err == nil
}

// past finds passages of documents that the reader's version still has and the
// index no longer: those that changed or went since.
func (p *partition) past(r *graph.Reader, terms []Term, k int) ([]scoredPlace, error) {
	natives, err := p.goneSince(r)
	if err != nil {
		return nil, err
	}
	var out []scoredPlace
	for native := range natives {
		found, err := p.scanDocument(r, native, terms)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].better(out[j]) })
	return out[:min(len(out), k)], nil
}

// goneSince lists the documents replaced after the reader's version. When that
// is older than what is remembered, it is the documents that the source had.
func (p *partition) goneSince(r *graph.Reader) (map[string]bool, error) {
	p.mu.RLock()
	floor, out := p.floor, map[string]bool{}
	for i := len(p.replaced) - 1; i >= 0 && p.replaced[i].version > r.Version(); i-- {
		out[p.replaced[i].native] = true
	}
	p.mu.RUnlock()
	if r.Version() >= floor {
		return out, nil
	}
	for rec, err := range r.Records(p.source, graph.StreamDocument) {
		if err != nil {
			return nil, err
		}
		if out[rec.ID.Native] = true; len(out) == maxScanned {
			break
		}
	}
	return out, nil
}

func (p *partition) scanDocument(r *graph.Reader, native string, terms []Term) ([]scoredPlace, error) {
	d, err := readDocument(r, graph.RecordID{Source: p.source, Stream: graph.StreamDocument, Native: native})
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	weights := map[string]float64{}
	for _, t := range terms {
		weights[t.Stem] = t.Boost
	}
	var out []scoredPlace
	for i, b := range d.blocks {
		var score float64
		seen := map[string]bool{}
		for _, stem := range lex.Stems(d.blockText(b) + " " + d.head(b)) {
			if !seen[stem] {
				seen[stem] = true
				score += weights[stem]
			}
		}
		if score > 0 {
			out = append(out, scoredPlace{place{p.source, native, textHash(d.record), i}, score})
		}
	}
	return out, nil
}

// read checks the places against the store and reads the best k of them.
func (x *Index) read(r *graph.Reader, scores map[place]float64, asked question, k int) ([]Passage, error) {
	places := make([]scoredPlace, 0, len(scores))
	for pl, s := range scores {
		places = append(places, scoredPlace{pl, s})
	}
	sort.Slice(places, func(i, j int) bool { return places[i].better(places[j]) })
	docs := map[graph.RecordID]*document{}
	var out []Passage
	for _, pl := range places {
		if len(out) == k {
			break
		}
		id := graph.RecordID{Source: pl.source, Stream: graph.StreamDocument, Native: pl.native}
		d, ok := docs[id]
		if !ok {
			var err error
			if d, err = readDocument(r, id); err != nil && !errors.Is(err, store.ErrNotFound) {
				return nil, err
			}
			docs[id] = d
		}
		if d == nil || textHash(d.record) != pl.hash || pl.number >= len(d.blocks) {
			continue
		}
		passage := d.passage(pl.number)
		passage.Score = pl.score
		x.addCosines(&passage, d.blocks[pl.number].Before, asked)
		out = append(out, passage)
	}
	return out, nil
}

// Counts is how often stems occur in the passages that may be read.
type Counts struct {
	Passages int
	Holding  map[string]int
}

// Count counts the passages that hold each stem, in their text or headings.
func (x *Index) Count(ctx context.Context, r *graph.Reader, stems []string) (Counts, error) {
	c := Counts{Holding: map[string]int{}}
	for _, p := range x.readable(r.Access()) {
		if err := p.count(ctx, stems, &c); err != nil {
			return Counts{}, fmt.Errorf("count words: %w", err)
		}
	}
	return c, nil
}

func (p *partition) count(ctx context.Context, stems []string, c *Counts) error {
	low, err := p.text.Advanced()
	if err != nil {
		return err
	}
	reader, err := low.Reader()
	if err != nil {
		return err
	}
	defer reader.Close()
	holding := func(field, term string) (int, error) {
		tfr, err := reader.TermFieldReader(ctx, []byte(term), field, false, false, false)
		if err != nil {
			return 0, err
		}
		defer tfr.Close()
		return int(tfr.Count()), nil
	}
	n, err := holding(fieldKind, kindPassage)
	if err != nil {
		return err
	}
	c.Passages += n
	for _, s := range stems {
		inText, err := holding(fieldText, s)
		if err != nil {
			return err
		}
		inHead, err := holding(fieldHead, s)
		if err != nil {
			return err
		}
		c.Holding[s] += max(inText, inHead)
	}
	return nil
}

// Commits returns the records of the commits whose message holds, for each
// group of stems, one of the group; at most 2,000.
func (x *Index) Commits(ctx context.Context, r *graph.Reader, groups [][]string) ([]graph.RecordID, error) {
	if len(groups) == 0 {
		return nil, nil
	}
	q := bleve.NewConjunctionQuery()
	for _, g := range groups {
		any := bleve.NewDisjunctionQuery()
		for _, stem := range g {
			any.AddQuery(termQuery(fieldMsg, stem, 1))
		}
		q.AddQuery(any)
	}
	var out []graph.RecordID
	for _, p := range x.readable(r.Access()) {
		res, err := p.text.SearchInContext(ctx, bleve.NewSearchRequestOptions(q, maxCommits, 0, false))
		if err != nil {
			return nil, fmt.Errorf("search commits: %w", err)
		}
		for _, h := range res.Hits {
			if native, ok := strings.CutPrefix(h.ID, kindCommit+"\x00"); ok {
				out = append(out, graph.RecordID{Source: p.source, Stream: graph.StreamCommit, Native: native})
			}
		}
	}
	return out, nil
}
