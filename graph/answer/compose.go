package answer

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cloister-os/cloister/graph"
)

const (
	maxClosest  = 3
	nearlyEqual = 0.03 // scores this close are equally good
)

// Compose makes a draft of the evidence. It is a pure function.
func (a *Answerer) Compose(p Plan, e Evidence) (Draft, error) {
	d := Draft{Plan: p, Freshness: e.Freshness}
	switch p.Shape {
	case ByText:
		composeText(&d, e)
	case WhichDocument:
		composeDocuments(&d, e)
	case HowFresh:
		composeFreshness(&d, e)
	case Why:
		composeWhy(&d, e)
	case Unresolved:
		d.Outcome, d.Lead = Unknown, p.Unclear
		return d, nil
	default:
		composeRows(&d, p, e)
	}
	if d.Outcome == "" || d.Outcome == Unknown {
		d.Outcome, d.Statements = Unknown, nil
		d.Lead = unknown(p, e)
	}
	return d, nil
}

// unknown says that the sources do not say, what was searched, and which words
// matched nothing.
func unknown(p Plan, e Evidence) string {
	var b strings.Builder
	b.WriteString("The sources do not say.")
	var names []string
	for _, f := range e.Freshness {
		names = append(names, f.Source)
	}
	if len(names) == 0 {
		b.WriteString(" There is no source that you may read.")
		return b.String()
	}
	fmt.Fprintf(&b, " Searched: %s.", strings.Join(names, ", "))
	if len(p.Missing) > 0 {
		b.WriteString(" A name in the question is in none of them.")
	}
	if words := plainWords(e.Unmatched); len(words) > 0 {
		fmt.Fprintf(&b, " No passage holds: %s.", strings.Join(words, ", "))
	}
	return b.String()
}

func plainWords(words []string) []string {
	var out []string
	for _, w := range words {
		if !strings.ContainsAny(w, "0123456789") {
			out = append(out, w)
		}
	}
	return out
}

func composeText(d *Draft, e Evidence) {
	if len(e.Hits) == 0 {
		return
	}
	top := e.Hits[0]
	switch top.Verdict {
	case Stated:
		d.Outcome = Stated
		d.Statements = append(d.Statements, quoteStatement(top, true))
		if other, ok := conflicting(e.Hits); ok {
			d.Lead = "The sources say more than one thing."
			d.Statements = append(d.Statements, quoteStatement(other, true))
		}
	case Closest:
		closest(d, e.Hits)
	}
}

func closest(d *Draft, hits []Hit) {
	d.Outcome = Closest
	d.Lead = "No source states this directly. The closest passages:"
	for _, h := range hits {
		if len(d.Statements) < maxClosest && h.Verdict != Unknown {
			d.Statements = append(d.Statements, quoteStatement(h, false))
		}
	}
}

// conflicting finds a second sentence as good as the first, from another
// document, that answers with something else.
func conflicting(hits []Hit) (Hit, bool) {
	top := hits[0]
	for _, h := range hits[1:] {
		if h.Verdict == Stated && h.Quote.Record != top.Quote.Record && top.Score-h.Score < nearlyEqual &&
			h.Bold != [2]int{} && top.Bold != [2]int{} && bold(h) != bold(top) {
			return h, true
		}
	}
	return Hit{}, false
}

func bold(h Hit) string { return h.Quote.Text[h.Bold[0]:h.Bold[1]] }

// quoteStatement is a sentence word for word.
func quoteStatement(h Hit, mark bool) Statement {
	s := Statement{Quotes: []Quote{h.Quote}}
	text := h.Quote.Text
	if !mark || h.Bold == [2]int{} {
		s.Parts = []Said{{Text: text, Value: true}}
		return s
	}
	for _, part := range []Said{
		{Text: text[:h.Bold[0]], Value: true}, {Text: bold(h), Value: true, Bold: true}, {Text: text[h.Bold[1]:], Value: true},
	} {
		if part.Text != "" {
			s.Parts = append(s.Parts, part)
		}
	}
	return s
}

func composeDocuments(d *Draft, e Evidence) {
	if len(e.Hits) == 0 {
		return
	}
	top := e.Hits[0]
	switch top.Verdict {
	case Stated:
		d.Outcome = Stated
		d.Statements = append(d.Statements, sayDocument(top))
	case Closest:
		closest(d, e.Hits)
	}
}

// sayDocument names a document by its title, and by its path where that adds no
// number that the document does not hold.
func sayDocument(h Hit) Statement {
	b := &said{Statement{Quotes: append(slices.Clone(h.Above), h.Quote)}}
	title, path := h.Quote.Title, h.Quote.Record.Native
	switch named := b.s.states(title); {
	case named && b.s.statesNumbers(path):
		b.value(title, true).words(" (").value(path, false).words(")")
	case named:
		b.value(title, true)
	case b.s.statesNumbers(path):
		b.value(path, true)
	default:
		b.words("The cited document")
	}
	return b.words(" explains this: “").value(h.Quote.Text, false).words("”").s
}

func composeFreshness(d *Draft, e Evidence) {
	if len(e.Freshness) == 0 {
		return
	}
	d.Outcome = Stated
	d.Lead = "How fresh each source is stands beside this answer: the time at which its newest completed scan began."
}

// said builds a statement.
type said struct{ s Statement }

func (b *said) words(text string) *said {
	b.s.Parts = append(b.s.Parts, Said{Text: text})
	return b
}

func (b *said) value(text string, strong bool) *said {
	b.s.Parts = append(b.s.Parts, Said{Text: text, Value: true, Bold: strong})
	return b
}

func (b *said) count(n int) *said {
	b.s.Parts = append(b.s.Parts, Said{Text: strconv.Itoa(n), Count: true, Bold: true})
	return b
}

func (b *said) from(rows ...Row) Statement {
	for _, r := range rows {
		b.s.Quotes = append(b.s.Quotes, r.Quotes...)
	}
	return b.s
}

func composeRows(d *Draft, p Plan, e Evidence) {
	if len(e.Rows) == 0 {
		composeNone(d, p, e)
		return
	}
	d.Outcome = Stated
	switch p.Shape {
	case LastChange:
		d.Statements = append(d.Statements, sayChange(p, e.Rows[0]))
		sayRelease(d, p, e)
	case FirstAdded:
		sayAdded(d, p, e)
	case Removed:
		d.Statements = append(d.Statements, sayChange(p, e.Rows[0]))
	case ReleaseOf:
		d.Statements = append(d.Statements, sayTag(e.Rows[0], p.Subject.Entity == graph.EntityID{}))
	case CountCommits, CountThings:
		sayCount(d, p, e)
	case CountPeople, Contributors:
		sayPeople(d, p, e)
	default:
		sayList(d, p, e)
	}
	if len(p.Others) > 0 && p.Shape != CountThings {
		d.Outcome = Closest
		d.Lead = "More than one thing has this name. For one of them:"
	}
}

// composeNone says that there is none, if every source's scan has completed, and
// otherwise leaves the outcome unknown.
func composeNone(d *Draft, p Plan, e Evidence) {
	if said := noneBeside(p, e); said != "" {
		d.Outcome, d.Lead = Stated, said
		return
	}
	if p.Shape != CountCommits && p.Shape != PersonDid && p.Shape != History || p.Window.IsZero() {
		return
	}
	for _, f := range e.Freshness {
		if f.AsOf.IsZero() || p.Window.To.After(f.AsOf) {
			return
		}
	}
	d.Outcome = Stated
	d.Lead = "None: the sources were read to the end of that time and hold nothing of the kind."
}

// sayChange is "who, when, in which commit".
func sayChange(p Plan, r Row) Statement {
	b := &said{}
	v := r.Values
	verb := " changed it"
	switch v[FactChange] {
	case "added":
		verb = " added it"
	case "renamed":
		verb = " renamed it"
	case "removed":
		verb = " removed it"
	}
	if p.Subject.Phrase != "" {
		verb = " made the last commit that mentions it"
	}
	b.value(v[FactWho], p.Wants.Who || !p.Wants.When).words(verb+" on ").value(v[FactDate], p.Wants.When)
	return commitTail(b, r).from(r)
}

// commitTail adds ", in commit SHA: “subject”."
func commitTail(b *said, r Row) *said {
	b.words(", in commit ").value(r.Values[FactCommit], false)
	if s := r.Values[FactSubject]; s != "" {
		b.words(": “").value(s, false).words("”")
	}
	return b.words(".")
}

func rowOf(e Evidence, role Role) (Row, bool) {
	for _, r := range e.Rows {
		if r.Role == role {
			return r, true
		}
	}
	return Row{}, false
}

// sayRelease adds the release that first holds the main row.
func sayRelease(d *Draft, p Plan, e Evidence) {
	r, ok := rowOf(e, RoleRelease)
	if !ok {
		if p.Wants.Release {
			d.Statements = append(d.Statements, (&said{}).words("No release contains it yet.").from(e.Rows[0]))
			if !p.Wants.When && !p.Wants.Who {
				d.Outcome = Closest
			}
		}
		return
	}
	b := (&said{}).words("The first release that contains it is ").value(r.Values[FactTag], p.Wants.Release)
	if date := r.Values[FactDate]; date != "" {
		b.words(", of ").value(date, false)
	}
	d.Statements = append(d.Statements, b.words(".").from(r))
}

func sayAdded(d *Draft, p Plan, e Evidence) {
	main := e.Rows[0]
	b := &said{}
	v := main.Values
	if p.Subject.Phrase != "" {
		b.words("The first commit that mentions it is of ").value(v[FactDate], p.Wants.When).words(", by ").value(v[FactWho], p.Wants.Who)
	} else {
		b.words("It was added on ").value(v[FactDate], p.Wants.When).words(" by ").value(v[FactWho], p.Wants.Who)
	}
	d.Statements = append(d.Statements, commitTail(b, main).from(main))
	sayRelease(d, p, e)
	if r, ok := rowOf(e, RoleRename); ok {
		b := (&said{}).words("It got its present name on ").value(r.Values[FactDate], false).words(" by ").value(r.Values[FactWho], false)
		d.Statements = append(d.Statements, commitTail(b, r).from(r))
	}
}

func sayTag(r Row, latest bool) Statement {
	b := &said{}
	if latest {
		b.words("The latest release is ").value(r.Values[FactTag], true).words(", of ").value(r.Values[FactDate], false)
	} else {
		b.value(r.Values[FactTag], false).words(" was made on ").value(r.Values[FactDate], true)
	}
	return b.words(".").from(r)
}

func sayCount(d *Draft, p Plan, e Evidence) {
	what := " commits."
	if p.Shape == CountThings {
		what = " " + p.Thing + "."
	}
	d.Statements = append(d.Statements, (&said{}).count(e.Total).words(what).from(e.Rows...))
}

func sayPeople(d *Draft, p Plan, e Evidence) {
	b := &said{}
	b.count(e.People).words(" people: ")
	for i, r := range e.Rows {
		if i > 0 {
			b.words(", ")
		}
		b.value(r.Values[FactWho], p.Shape == Contributors)
	}
	if e.People > len(e.Rows) {
		b.words(" and others")
	}
	d.Statements = append(d.Statements, b.words(".").from(e.Rows...))
}

func sayList(d *Draft, p Plan, e Evidence) {
	d.Lead = "The newest first:"
	if e.Total > len(e.Rows) {
		d.Lead = "The newest of them:"
	}
	for _, r := range e.Rows {
		b := (&said{}).value(r.Values[FactDate], false).words(", ").value(r.Values[FactWho], false)
		d.Statements = append(d.Statements, commitTail(b, r).from(r))
	}
}
