package answer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/search/lex"
	"github.com/cloister-os/cloister/store"
)

// Turn is an earlier question of a conversation: how it was understood, and what
// was found.
type Turn struct {
	Plan     Plan     `json:"plan"`
	Evidence Evidence `json:"evidence"`
}

// Earlier returns the earlier turns of a conversation, newest first. It is asked
// only for a question that leans on them.
type Earlier func(context.Context) ([]Turn, error)

// MaxTurns is how many earlier turns a question may lean on.
const MaxTurns = 8

// Resolved is what words of a question were taken to stand for.
type Resolved struct {
	Words string `json:"words"`
	Means string `json:"means"`
}

// Side says where a change stands, seen from one that an earlier turn found.
type Side string

// The sides.
const (
	Older Side = "older"
	Newer Side = "newer"
	Same  Side = "same"
	Other Side = "other" // all but that one
)

// Place is where a change stands among those of its subject.
type Place struct {
	Side   Side           `json:"side"`
	Record graph.RecordID `json:"record"` // the commit or release that it is seen from
	Date   string         `json:"date"`   // of it, as its source has it
}

// topic is what a conversation is about, as far as the asker may read it now.
type topic struct {
	last    Plan      // of the newest turn that was understood
	things  []Subject // newest first; the last turn's own come first
	texts   []string  // what turns about documents were about, newest first
	missing string    // the newest turn's subject, when no source knows it
	people  []Subject // of the newest turn that has any
	anchors []anchor  // what turns found, newest turn first
	release Subject   // that was named last
	others  []Subject // what the newest named thing could be as well
	about   graph.EntityID
}

// anchor is a change or a release that a turn found.
type anchor struct {
	plan         Plan
	first, final Row // the first and the last that were listed
	time         time.Time
	rows         int
}

// topicOf reads what the turns were about through the reader of now: what may no
// longer be read is absent.
func topicOf(r *graph.Reader, turns []Turn) (topic, error) {
	var t topic
	for i, turn := range turns[:min(len(turns), MaxTurns)] {
		p := turn.Plan
		if p.Shape == Unresolved {
			continue
		}
		if err := t.add(r, turn, i); err != nil {
			return topic{}, err
		}
	}
	return t, nil
}

func (t *topic) add(r *graph.Reader, turn Turn, age int) error {
	p := turn.Plan
	if ok, err := visible(r, p.Subject); err != nil {
		return err
	} else if !ok {
		return nil
	}
	if ok, err := visible(r, p.By); err != nil {
		return err
	} else if !ok {
		return nil
	}
	if t.last.Shape == "" && t.missing == "" {
		t.last = p
		if len(p.Missing) > 0 {
			t.missing = p.Missing[0]
		}
	}
	if named := p.Subject; named.Name != "" && named.Type != graph.Person || named.Phrase != "" {
		t.things = append(t.things, named)
		if t.about == (graph.EntityID{}) && len(p.Others) > 0 {
			t.about, t.others = named.Entity, p.Others
		}
	}
	if text, err := textTopic(r, turn); err != nil {
		return err
	} else if text != "" {
		t.texts = append(t.texts, text)
	}
	if err := t.addRows(r, turn); err != nil {
		return err
	}
	if p.By.Name != "" && len(t.people) == 0 {
		t.people = []Subject{p.By}
	}
	return nil
}

// addRows adds what a turn found.
func (t *topic) addRows(r *graph.Reader, turn Turn) error {
	var rows []Row
	for _, row := range turn.Evidence.Rows {
		rec, err := r.Record(row.Record)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if row.Values[FactTag] != "" && t.release.Name == "" {
			t.release = Subject{Entity: rec.Entity, Type: graph.Tag, Source: rec.ID.Source, Name: row.Values[FactTag], Exact: true}
		}
		if row.Role == RoleMain || row.Role == RoleListed {
			rows = append(rows, row)
		}
	}
	if p := turn.Plan.Subject; p.Type == graph.Tag && t.release.Name == "" {
		t.release = p
	}
	if len(rows) == 0 {
		if p := turn.Plan.Subject; p.Type == graph.Person && len(t.people) == 0 {
			t.people = []Subject{p}
		}
		return nil
	}
	first, err := r.Record(rows[0].Record)
	if err != nil {
		return err
	}
	t.anchors = append(t.anchors, anchor{turn.Plan, rows[0], rows[len(rows)-1], time.Unix(0, first.TimeNs).UTC(), len(rows)})
	return t.addPeople(r, turn.Plan, rows)
}

// addPeople adds who made the changes, unless a newer turn named somebody.
func (t *topic) addPeople(r *graph.Reader, p Plan, rows []Row) error {
	if len(t.people) > 0 {
		return nil
	}
	if p.Subject.Type == graph.Person {
		t.people = []Subject{p.Subject}
		return nil
	}
	for _, row := range rows {
		who, ok, err := authorOf(r, row)
		if err != nil {
			return err
		}
		if ok && !slices.ContainsFunc(t.people, func(s Subject) bool { return s.Entity == who.Entity }) {
			t.people = append(t.people, who)
		}
	}
	return nil
}

func authorOf(r *graph.Reader, row Row) (Subject, bool, error) {
	rec, err := r.Record(row.Record)
	if err != nil {
		return Subject{}, false, err
	}
	for c, err := range r.In(rec.Entity, graph.Authored, graph.Ascending) {
		if err != nil {
			return Subject{}, false, err
		}
		return Subject{Entity: c.Subject, Type: graph.Person, Source: rec.ID.Source, Name: row.Values[FactWho], Exact: true}, true, nil
	}
	return Subject{}, false, nil
}

// visible reports whether a subject is one that may be read now; a phrase always is.
func visible(r *graph.Reader, s Subject) (bool, error) {
	if s.Entity == (graph.EntityID{}) {
		return true, nil
	}
	_, err := r.Entity(s.Entity)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// textTopic is what a question about documents was about: the longest stretch of
// it that stands in the head of the passage it was answered from, else in the
// passage itself.
func textTopic(r *graph.Reader, turn Turn) (string, error) {
	p := turn.Plan
	if p.Shape != ByText && p.Shape != WhichDocument || len(turn.Evidence.Hits) == 0 || turn.Evidence.Hits[0].Verdict == Unknown {
		return "", nil
	}
	h := turn.Evidence.Hits[0]
	if _, err := r.Record(h.Quote.Record); errors.Is(err, store.ErrNotFound) {
		return "", nil
	} else if err != nil {
		return "", err
	}
	if p.Shape == WhichDocument {
		return p.Search, nil
	}
	if s := longestIn(p.Search, h.Head); s != "" {
		return s, nil
	}
	return longestIn(p.Search, h.Quote.Text), nil
}

// longestIn is the longest stretch of words of text whose content words are all
// in another text, and which begins and ends with one of them.
func longestIn(text, other string) string {
	in := map[string]bool{}
	for _, s := range lex.Stems(other) {
		in[s] = true
	}
	tokens := lex.Tokens(text)
	best, bestWords := "", 0
	for i := range tokens {
		words := 0
		for j := i; j < len(tokens); j++ {
			t := tokens[j]
			if lex.IsStop(t.Text) {
				if j == i {
					break
				}
				continue
			}
			if !in[t.Stem] {
				break
			}
			if words++; words > bestWords {
				best, bestWords = text[withArticle(tokens, i):t.End], words
			}
		}
	}
	if i := strings.LastIndex(best, " the "); i >= 0 {
		best = best[i+1:] // "limit of the public API": its last noun phrase
	}
	return best
}

// withArticle is where a word's "the" begins, or the word itself.
func withArticle(tokens []lex.Token, i int) int {
	if i > 0 && tokens[i-1].Text == "the" {
		i--
	}
	return tokens[i].Start
}

// anchorOf is the newest anchor of a subject; without one, the newest of all.
func (t topic) anchorOf(s Subject) (anchor, bool) {
	for _, a := range t.anchors {
		if s.Name != "" && a.plan.Subject.Entity == s.Entity && s.Entity != (graph.EntityID{}) || s.Phrase != "" && a.plan.Subject.Phrase == s.Phrase {
			return a, true
		}
	}
	return anchor{}, false
}

func (t topic) newest() (anchor, bool) {
	if len(t.anchors) == 0 {
		return anchor{}, false
	}
	return t.anchors[0], true
}

// place is where a change stands seen from what the anchor's turn found: from the
// last of a list when older ones are asked for, else from the first.
func (a anchor) place(side Side) Place {
	row := a.first
	if side == Older {
		row = a.final
	}
	date := row.Values[FactDate]
	return Place{Side: side, Record: row.Record, Date: date}
}

// names lists the names of subjects for a sentence.
func names(list []Subject) string {
	var out []string
	for _, s := range list[:min(len(list), maxShownNames)] {
		out = append(out, s.Name)
	}
	if len(list) > maxShownNames {
		out = append(out, fmt.Sprintf("%d others", len(list)-maxShownNames))
	}
	return strings.Join(out, ", ")
}

const maxShownNames = 5
