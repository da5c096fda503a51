package answer

import (
	"errors"
	"slices"
	"strings"

	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/store"
)

// words say a place in a description.
func (p Place) words() string {
	switch p.Side {
	case Older:
		return " before " + p.Date
	case Newer:
		return " after " + p.Date
	case Same:
		return " on " + p.Date
	case Other:
		return " besides the change of " + p.Date
	}
	return ""
}

// beside keeps the changes of a plan's place, and those that are not by people
// who do not count. The list is newest first.
func beside(r *graph.Reader, list []change, p Plan, e *Evidence) ([]change, error) {
	for _, who := range p.Besides {
		by, err := personChanges(r, who.Entity)
		if err != nil {
			return nil, err
		}
		theirs := map[graph.EntityID]bool{}
		for _, c := range by {
			theirs[c.commit] = true
		}
		list = slices.DeleteFunc(slices.Clone(list), func(c change) bool { return theirs[c.commit] })
	}
	if p.Place.Side == "" {
		return list, nil
	}
	rec, err := r.Record(p.Place.Record)
	if errors.Is(err, store.ErrNotFound) {
		e.Lost = true
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	is := func(c change) bool { return c.commit == rec.Entity }
	at := slices.IndexFunc(list, is)
	if at < 0 {
		e.Lost = true
		return nil, nil
	}
	end := at
	for end < len(list) && is(list[end]) {
		end++
	}
	switch p.Place.Side {
	case Older:
		list = list[end:]
	case Newer:
		if list = list[:at]; p.Shape == LastChange && len(list) > 0 {
			list = list[len(list)-1:] // the next one
		}
	case Same:
		list = list[at:end]
	case Other:
		list = slices.DeleteFunc(slices.Clone(list), is)
	}
	return list, nil
}

// releaseAt reports which releases are on the side of a place.
func releaseAt(r *graph.Reader, p Place) (func(graph.Record) bool, error) {
	if p.Side == "" {
		return func(graph.Record) bool { return true }, nil
	}
	at, err := r.Record(p.Record)
	if errors.Is(err, store.ErrNotFound) {
		return func(graph.Record) bool { return false }, nil
	}
	return func(rec graph.Record) bool {
		if rec.ID.Source != at.ID.Source || rec.ID == at.ID {
			return false
		}
		return p.Side == Older && rec.TimeNs < at.TimeNs || p.Side == Newer && rec.TimeNs > at.TimeNs
	}, err
}

// why reads what a commit says of itself.
func why(r *graph.Reader, p Plan, e *Evidence) error {
	rec, err := r.Record(p.Place.Record)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	c, err := readCommit(r, rec.Entity)
	if err != nil {
		return err
	}
	facts := map[Fact]placed{}
	if c.body != "" {
		body, span := firstParagraphs(c.body), c.spans[FactBody]
		facts[FactBody] = placed{body, graph.Span{Start: span.Start, End: min(span.End, span.Start+len(body))}}
	}
	row, err := c.row(r, RoleMain, facts)
	e.Rows = append(e.Rows, row)
	return err
}

// maxReason is how much of a commit's message is shown.
const maxReason = 1200

// firstParagraphs is as much of a text as is shown of it, whole paragraphs where
// that is possible.
func firstParagraphs(text string) string {
	if len(text) <= maxReason {
		return text
	}
	cut := strings.ToValidUTF8(text[:maxReason], "")
	if i := strings.LastIndex(cut, "\n\n"); i > 0 {
		return cut[:i]
	}
	if i := strings.LastIndexAny(cut, "\n "); i > 0 {
		return cut[:i]
	}
	return cut
}

// composeWhy quotes a commit's message. A commit that has a subject alone states
// no reason.
func composeWhy(d *Draft, e Evidence) {
	if len(e.Rows) == 0 {
		return
	}
	row := e.Rows[0]
	b := &said{}
	if subject := row.Values[FactSubject]; subject != "" {
		b.words("The commit says: “").value(subject, false).words("”")
	}
	d.Outcome = Stated
	if body := row.Values[FactBody]; body != "" {
		b.words(" “").value(body, true).words("”")
	} else {
		d.Outcome, d.Lead = Closest, "The commit gives no reason. What it says:"
	}
	d.Statements = append(d.Statements, b.from(row))
}

// noneBeside says that there is no change at a place, when the sources were read
// whole; else "".
func noneBeside(p Plan, e Evidence) string {
	if e.Lost || p.Place.Side == "" && len(p.Besides) == 0 || len(e.Freshness) == 0 {
		return ""
	}
	for _, f := range e.Freshness {
		if f.AsOf.IsZero() {
			return ""
		}
	}
	switch {
	case len(p.Besides) > 0:
		return "Nobody else: the sources that you may read hold no change of it by anybody else."
	case p.Shape == ReleaseOf:
		return "None: the sources that you may read hold no release on that side of it."
	case p.Place.Side == Older:
		return "None: that was the first change of it that the sources hold."
	case p.Place.Side == Newer:
		return "None: that is the newest change of it that the sources hold."
	case p.Place.Side == Other:
		return "None: the sources that you may read hold no other change of the kind."
	}
	return ""
}
