package answer

import (
	"fmt"
	"strings"

	"github.com/cloister-os/cloister/graph/answer/typed"
	"github.com/cloister-os/cloister/graph/search/lex"
)

// Verify drops every statement of which a value does not stand in what it cites.
// When none is left the sources do not say. It is a pure function.
func (a *Answerer) Verify(d Draft) (Draft, error) {
	if len(d.Statements) == 0 {
		return d, nil
	}
	var kept []Statement
	for _, s := range d.Statements {
		if err := s.verify(); err != nil {
			a.log.Warn("a statement is dropped", "shape", d.Plan.Shape, "error", err)
			continue
		}
		kept = append(kept, s)
	}
	d.Statements = kept
	if len(kept) == 0 {
		d.Outcome, d.Lead = Unknown, unknown(d.Plan, Evidence{Freshness: d.Freshness})
	}
	return d, nil
}

// verify checks one statement: it cites something, each of its values stands in
// a citation, and its other words hold no number, date or name.
func (s Statement) verify() error {
	if len(s.Quotes) == 0 {
		return fmt.Errorf("it cites nothing")
	}
	for i, p := range s.Parts {
		switch {
		case p.Value:
			if !s.holds(p.Text) {
				return fmt.Errorf("part %d is not in what it cites", i)
			}
		case p.Count:
		default:
			for _, span := range typed.Spans(p.Text) {
				if span.Kind != typed.Name {
					return fmt.Errorf("part %d states a %s of our own", i, span.Kind)
				}
			}
		}
	}
	return nil
}

// holds reports whether a value stands in one of the quotes. A record's key
// stands in the head of its citation, but not the numbers in it.
func (s Statement) holds(value string) bool {
	if s.states(value) {
		return true
	}
	for _, q := range s.Quotes {
		if q.Record.Native == value && s.statesNumbers(value) {
			return true
		}
	}
	return false
}

// states reports whether a value stands in the bytes of one of the quotes, word
// for word but for case and what is between the words.
func (s Statement) states(value string) bool {
	want := lex.Normalize(value)
	if want == "" {
		return true // punctuation alone states nothing
	}
	for _, q := range s.Quotes {
		if strings.Contains(q.Text, value) || containsWords(lex.Normalize(q.Text), want) {
			return true
		}
	}
	return false
}

// statesNumbers reports whether every run of digits of a value stands in the
// bytes of the quotes.
func (s Statement) statesNumbers(value string) bool {
	for _, n := range strings.FieldsFunc(value, func(r rune) bool { return r < '0' || r > '9' }) {
		found := false
		for _, q := range s.Quotes {
			found = found || strings.Contains(q.Text, n)
		}
		if !found {
			return false
		}
	}
	return true
}

// containsWords reports whether whole words of text are want.
func containsWords(text, want string) bool {
	return strings.Contains(" "+text+" ", " "+want+" ")
}
