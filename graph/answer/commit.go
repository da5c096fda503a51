package answer

import (
	"bytes"
	"errors"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/store"
)

const (
	mergeGap      = 240 // ranges of one record this close are cited as one
	shownSHA      = 10
	maxRenames    = 64
	maxEdges      = 5000
	maxListed     = 20 // rows of a list that are shown
	maxQuoteBytes = 4 << 10
)

// commit is a commit with what an answer says of it.
type commit struct {
	record  graph.Record
	entity  graph.EntityID
	order   uint64 // place on the default branch, 0 = not on it
	time    time.Time
	who     string
	mail    string
	sha     string
	subject string
	body    string // what it says below its subject
	spans   map[Fact]graph.Span
	values  map[Fact]string
}

// readCommit reads a commit by its entity, as its own record has it.
func readCommit(r *graph.Reader, id graph.EntityID) (commit, error) {
	c := commit{entity: id, spans: map[Fact]graph.Span{}, values: map[Fact]string{}}
	for claim, err := range r.Claims(id) {
		if err != nil {
			return commit{}, err
		}
		c.claim(claim)
	}
	if c.record.ID == (graph.RecordID{}) {
		return commit{}, fmt.Errorf("commit %s: %w", id, store.ErrNotFound)
	}
	rec, err := r.Record(c.record.ID)
	c.record = rec
	return c, err
}

func (c *commit) claim(k graph.Claim) {
	if k.Record.Stream != graph.StreamCommit {
		return
	}
	c.record.ID = k.Record
	set := func(f Fact, value string) {
		if _, ok := c.values[f]; !ok {
			c.values[f], c.spans[f] = value, k.Span
		}
	}
	switch k.Property {
	case graph.Author:
		name, mail, _ := strings.Cut(k.Value, " <")
		c.who, c.mail = strings.TrimSpace(name), strings.TrimSuffix(mail, ">")
		set(FactWho, c.who)
	case graph.Time:
		c.time, _ = time.Parse(time.RFC3339, k.Value)
		set(FactDate, dateOf(k.Value))
	case graph.SHA:
		c.sha = k.Value
		set(FactCommit, k.Value[:min(len(k.Value), shownSHA)])
	case graph.Body:
		c.body, c.spans[FactBody] = k.Value, k.Span
	case graph.Subject:
		c.subject = k.Value
		set(FactSubject, k.Value)
	case graph.Position:
		var n uint64
		if _, err := fmt.Sscan(k.Value, &n); err == nil {
			c.order = n
		}
	}
}

// dateOf is the date in a time as the source writes it, in its own zone.
func dateOf(rfc3339 string) string { return rfc3339[:min(len(rfc3339), len(time.DateOnly))] }

// row makes the commit a row that cites the bytes of its values.
func (c commit) row(r *graph.Reader, role Role, facts map[Fact]placed) (Row, error) {
	row := Row{Record: c.record.ID, Role: role, Ordered: c.order, Values: map[Fact]string{}}
	var spans []graph.Span
	for f, v := range c.values {
		if v != "" {
			row.Values[f] = v
			spans = append(spans, c.spans[f])
		}
	}
	for f, p := range facts {
		row.Values[f] = p.value
		if p.span != (graph.Span{}) {
			spans = append(spans, p.span)
		}
	}
	var err error
	row.Quotes, err = quotePayload(r, c.record, spans)
	return row, err
}

// placed is a value and where the payload says so.
type placed struct {
	value string
	span  graph.Span
}

// quotePayload reads the ranges of a record's payload; those that are close to
// each other become one.
func quotePayload(r *graph.Reader, rec graph.Record, spans []graph.Span) ([]Quote, error) {
	sort.Slice(spans, func(i, j int) bool { return spans[i].Start < spans[j].Start })
	var merged []graph.Span
	for _, s := range spans {
		if s.End <= s.Start || s.Start < 0 || int64(s.End) > rec.Payload.Size {
			continue
		}
		if n := len(merged); n > 0 && s.Start-merged[n-1].End <= mergeGap && s.End-merged[n-1].Start <= maxQuoteBytes {
			merged[n-1].End = max(merged[n-1].End, s.End)
			continue
		}
		merged = append(merged, s)
	}
	var out []Quote
	for _, s := range merged {
		b, err := r.Range(rec.Payload, s.Start, s.End)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", rec.ID, err)
		}
		out = append(out, Quote{Record: rec.ID, Part: PayloadPart, Start: s.Start, End: s.End, Text: string(b), Title: rec.Title, URI: rec.URI})
	}
	return out, nil
}

// change is what a commit did to a file.
type change struct {
	commit graph.EntityID
	kind   graph.Relation
	order  uint64
	old    string // of a rename
	path   placed
}

// changesOf lists what was done to a file under its present name and under those
// it had before, newest first.
func changesOf(r *graph.Reader, file graph.EntityID) ([]change, error) {
	var out []change
	below := ^uint64(0)
	seen := map[graph.EntityID]bool{}
	for id, ok := file, true; ok && !seen[id] && len(seen) < maxRenames; {
		seen[id] = true
		list, err := changesAs(r, id, below)
		if err != nil {
			return nil, err
		}
		out = append(out, list...)
		id, below, ok, err = formerName(r, id, below)
		if err != nil {
			return nil, err
		}
	}
	sort.SliceStable(out, newestFirst(out))
	return out, nil
}

// newestFirst orders changes by their place on the default branch; those that
// have none keep one order of their own, so that every node answers alike.
func newestFirst(list []change) func(i, j int) bool {
	return func(i, j int) bool {
		a, b := list[i], list[j]
		return a.order > b.order || a.order == b.order && bytes.Compare(a.commit[:], b.commit[:]) < 0
	}
}

// changesAs lists what was done to a path, on the default branch first, up to
// the place at which it was given another name.
func changesAs(r *graph.Reader, file graph.EntityID, below uint64) ([]change, error) {
	var out []change
	for _, rel := range []graph.Relation{graph.Modifies, graph.Adds, graph.Renames, graph.Deletes} {
		n := 0
		for c, err := range r.In(file, rel, graph.Descending) {
			if err != nil {
				return nil, err
			}
			if n++; n > maxEdges {
				break
			}
			if c.Rank >= below {
				continue
			}
			ch := change{commit: c.Subject, kind: rel, order: c.Rank, path: placed{span: c.Span}}
			if rel == graph.Renames {
				ch.old = c.Value
			}
			out = append(out, ch)
		}
	}
	return out, nil
}

// formerName is the file that this one was renamed from, and at which place.
func formerName(r *graph.Reader, file graph.EntityID, below uint64) (graph.EntityID, uint64, bool, error) {
	for c, err := range r.Out(file, graph.RenamedFrom, graph.Descending) {
		if err != nil {
			return graph.EntityID{}, 0, false, err
		}
		if c.Rank < below || below == ^uint64(0) {
			return c.Object, c.Rank, true, nil
		}
	}
	return graph.EntityID{}, 0, false, nil
}

// laterName is the file that this one was renamed to, if it is no longer there
// under this name.
func laterName(r *graph.Reader, file graph.EntityID) (graph.EntityID, bool, error) {
	var at uint64
	var to graph.EntityID
	for c, err := range r.In(file, graph.RenamedFrom, graph.Descending) {
		if err != nil {
			return to, false, err
		}
		at, to = c.Rank, c.Subject
		break
	}
	if at == 0 {
		return to, false, nil
	}
	since, err := changesAs(r, file, ^uint64(0))
	if err != nil {
		return to, false, err
	}
	for _, c := range since {
		if c.order > at && c.kind != graph.Deletes {
			return to, false, nil
		}
	}
	return to, true, nil
}

// releaseOf is the row of the earliest release that contains a commit.
func releaseOf(r *graph.Reader, id graph.EntityID) (Row, bool, error) {
	for c, err := range r.In(id, graph.Contains, graph.Ascending) {
		if err != nil {
			return Row{}, false, err
		}
		row, err := tagRow(r, c.Subject, RoleRelease, c.Span)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		return row, err == nil, err
	}
	return Row{}, false, nil
}

// tagRow makes a release a row. also is a range of its payload to cite beside
// the name and the date: where it says that it contains a commit.
func tagRow(r *graph.Reader, id graph.EntityID, role Role, also graph.Span) (Row, error) {
	row := Row{Role: role, Values: map[Fact]string{}}
	spans := []graph.Span{also}
	for c, err := range r.Claims(id) {
		if err != nil {
			return Row{}, err
		}
		if c.Record.Stream != graph.StreamTag {
			continue
		}
		row.Record = c.Record
		switch c.Property {
		case graph.Name:
			row.Values[FactTag] = c.Value
		case graph.Time:
			row.Values[FactDate] = dateOf(c.Value)
		default:
			continue
		}
		spans = append(spans, c.Span)
	}
	if row.Values[FactTag] == "" {
		return Row{}, fmt.Errorf("release %s: %w", id, store.ErrNotFound)
	}
	rec, err := r.Record(row.Record)
	if err != nil {
		return Row{}, err
	}
	row.Quotes, err = quotePayload(r, rec, spans)
	return row, err
}
