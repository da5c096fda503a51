package rank

import (
	"math"
	"strings"

	"github.com/cloister-os/cloister/graph/answer/typed"
	"github.com/cloister-os/cloister/graph/search/lex"
)

// How much a word that is not the question's own counts for it.
const (
	nearWeight    = 0.9 // one letter differs, in words of six letters or more
	stemWeight    = 0.7 // a long common beginning: "interception", "interceptor"
	relatedWeight = 0.6 // related by the word families of related.go
	minNear       = 6
	minCommon     = 5
)

// matcher compares one question with many texts.
type matcher struct {
	q     Question
	stats Statistics
	like  map[string]map[int]float64 // cache: how well a stem stands for each term
}

func newMatcher(q Question, stats Statistics) *matcher {
	return &matcher{q: q, stats: stats, like: map[string]map[int]float64{}}
}

// text is what a text holds of the question.
type text struct {
	tokens  []lex.Token
	matched []float64 // for each term, how well it is matched
}

func (m *matcher) read(s string) text {
	t := text{tokens: lex.Tokens(s), matched: make([]float64, len(m.q.Terms))}
	for _, tok := range t.tokens {
		for i, w := range m.standsFor(tok.Stem) {
			t.matched[i] = math.Max(t.matched[i], w)
		}
	}
	return t
}

// standsFor returns the terms that a stem matches, and how well.
func (m *matcher) standsFor(stem string) map[int]float64 {
	if known, ok := m.like[stem]; ok {
		return known
	}
	var out map[int]float64
	for i, t := range m.q.Terms {
		if w := Likeness(t.Stem, stem); w > 0 {
			if out == nil {
				out = map[int]float64{}
			}
			out[i] = w
		}
	}
	m.like[stem] = out
	return out
}

// Likeness is how well one stem stands for another: 1 = the same, 0 = not at all.
func Likeness(a, b string) float64 {
	if a == b {
		return 1
	}
	if exact(a) || exact(b) {
		return 0
	}
	if related(a, b) {
		return relatedWeight
	}
	if len(a) >= minNear && len(b) >= minNear && lex.Near(a, b) {
		return nearWeight
	}
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	if n >= minCommon && n*4 >= 3*min(len(a), len(b)) && n*10 >= 6*max(len(a), len(b)) {
		return stemWeight
	}
	return 0
}

// cover is the share of the question's weight that is matched.
func (m *matcher) cover(matched []float64) float64 {
	if m.q.total == 0 {
		return 0
	}
	var sum float64
	for i, t := range m.q.Terms {
		sum += t.Weight * matched[i]
	}
	return sum / m.q.total
}

// rarestMissing is the largest weight of an unmatched term, as a share of the
// largest weight of all.
func (m *matcher) rarestMissing(matched []float64) float64 {
	var missing, largest float64
	for i, t := range m.q.Terms {
		largest = math.Max(largest, t.Weight)
		missing = math.Max(missing, t.Weight*(1-matched[i]))
	}
	if largest == 0 {
		return 1
	}
	return missing / largest
}

// join adds what another text matches, discounted.
func join(matched, other []float64, factor float64) []float64 {
	out := make([]float64, len(matched))
	for i := range out {
		out[i] = math.Max(matched[i], other[i]*factor)
	}
	return out
}

func (m *matcher) features(s Sentence) Features {
	own, before := m.read(s.Text), m.read(s.Before)
	head, passage := m.read(s.Head), m.read(s.Passage)
	withHead := join(own.matched, head.matched, 1)
	near := join(withHead, before.matched, 0.8)
	whole := join(withHead, passage.matched, 1)
	f := Features{
		Sentence: m.cover(own.matched),
		Head:     m.cover(withHead),
		Near:     m.cover(near),
		Passage:  m.cover(whole),
		Title:    m.cover(head.matched),
		Missing:  m.rarestMissing(withHead),
		Nowhere:  m.rarestMissing(whole),
		Bigrams:  m.bigrams(own.tokens, head.tokens),
		Focus:    m.focus(own),
		Kind:     m.kind(s.Text),
		Length:   math.Log(1 + float64(len(own.tokens))),
		Embedded: s.Embedded,
	}
	if s.Embedded {
		f.Cosine, f.Nearby = s.Cosine, s.Nearby
	}
	f.Exact = m.exactIn(own.tokens, head.tokens, passage.tokens)
	return f
}

// focus is the matched weight as a share of all the weight in the sentence: a
// sentence about nothing else is a better one.
func (m *matcher) focus(t text) float64 {
	var on, all float64
	for _, tok := range t.tokens {
		if lex.IsStop(tok.Text) {
			continue
		}
		w := m.stats.IDF(tok.Stem)
		all += w
		var best float64
		for _, like := range m.standsFor(tok.Stem) {
			best = math.Max(best, like)
		}
		on += w * best
	}
	if all == 0 {
		return 0
	}
	return math.Min(on/all, 1)
}

// bigrams is the share of the question's word pairs that stand side by side.
func (m *matcher) bigrams(texts ...[]lex.Token) float64 {
	if len(m.q.bigrams) == 0 {
		return 0
	}
	pairs := map[[2]string]bool{}
	for _, tokens := range texts {
		for i := 1; i < len(tokens); i++ {
			pairs[[2]string{tokens[i-1].Stem, tokens[i].Stem}] = true
		}
	}
	n := 0
	for _, b := range m.q.bigrams {
		if pairs[b] {
			n++
		}
	}
	return float64(n) / float64(len(m.q.bigrams))
}

// kind is 1 when the sentence holds a span of the asked kind that is not in the
// question, 0 when not, and one half when nothing special is asked.
func (m *matcher) kind(sentence string) float64 {
	if m.q.Asked == typed.Any {
		return 0.5
	}
	if len(Candidates(m.q, sentence)) > 0 {
		return 1
	}
	return 0
}

// Candidates are the spans of a sentence that are of the kind asked for and are
// not the question's own words.
func Candidates(q Question, sentence string) []typed.Span {
	if q.Asked == typed.Any {
		return nil
	}
	own := map[string]bool{}
	for _, t := range q.Terms {
		own[t.Stem] = true
	}
	var exactly, close []typed.Span
	for _, s := range typed.Spans(sentence) {
		if !typed.Accepts(q.Asked, s.Kind) || onlyOwn(own, sentence[s.Start:s.End]) {
			continue
		}
		if s.Kind == q.Asked {
			exactly = append(exactly, s)
		} else {
			close = append(close, s)
		}
	}
	if len(exactly) > 0 {
		return exactly
	}
	return close
}

func onlyOwn(own map[string]bool, span string) bool {
	for _, t := range lex.Tokens(span) {
		if !own[t.Stem] && !lex.IsStop(t.Text) {
			return false
		}
	}
	return true
}

// exactIn reports whether every number and identifier of the question is held.
func (m *matcher) exactIn(texts ...[]lex.Token) bool {
	for _, want := range m.q.Exact {
		found := false
		for _, tokens := range texts {
			for _, t := range tokens {
				if t.Text == want || strings.TrimLeft(t.Text, "v") == strings.TrimLeft(want, "v") {
					found = true
				}
			}
		}
		if !found {
			return false
		}
	}
	return true
}

// Unmatched returns the question's words that no candidate text holds.
func Unmatched(q Question, candidates []Sentence) []string {
	m := newMatcher(q, Statistics{})
	best := make([]float64, len(q.Terms))
	for _, c := range candidates {
		best = join(best, m.read(c.Passage).matched, 1)
		best = join(best, m.read(c.Head).matched, 1)
	}
	var out []string
	for i, t := range q.Terms {
		if best[i] == 0 {
			out = append(out, t.Text)
		}
	}
	return out
}
