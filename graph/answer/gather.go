package answer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"

	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/search/lex"
	"github.com/cloister-os/cloister/store"
)

// Gather finds the evidence for a plan, at the plan's version.
func (a *Answerer) Gather(ctx context.Context, access graph.Access, p Plan) (Evidence, error) {
	var e Evidence
	err := a.view(ctx, access, p.Version, func(r *graph.Reader, _ store.Snapshot) error {
		var err error
		if e.Freshness, err = freshness(r); err != nil {
			return err
		}
		return a.gather(ctx, r, p, &e)
	})
	if err != nil {
		return Evidence{}, fmt.Errorf("gather evidence: %w", err)
	}
	return e, nil
}

func (a *Answerer) gather(ctx context.Context, r *graph.Reader, p Plan, e *Evidence) error {
	switch p.Shape {
	case LastChange, FirstAdded, Removed, History, CountCommits, CountPeople, Contributors, PersonDid:
		commits, err := a.changes(ctx, r, p)
		if err != nil {
			return err
		}
		return a.choose(r, p, commits, e)
	case Unresolved:
		return nil
	case Why:
		return why(r, p, e)
	case ReleaseOf:
		return release(r, p, e)
	case CountThings:
		return countThings(r, p, e)
	case HowFresh:
		return nil
	case WhichDocument:
		return a.documents(ctx, r, p, e)
	}
	return a.text(ctx, r, p, e)
}

// changes lists what a plan is about as changes, newest first.
func (a *Answerer) changes(ctx context.Context, r *graph.Reader, p Plan) ([]change, error) {
	var out []change
	var err error
	switch {
	case p.Subject.Type == graph.File:
		out, err = fileChanges(r, p.Subject.Entity)
	case p.Subject.Type == graph.Document:
		return nil, nil // a folder has no history
	case p.Subject.Type == graph.Person:
		out, err = personChanges(r, p.Subject.Entity)
	case p.Subject.Phrase != "":
		out, err = a.phraseChanges(ctx, r, p.Subject.Phrase)
	case p.By.Entity != graph.EntityID{}:
		return personChanges(r, p.By.Entity)
	default:
		out, err = allChanges(r)
	}
	if err != nil || p.By.Entity == (graph.EntityID{}) {
		return out, err
	}
	by, err := personChanges(r, p.By.Entity)
	if err != nil {
		return nil, err
	}
	his := map[graph.EntityID]bool{}
	for _, c := range by {
		his[c.commit] = true
	}
	return slices.DeleteFunc(out, func(c change) bool { return !his[c.commit] }), nil
}

// fileChanges follows renames both ways: back to the first name, and on to the
// present one when the name asked about is an old one.
func fileChanges(r *graph.Reader, id graph.EntityID) ([]change, error) {
	for range maxRenames {
		later, ok, err := laterName(r, id)
		if err != nil {
			return nil, err
		}
		if !ok {
			break
		}
		id = later
	}
	list, err := changesOf(r, id)
	if err != nil {
		return nil, err
	}
	// What another branch did counts only when the default branch knows nothing.
	if on := slices.DeleteFunc(slices.Clone(list), func(c change) bool { return c.order == 0 }); len(on) > 0 {
		return on, nil
	}
	return list, nil
}

func personChanges(r *graph.Reader, id graph.EntityID) ([]change, error) {
	var out []change
	for c, err := range r.Out(id, graph.Authored, graph.Descending) {
		if err != nil {
			return nil, err
		}
		if out = append(out, change{commit: c.Object, kind: graph.Authored, order: c.Rank}); len(out) == maxEdges {
			break
		}
	}
	return out, nil
}

func allChanges(r *graph.Reader) ([]change, error) {
	var out []change
	for src, err := range r.Sources() {
		if err != nil {
			return nil, err
		}
		for rec, err := range r.Records(src.Name, graph.StreamCommit) {
			if err != nil {
				return nil, err
			}
			out = append(out, change{commit: rec.Entity, kind: graph.Authored})
			if len(out) == 20*maxEdges {
				return out, nil
			}
		}
	}
	return out, nil
}

// phraseChanges lists the commits that mention a phrase, newest first: those
// that hold it word for word when there are any.
func (a *Answerer) phraseChanges(ctx context.Context, r *graph.Reader, phrase string) ([]change, error) {
	ids, err := a.mentioning(ctx, r, phrase)
	if err != nil {
		return nil, err
	}
	wanted := contentOf(phrase)
	var all, verbatim []change
	for _, id := range ids {
		rec, err := r.Record(id)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		c, err := readCommit(r, rec.Entity)
		if err != nil {
			return nil, err
		}
		ch := change{commit: rec.Entity, kind: graph.Authored, order: c.order}
		all = append(all, ch)
		if holdsRun(lex.Stems(c.subject), wanted) {
			verbatim = append(verbatim, ch)
		}
	}
	if len(verbatim) > 0 {
		all = verbatim
	}
	sort.SliceStable(all, newestFirst(all))
	if on := slices.DeleteFunc(slices.Clone(all), func(c change) bool { return c.order == 0 }); len(on) > 0 {
		return on, nil
	}
	return all, nil
}

// contentOf are the stems of a phrase without words such as "feature".
func contentOf(phrase string) []string {
	var out []string
	for _, t := range lex.Tokens(phrase) {
		if !lex.IsStop(t.Text) && !incidental[t.Stem] && wordConcepts[t.Text]&cFeature == 0 {
			out = append(out, t.Stem)
		}
	}
	return out
}

// holdsRun reports whether list holds run as neighbours.
func holdsRun(list, run []string) bool {
	for i := 0; i+len(run) <= len(list); i++ {
		if slices.Equal(list[i:i+len(run)], run) {
			return true
		}
	}
	return false
}

// choose takes what the shape asks for out of the changes.
func (a *Answerer) choose(r *graph.Reader, p Plan, list []change, e *Evidence) error {
	if !p.Window.IsZero() {
		kept, err := within(r, list, p.Window)
		if err != nil {
			return err
		}
		list = kept
	}
	list, err := beside(r, list, p, e)
	if err != nil {
		return err
	}
	e.Total = distinct(list)
	switch p.Shape {
	case LastChange:
		return a.addChange(r, p, newest(list), e)
	case FirstAdded:
		return a.addFirst(r, p, list, e)
	case Removed:
		return a.addChange(r, p, newestOf(list, graph.Deletes), e)
	case CountPeople, Contributors:
		return a.addPeople(r, p, list, e)
	}
	return a.addList(r, p, list, e)
}

func distinct(list []change) int {
	seen := map[graph.EntityID]bool{}
	for _, c := range list {
		seen[c.commit] = true
	}
	return len(seen)
}

// within keeps the changes whose time is in the window.
func within(r *graph.Reader, list []change, w Window) ([]change, error) {
	var out []change
	for _, c := range list {
		commit, err := readCommit(r, c.commit)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if w.holds(commit.time) {
			out = append(out, c)
		}
	}
	return out, nil
}

func newest(list []change) []change { return list[:min(len(list), 1)] }

func newestOf(list []change, kind graph.Relation) []change {
	for i, c := range list {
		if c.kind == kind {
			return list[i : i+1]
		}
	}
	return nil
}

// addChange adds one change as the main row.
func (a *Answerer) addChange(r *graph.Reader, p Plan, list []change, e *Evidence) error {
	for _, ch := range list {
		row, c, err := changeRow(r, ch, RoleMain)
		if err != nil {
			return err
		}
		e.Rows = append(e.Rows, row)
		if p.Wants.Release {
			return addRelease(r, c, e)
		}
	}
	return nil
}

func addRelease(r *graph.Reader, c commit, e *Evidence) error {
	tag, ok, err := releaseOf(r, c.entity)
	if ok {
		e.Rows = append(e.Rows, tag)
	}
	return err
}

var changeWords = map[graph.Relation]string{
	graph.Modifies: "changed", graph.Adds: "added", graph.Renames: "renamed", graph.Deletes: "removed",
}

func changeRow(r *graph.Reader, ch change, role Role) (Row, commit, error) {
	c, err := readCommit(r, ch.commit)
	if err != nil {
		return Row{}, commit{}, err
	}
	facts := map[Fact]placed{}
	if ch.path.span != (graph.Span{}) {
		facts[FactPath] = ch.path
	}
	if ch.old != "" {
		facts[FactOldPath] = placed{value: ch.old}
	}
	row, err := c.row(r, role, facts)
	if word := changeWords[ch.kind]; word != "" {
		row.Values[FactChange] = word
	}
	delete(row.Values, FactPath)
	return row, c, err
}

// addFirst adds how a thing came to be: where it was added, the release that
// first holds it, and the rename that gave it its present name.
func (a *Answerer) addFirst(r *graph.Reader, p Plan, list []change, e *Evidence) error {
	if len(list) == 0 {
		return nil
	}
	first := list[len(list)-1]
	if p.Subject.Phrase == "" {
		for _, c := range list {
			if c.kind == graph.Adds {
				first = c
			}
		}
	}
	row, c, err := changeRow(r, first, RoleMain)
	if err != nil {
		return err
	}
	e.Rows = append(e.Rows, row)
	if err := addRelease(r, c, e); err != nil {
		return err
	}
	if renamed := newestOf(list, graph.Renames); renamed != nil && p.Subject.Phrase == "" {
		row, _, err := changeRow(r, renamed[0], RoleRename)
		if err != nil {
			return err
		}
		e.Rows = append(e.Rows, row)
	}
	return nil
}

// addList adds the newest changes as a list.
func (a *Answerer) addList(r *graph.Reader, p Plan, list []change, e *Evidence) error {
	seen := map[graph.EntityID]bool{}
	for _, ch := range list {
		if seen[ch.commit] {
			continue
		}
		seen[ch.commit] = true
		row, _, err := changeRow(r, ch, RoleListed)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if e.Rows = append(e.Rows, row); len(e.Rows) == maxListed {
			break
		}
	}
	return nil
}

// addPeople adds the newest change of each person.
func (a *Answerer) addPeople(r *graph.Reader, p Plan, list []change, e *Evidence) error {
	seen := map[string]bool{}
	for _, ch := range list {
		c, err := readCommit(r, ch.commit)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		who := lex.Fold(c.mail)
		if who == "" {
			who = lex.Fold(c.who)
		}
		if seen[who] {
			continue
		}
		seen[who] = true
		if len(e.Rows) < maxListed {
			row, _, err := changeRow(r, ch, RoleListed)
			if err != nil {
				return err
			}
			e.Rows = append(e.Rows, row)
		}
	}
	e.People = len(seen)
	return nil
}

// release finds the release that is named, or the latest.
func release(r *graph.Reader, p Plan, e *Evidence) error {
	if p.Subject.Entity != (graph.EntityID{}) {
		row, err := tagRow(r, p.Subject.Entity, RoleMain, graph.Span{})
		if err == nil {
			e.Rows = append(e.Rows, row)
		}
		return err
	}
	var latest graph.Record
	fits, err := releaseAt(r, p.Place)
	if err != nil {
		return err
	}
	nearest := func(rec graph.Record) bool {
		return latest.ID == (graph.RecordID{}) || (rec.TimeNs > latest.TimeNs) == (p.Place.Side != Newer)
	}
	for src, err := range r.Sources() {
		if err != nil {
			return err
		}
		for rec, err := range r.Records(src.Name, graph.StreamTag) {
			if err != nil {
				return err
			}
			if fits(rec) && nearest(rec) {
				latest = rec
			}
		}
	}
	if latest.ID == (graph.RecordID{}) {
		return nil
	}
	row, err := tagRow(r, latest.Entity, RoleMain, graph.Span{})
	e.Rows = append(e.Rows, row)
	return err
}

var streamOf = map[string]string{
	"people": graph.StreamPerson, "releases": graph.StreamTag, "documents": graph.StreamDocument, "commits": graph.StreamCommit,
}

// countThings counts all that may be read of a kind.
func countThings(r *graph.Reader, p Plan, e *Evidence) error {
	things := map[graph.EntityID]graph.Record{}
	for src, err := range r.Sources() {
		if err != nil {
			return err
		}
		for rec, err := range r.Records(src.Name, streamOf[p.Thing]) {
			if err != nil {
				return err
			}
			if stream := streamOf[p.Thing]; stream != "" && rec.ID.Stream == stream {
				things[rec.Entity] = rec
			}
		}
	}
	e.Total = len(things)
	ids := slices.SortedFunc(maps.Keys(things), func(a, b graph.EntityID) int { return slices.Compare(a[:], b[:]) })
	for _, id := range ids[:min(len(ids), maxListed)] {
		rec := things[id]
		end := rec.Payload.Size
		if end > maxQuoteBytes {
			end = 0
		}
		quotes, err := quotePayload(r, rec, []graph.Span{{Start: 0, End: int(end)}})
		if err != nil {
			return err
		}
		e.Rows = append(e.Rows, Row{Record: rec.ID, Role: RoleListed, Values: map[Fact]string{}, Quotes: quotes})
	}
	return nil
}
