// Package rank orders sentences by how well they answer a question.
//
// It promises: the order depends on nothing but the question, the candidates and
// the word statistics given, so the same inputs rank alike on every node; it
// works with and without vectors, each with its own fitted coefficients. It may
// import graph/search/lex and graph/answer/typed.
package rank

import (
	"math"
	"sort"

	"github.com/cloister-os/cloister/graph/answer/typed"
	"github.com/cloister-os/cloister/graph/search/lex"
)

// Bounds of one ranking.
const (
	MaxTerms      = 48  // of a question; the rarest are kept
	MaxCandidates = 400 // sentences scored cheaply
	MaxRanked     = 40  // sentences scored fully
)

// Statistics is how often stems occur in what the caller may read.
type Statistics struct {
	Passages int
	Holding  map[string]int // passages that hold the stem
}

// IDF is the weight of a stem: rare ones weigh more, and one that occurs
// nowhere weighs most.
func (s Statistics) IDF(stem string) float64 {
	n, df := float64(s.Passages), float64(s.Holding[stem])
	return math.Log(1 + (math.Max(n-df, 0)+0.5)/(df+0.5))
}

// Term is a word of the question that carries content.
type Term struct {
	Text   string
	Stem   string
	Weight float64

	Framing bool // it belongs to the way the question is put
	Puts    bool // it says what kind of thing is asked for
}

// Question is a question prepared for ranking.
type Question struct {
	Terms   []Term
	Asked   typed.Kind
	Exact   []string // numbers and identifiers of the question, folded: evidence must hold them
	counted string   // "how many <counted>", its stem
	total   float64
	bigrams [][2]string
}

// NewQuestion prepares a question.
func NewQuestion(text string, stats Statistics) Question {
	q := Question{Asked: typed.Asked(text), counted: countedNoun(text)}
	seen := map[string]bool{}
	var before string
	for _, t := range lex.Tokens(text) {
		if lex.IsStop(t.Text) {
			before = ""
			continue
		}
		if before != "" {
			q.bigrams = append(q.bigrams, [2]string{before, t.Stem})
		}
		before = t.Stem
		if seen[t.Stem] {
			continue
		}
		seen[t.Stem] = true
		weight := stats.IDF(t.Stem)
		if framing[t.Stem] {
			weight *= framingWeight
		}
		puts := typed.Puts(q.Asked, t.Text)
		q.Terms = append(q.Terms, Term{t.Text, t.Stem, weight, framing[t.Stem], puts})
		if exact(t.Text) {
			q.Exact = append(q.Exact, t.Text)
		}
	}
	if len(q.Terms) > MaxTerms {
		sort.SliceStable(q.Terms, func(i, j int) bool { return q.Terms[i].Weight > q.Terms[j].Weight })
		q.Terms = q.Terms[:MaxTerms]
	}
	for _, t := range q.Terms {
		q.total += t.Weight
	}
	return q
}

// countedNoun is the stem of what "how many" asks the number of.
func countedNoun(text string) string {
	tokens := lex.Tokens(text)
	for i := 0; i+2 < len(tokens); i++ {
		if tokens[i].Text == "how" && tokens[i+1].Text == "many" && !lex.IsStop(tokens[i+2].Text) {
			return tokens[i+2].Stem
		}
		if tokens[i].Text == "number" && tokens[i+1].Text == "of" && !lex.IsStop(tokens[i+2].Text) {
			return tokens[i+2].Stem
		}
	}
	return ""
}

// framing words belong to the way a question is put more than to what is asked.
var framing = map[string]bool{
	"name": true, "kind": true, "type": true, "thing": true, "call": true, "mani": true,
	"long": true, "often": true, "year": true, "number": true, "amount": true, "happen": true,
	"document": true, "text": true, "sourc": true, "sentenc": true, "state": true,
	"mention": true, "find": true, "use": true, "valu": true, "set": true, "current": true,
	"exact": true, "accord": true, "date": true, "person": true, "time": true, "look": true,
}

const framingWeight = 0.4

// exact reports whether a word has digits, so that another word cannot mean it.
func exact(word string) bool {
	for i := range len(word) {
		if word[i] >= '0' && word[i] <= '9' {
			return true
		}
	}
	return false
}

// Sentence is a candidate with what stands around it.
type Sentence struct {
	Text     string
	Before   string // the sentence before it in the same passage, or ""
	After    string
	Head     string // title and headings above it
	Passage  string // the whole passage, the sentence included
	Cosine   float64
	Nearby   float64 // cosine of the sentence before
	Embedded bool    // whether Cosine and Nearby are known
}

// Scored is a candidate with its score.
type Scored struct {
	Index    int // in the candidates given
	Score    float64
	Features Features
}

// Rank scores the candidates and returns at most MaxRanked, best first. Equal
// ones keep their order.
func Rank(q Question, candidates []Sentence, stats Statistics) []Scored {
	if len(candidates) > MaxCandidates {
		candidates = candidates[:MaxCandidates]
	}
	m := newMatcher(q, stats)
	chosen := m.promising(candidates)
	out := make([]Scored, len(chosen))
	for i, n := range chosen {
		out[i] = Scored{Index: n, Features: m.features(candidates[n])}
	}
	m.name(out, candidates)
	relate(out)
	for i := range out {
		out[i].Score = out[i].Features.score()
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].Score > out[j].Score })
	return out
}

// promising returns the indexes of the MaxRanked most promising candidates.
func (m *matcher) promising(candidates []Sentence) []int {
	rough := make([]float64, len(candidates))
	order := make([]int, len(candidates))
	for i, c := range candidates {
		rough[i], order[i] = m.rough(c), i
	}
	sort.SliceStable(order, func(i, j int) bool { return rough[order[i]] > rough[order[j]] })
	return order[:min(len(order), MaxRanked)]
}
