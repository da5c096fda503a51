package speech

import (
	"math"
	"regexp"
	"slices"
	"strings"

	"github.com/cloister-os/cloister/graph/answer/rank"
	"github.com/cloister-os/cloister/graph/answer/typed"
	"github.com/cloister-os/cloister/graph/search/lex"
)

// What a match must reach. The numbers were set on the development half of the
// measurement in measure_test.go, and hold on the other half.
const (
	minQuestion  = 0.62 // of the question's weight that the statement holds
	minAttribute = 0.51 // of the statement's weight that the question names
	minScore     = 0.62 // of both together
	nearTop      = 0.1  // a second statement must come so near to the first
	maxMatches   = 3
)

// Match is a statement that a question is about.
type Match struct {
	Index int     // in the list that was given
	Score float64 // 0 to 1
}

// Question is a question made ready to be compared with statements.
type Question struct {
	terms []term
	asked typed.Kind
	total float64
}

// Prepare makes a question ready.
func Prepare(text string) Question {
	text = joined(text)
	q := Question{terms: terms(text, true), asked: typed.Asked(text)}
	kind := asksWhich(text)
	for i := range q.terms {
		t := &q.terms[i]
		switch {
		case kinds[t.text] || typed.Puts(q.asked, t.text):
			t.weight, t.light, t.kind = lightWeight, true, true
		case t.stem == kind && !t.light:
			t.weight = kindWeight
		}
		q.total += t.weight
	}
	return q
}

// asksWhich is the stem of what "which" or "what" asks for one of: it need not
// stand in the statement, for "Postgres" says that it is a database.
func asksWhich(text string) string {
	tokens := lex.Tokens(text)
	for i, t := range tokens[:max(0, len(tokens)-1)] {
		if t.Text == "which" || t.Text == "what" {
			if next := tokens[i+1]; !lex.IsStop(next.Text) {
				return next.Stem
			}
		}
	}
	return ""
}

// Find returns the statements that the question is about, the best first; none
// when it is about none. At most three come close enough to the best.
func (q Question) Find(statements []Statement) []Match {
	var out []Match
	for i, s := range statements {
		if score := q.score(s); score >= minScore {
			out = append(out, Match{i, score})
		}
	}
	slices.SortStableFunc(out, func(a, b Match) int {
		switch {
		case a.Score > b.Score:
			return -1
		case a.Score < b.Score:
			return 1
		}
		return 0
	})
	for i := range out {
		if i == maxMatches || out[i].Score < out[0].Score-nearTop {
			return out[:i]
		}
	}
	return out
}

// score is how much a question is about a statement.
func (q Question) score(s Statement) float64 {
	if q.total == 0 {
		return 0
	}
	about, said := s.parts()
	if !q.touches(about) && !q.touches(said) {
		return 0
	}
	fits := q.fits(s)
	if fits < 0 && !q.namesKind(about) {
		return 0
	}
	var held float64 // of the question's weight
	for _, t := range q.terms {
		w := math.Max(best(t, about), best(t, said))
		if t.kind && fits > 0 {
			w = 1 // a day was asked for, and one is told
		}
		held += t.weight * w
	}
	held /= q.total
	var named, all float64 // of the statement's weight
	for _, t := range about {
		w := best(t, q.terms)
		if fits > 0 && t.light && q.asked != typed.Any {
			w = 1 // "when" asks for the day
		}
		named += t.weight * w
		all += t.weight
	}
	if all == 0 {
		return 0
	}
	named /= all
	if held < minQuestion || named < minAttribute {
		return 0
	}
	return math.Min(1, 0.55*held+0.4*named+0.05*math.Max(0, float64(fits)))
}

// touches reports whether a word that tells something stands in the list, in
// whatever form.
func (q Question) touches(list []term) bool {
	return slices.ContainsFunc(q.terms, func(t term) bool { return best(t, list) > 0 })
}

// namesKind reports whether the statement itself says that it tells the kind of
// thing that is asked for: "our release day is after the review".
func (q Question) namesKind(about []term) bool {
	return slices.ContainsFunc(q.terms, func(t term) bool { return t.kind && best(t, about) == 1 })
}

// fits is 1 when the statement says a thing of the kind that is asked for, 0 when
// that cannot be told, -1 when it surely does not.
func (q Question) fits(s Statement) int {
	if q.asked == typed.Any {
		return 0
	}
	spans := typed.Spans(s.Value)
	for _, sp := range spans {
		if typed.Accepts(q.asked, sp.Kind) {
			return 1
		}
	}
	if _, _, ok := times(s.Words); ok && q.asked == typed.Date {
		return 1
	}
	switch q.asked {
	case typed.Duration:
		if len(spans) == 2 && spans[0].Kind == typed.Date && spans[1].Kind == typed.Date {
			return 1 // "02:00 to 04:00"
		}
		return -1
	case typed.Date, typed.Money, typed.Percent:
		return -1
	case typed.Number, typed.Size:
		if len(spans) == 0 {
			return -1
		}
	}
	return 0
}

// parts are the words that a statement is about and those that say what of it.
func (s Statement) parts() (about, said []term) {
	if s.Attribute == "" {
		return terms(s.Words, false), nil
	}
	about, said = terms(s.Attribute, false), terms(s.Value, false)
	if heavy(about) {
		return about, said
	}
	return append(about, said...), said // "we use Postgres for billing": the object tells it apart
}

// heavy reports whether a word tells the thing apart from others.
func heavy(list []term) bool {
	return slices.ContainsFunc(list, func(t term) bool { return !t.light })
}

// term is a word that carries content.
type term struct {
	text, stem string
	weight     float64
	light      bool // it says little by itself
	kind       bool // of a question: it says what kind of thing is asked for, and no more
}

// How much a word weighs that says little, and one that says what kind of thing is
// asked for.
const (
	lightWeight = 0.3
	kindWeight  = 0.5
)

// kinds are words of a question that only say what kind of thing is asked for.
var kinds = words(`address url link company firm city town country place hour hours minutes number name date day year month weekday time
	big large much many long often far high exactly kind sort type`)

func terms(text string, question bool) []term {
	var out []term
	seen := map[string]bool{}
	for _, t := range lex.Tokens(joined(text)) {
		if lex.IsStop(t.Text) || seen[t.Stem] || question && frame[t.Text] {
			continue
		}
		seen[t.Stem] = true
		n := term{text: t.Text, stem: t.Stem, weight: 1}
		if light[t.Stem] {
			n.weight, n.light = lightWeight, true
		}
		out = append(out, n)
	}
	return out
}

// best is how well one of the list stands for the term.
func best(t term, list []term) float64 {
	out := 0.0
	for _, o := range list {
		out = math.Max(out, like(t, o))
	}
	return out
}

func like(a, b term) float64 {
	switch {
	case a.stem == b.stem:
		return 1
	case synonym(a.stem, b.stem):
		return 0.9
	}
	w := rank.Likeness(a.stem, b.stem)
	if w > 0.8 && min(len(a.stem), len(b.stem)) < minMistyped {
		return 0 // "commit" is not "commute" mistyped
	}
	return w
}

const minMistyped = 9 // letters of words that may differ by one

// joined writes as one word what is one thing in two.
func joined(text string) string {
	return together.ReplaceAllStringFunc(text, func(s string) string {
		return strings.NewReplacer(" ", "", "-", "").Replace(s)
	})
}

var together = regexp.MustCompile(`(?i)\b(?:on[- ]call|stand[- ]up|time[- ]?zone|data[- ]?cent(?:re|er)|data[- ]?base|road[- ]?map|home[- ]office|off[- ]?site|mail[- ]box|code[- ]?name|user[- ]?name|host[- ]?name|e-mail|wi-fi)\b`)

// frame are the words by which a question about something told is put.
var frame = words(`remember recall remind again told tell mentioned mention know think believe please quickly actually exactly precisely
	currently now today's wonder ask supposed usually normally typically generally already anyway hey hi hello forgot forget
	forgotten right mine me best out up ok okay thanks sorry`)

var light = stemmed(`day time date name thing kind type number value current currently now usual usually normally call called use used using
	have get is be do go set new main one go-to people person stuff item exact particular weekday scheduled happen happens take place
	work run like make keep start week today thing`)

func stemmed(list string) map[string]bool {
	out := map[string]bool{}
	for _, s := range lex.Stems(list) {
		out[s] = true
	}
	return out
}

// kin are words that people use for one another when they tell of themselves and
// their work. They are general usage, and closer kin than those of package rank.
var kin = []string{
	"release ship launch rollout deploy deployment shipping golive publish",
	"host server machine box hostname node",
	"boss manager supervisor lead leader head",
	"team squad crew group",
	"staging stage preprod preproduction",
	"production prod live",
	"database db datastore",
	"repository repo",
	"oncall pager duty rota pagerduty standby",
	"meet meeting sync standup gather",
	"desk seat sit workplace workspace",
	"favourite favorite prefer preferred preference like love",
	"live home reside residence based",
	"holiday vacation leave away absent off pto",
	"deadline due",
	"partner wife husband spouse",
	"kid child children son daughter",
	"editor ide",
	"laptop computer notebook",
	"phone telephone mobile extension",
	"mail email mailbox",
	"chat messenger channel",
	"customer client account",
	"budget money spend spending",
	"begin start kickoff commence",
	"end finish close",
	"birthday born birth",
	"colour color",
	"code password passcode pin",
	"maintenance downtime",
	"supplier vendor provider",
	"cloud hosting host",
	"language speak programming",
	"car drive vehicle",
	"allergic allergy intolerant",
	"vegetarian vegan diet eat",
	"office building site location",
	"tool software app application",
	"responsible own owner charge",
	"retrospective retro",
	"backup fallback deputy substitute stand-in",
	"freeze frozen",
}

var kinOf = func() map[string][]int {
	out := map[string][]int{}
	for i, list := range kin {
		for _, s := range lex.Stems(list) {
			out[s] = append(out[s], i)
		}
	}
	return out
}()

func synonym(a, b string) bool {
	for _, i := range kinOf[a] {
		if slices.Contains(kinOf[b], i) {
			return true
		}
	}
	return false
}
