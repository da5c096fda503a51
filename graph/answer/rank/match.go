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
	texts map[string]text            // cache: what has been read; neighbours share much
}

func newMatcher(q Question, stats Statistics) *matcher {
	return &matcher{q: q, stats: stats, like: map[string]map[int]float64{}, texts: map[string]text{}}
}

// text is what a text holds of the question.
type text struct {
	tokens  []lex.Token
	matched []float64 // for each term, how well it is matched
}

func (m *matcher) read(s string) text {
	if t, ok := m.texts[s]; ok {
		return t
	}
	t := text{tokens: lex.Tokens(s), matched: make([]float64, len(m.q.Terms))}
	for _, tok := range t.tokens {
		for i, w := range m.standsFor(tok.Stem) {
			t.matched[i] = math.Max(t.matched[i], w)
		}
	}
	m.texts[s] = t
	return t
}

// standsFor returns the terms that a stem matches, and how well.
func (m *matcher) standsFor(stem string) map[int]float64 {
	if known, ok := m.like[stem]; ok {
		return known
	}
	var out map[int]float64
	for i, t := range m.q.Terms {
		w := Likeness(t.Stem, stem)
		if w == 1 {
			out = map[int]float64{i: 1} // a word of the question stands for itself alone
			break
		}
		if w > 0 {
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

// coverRest is the share matched of the weight that the headings do not hold: of
// what is asked about the thing that they name.
func (m *matcher) coverRest(matched, head []float64) float64 {
	var sum, all float64
	for i, t := range m.q.Terms {
		if head[i] < nearWeight {
			sum += t.Weight * matched[i]
			all += t.Weight
		}
	}
	if all == 0 {
		return 1
	}
	return sum / all
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

// rough is how promising a candidate is, found at little cost.
func (m *matcher) rough(s Sentence) float64 {
	own, head := m.read(s.Text), m.read(s.Head)
	withHead := join(own.matched, head.matched, 1)
	near := join(withHead, m.read(s.Before).matched, 0.8)
	whole := join(withHead, m.read(s.Passage).matched, 1)
	return m.cover(own.matched) + m.cover(near) + 0.5*m.cover(whole) + s.Cosine
}

func (m *matcher) features(s Sentence) Features {
	own, before := m.read(s.Text), m.read(s.Before)
	head, passage := m.read(s.Head), m.read(s.Passage)
	kind := m.kind(s.Text)
	matched := m.credit(kind, own.matched)
	withHead := join(matched, head.matched, 1)
	near := join(withHead, before.matched, 0.8)
	whole := join(withHead, passage.matched, 1)
	f := Features{
		Sentence: m.cover(matched),
		Head:     m.cover(withHead),
		Near:     m.cover(near),
		Passage:  m.cover(whole),
		Rest:     m.coverRest(matched, head.matched),
		Title:    m.cover(head.matched),
		Missing:  m.rarestMissing(withHead),
		Nowhere:  m.rarestMissing(whole),
		Bigrams:  m.bigrams(own.tokens, head.tokens),
		Focus:    m.focus(own),
		Kind:     kind,
		Length:   math.Log(1 + float64(len(own.tokens))),
		Embedded: s.Embedded,
	}
	if s.Embedded {
		f.Cosine, f.Nearby = s.Cosine, s.Nearby
	}
	f.Exact = m.exactIn(own.tokens, head.tokens, passage.tokens)
	return f
}

// kindCredit is how well a span of the asked kind stands for the words that said
// which kind is asked.
const kindCredit = 0.9

// credit counts the words that say what kind of thing is asked as matched where
// such a thing is.
func (m *matcher) credit(kind float64, matched []float64) []float64 {
	if kind < 1 {
		return matched
	}
	out := append([]float64(nil), matched...)
	for i, t := range m.q.Terms {
		if t.Puts {
			out[i] = math.Max(out[i], kindCredit)
		}
	}
	return out
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

// Shares of a kind that is not quite the one asked for.
const (
	kindClose   = 0.6 // it could stand for it
	kindElse    = 0.4 // a number, but not of what is counted
	countedNext = 3   // words after a number in which the counted noun is looked for
)

// kind is 1 when the sentence holds a span of the asked kind that is not in the
// question, less when it holds one that could stand for it, 0 when it holds
// none, and one half when nothing special is asked.
func (m *matcher) kind(sentence string) float64 {
	if m.q.Asked == typed.Any {
		return 0.5
	}
	found := Candidates(m.q, sentence)
	switch {
	case len(found) == 0:
		return 0
	case m.q.counted != "":
		for _, s := range found {
			if counts(m.q.counted, sentence, s) {
				return 1
			}
		}
		return kindElse
	case found[0].Kind == m.q.Asked, m.q.Asked == typed.Place:
		return 1
	}
	return kindClose
}

// counts reports whether a span counts the noun: it stands in it or right after.
func counts(noun, sentence string, s typed.Span) bool {
	for i, t := range lex.Tokens(sentence[s.Start:]) {
		if t.Start >= s.End-s.Start {
			i -= len(lex.Tokens(sentence[s.Start:s.End]))
			if i >= countedNext {
				return false
			}
		}
		if Likeness(noun, t.Stem) > 0 {
			return true
		}
	}
	return false
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

// name fills in which share of the question's names a candidate has, and how far
// its headings are behind the best. A name here is two words of the question
// that stand side by side in some candidate: what another thing's fact lacks.
func (m *matcher) name(scored []Scored, candidates []Sentence) {
	has := make([]map[[2]string]bool, len(scored))
	attested := map[[2]string]bool{}
	var title float64
	for i, s := range scored {
		c := candidates[s.Index]
		has[i] = m.pairs(c.Text, c.Head, c.Before)
		for p := range has[i] {
			attested[p] = true
		}
		title = math.Max(title, s.Features.Title)
	}
	for i := range scored {
		f := &scored[i].Features
		f.Untitled = title - f.Title
		f.Named = 1
		if len(attested) > 0 {
			f.Named = float64(len(has[i])) / float64(len(attested))
		}
	}
}

// pairs returns the question's word pairs that stand side by side in the texts.
func (m *matcher) pairs(texts ...string) map[[2]string]bool {
	out := map[[2]string]bool{}
	for _, s := range texts {
		tokens := m.read(s).tokens
		for i := 1; i < len(tokens); i++ {
			p := [2]string{tokens[i-1].Stem, tokens[i].Stem}
			for _, b := range m.q.bigrams {
				if b == p {
					out[p] = true
				}
			}
		}
	}
	return out
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
