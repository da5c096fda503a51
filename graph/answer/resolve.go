package answer

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/search"
	"github.com/cloister-os/cloister/graph/search/lex"
	"github.com/cloister-os/cloister/store"
)

// resolver puts what a conversation named in place of the words that lean on it.
type resolver struct {
	a     *Answerer
	r     *graph.Reader
	alone Plan    // the question as if it stood alone
	rd    reading // of its text
	l     leaning
	t     topic
	now   time.Time
	put   []Resolved
}

// resolved understands a question that leans on earlier turns.
func (a *Answerer) resolved(ctx context.Context, access graph.Access, alone Plan, l leaning, earlier Earlier, zone *time.Location) (p Plan, err error) {
	turns, err := earlier(ctx)
	if err != nil {
		return Plan{}, err
	}
	err = a.view(ctx, access, alone.Version, func(r *graph.Reader, s store.Snapshot) error {
		v := &resolver{a: a, r: r, alone: alone, l: l, now: s.Time().In(zone)}
		if v.t, err = topicOf(r, turns); err != nil {
			return err
		}
		if v.rd, err = a.read(ctx, r, alone.Question.Text, v.now); err != nil {
			return err
		}
		p, err = v.resolve(ctx)
		return err
	})
	return p, err
}

// unclear is the plan of a question of which something is missing.
func (v *resolver) unclear(format string, args ...any) Plan {
	return Plan{Question: v.alone.Question, Version: v.alone.Version, Time: v.alone.Time, Shape: Unresolved, Unclear: fmt.Sprintf(format, args...)}
}

func (v *resolver) resolve(ctx context.Context) (Plan, error) {
	if v.standsAlone() {
		return v.alone, nil
	}
	text, forced, why := v.rewrite()
	if why != "" {
		return v.unclear("%s", why), nil
	}
	q := Plan{Question: v.alone.Question, Version: v.alone.Version, Time: v.alone.Time, Shape: ByText, Search: text, Text: text, Resolved: v.put}
	rd, err := v.a.readWith(ctx, v.r, text, v.now, forced)
	if err != nil {
		return Plan{}, err
	}
	q.Missing = rd.missing()
	if strings.Trim(text, " ?.!,") != "" {
		if err := v.a.shape(ctx, v.r, &q, rd, rd.window); err != nil {
			return Plan{}, err
		}
	}
	if q.Shape != ByText {
		q.Window = rd.window
	}
	switch {
	case v.l.why && v.hollow():
		return v.why(q), nil
	case v.l.other != "":
		return v.otherOne(ctx)
	case v.l.them:
		return v.them(q), nil
	case v.l.side != "" || v.l.since || v.l.until || v.l.unit != "":
		return v.placed(q, rd), nil
	case v.l.besides:
		return v.besides(q, rd), nil
	case v.l.name && len(v.put) == 0 && (!v.l.count || v.t.last.counts()):
		return v.instead(q, rd), nil
	case v.l.bare && len(v.put) == 0, v.l.event && len(v.put) == 0 && v.hollow():
		return v.again(q, rd), nil
	}
	return v.whole(q, rd), nil
}

// standsAlone reports whether a question leans so weakly that its own words say
// enough.
func (v *resolver) standsAlone() bool {
	l := v.l
	switch {
	case len(l.things)+len(l.people) > 0, l.other != "", l.them, l.since, l.until, l.unit != "", l.side != "" && l.firm:
		return false
	case l.bare, l.name:
		return v.alone.Shape != ByText && !l.lead && !(l.count && v.t.last.counts())
	case l.side != "", l.event, l.besides, l.why:
		return !v.hollow() && v.alone.Subject == Subject{} || l.besides && v.alone.Subject != Subject{}
	}
	return true
}

// hollow reports whether the question is about nothing by its own words.
func (v *resolver) hollow() bool {
	for i, t := range v.rd.tokens {
		at := slices.IndexFunc(v.l.cut, func(s span) bool { return t.Start < s.end && s.start < t.End })
		if why := v.l.reason; t.Start < why.end && why.start < t.End {
			continue
		}
		if at < 0 && v.rd.each[i] == 0 && !v.rd.masked[i] && !lex.IsStop(t.Text) && !light[t.Stem] && !incidental[t.Stem] {
			return false
		}
	}
	return true
}

// counts reports whether a plan's answer is a number.
func (p Plan) counts() bool {
	return p.Shape == CountCommits || p.Shape == CountPeople || p.Shape == CountThings
}

// piece is a stretch of the question and what is read in its place.
type piece struct {
	span
	as Subject
}

// rewrite is the question with names in place of pronouns, and without the words
// that tell a place among changes. why says what is missing.
func (v *resolver) rewrite() (text string, forced []mention, why string) {
	var pieces []piece
	for _, s := range v.l.cut {
		pieces = append(pieces, piece{span: s})
	}
	for _, s := range v.l.people {
		who, why := v.person(s)
		if why != "" {
			return "", nil, why
		}
		pieces = append(pieces, piece{s, who})
	}
	for _, s := range v.l.things {
		what, why := v.thing(s)
		if why != "" {
			return "", nil, why
		}
		pieces = append(pieces, piece{s, what})
	}
	slices.SortFunc(pieces, func(a, b piece) int { return a.start - b.start })
	var b strings.Builder
	at := 0
	for _, p := range pieces {
		if p.start < at {
			continue
		}
		b.WriteString(v.rd.text[at:p.start])
		at = p.end
		if p.as == (Subject{}) {
			continue
		}
		m := mention{start: b.Len(), text: p.as.shown()}
		b.WriteString(m.text)
		m.end = b.Len()
		if owns(v.rd.text, p.span) {
			b.WriteString("'s")
		}
		switch {
		case p.as.Entity != graph.EntityID{}:
			m.found = []search.Named{{Entity: p.as.Entity, Type: p.as.Type, Source: p.as.Source, Value: p.as.Name, Prior: 1, Exact: true}}
			forced = append(forced, m)
		case p.as.Exact: // a phrase that commits speak of
			m.quoted = true
			forced = append(forced, m)
		}
	}
	b.WriteString(v.rd.text[at:])
	return shiftTrim(b.String(), forced), forced, ""
}

// shiftTrim takes blanks and commas off the front, and moves the mentions along.
func shiftTrim(text string, forced []mention) string {
	out := strings.TrimLeft(text, " ,;:?!-")
	for i := range forced {
		forced[i].start -= len(text) - len(out)
		forced[i].end -= len(text) - len(out)
	}
	return strings.TrimRight(out, " ,;")
}

func (s Subject) shown() string {
	if s.Phrase != "" {
		return s.Phrase
	}
	return s.Name
}

// owns reports whether a pronoun is possessive.
func owns(text string, s span) bool {
	switch strings.ToLower(text[s.start:s.end]) {
	case "its", "his", "their", "hers":
		return true
	case "her":
		next, _, _ := strings.Cut(strings.TrimSpace(text[s.end:]), " ")
		return strings.HasPrefix(text[s.end:], " ") && !lex.IsStop(strings.Trim(lex.Fold(next), "?!.,"))
	}
	return false
}

// means notes what words were taken for.
func (v *resolver) means(words, means string) {
	words = strings.TrimSpace(words)
	if !slices.ContainsFunc(v.put, func(r Resolved) bool { return r.Words == words }) {
		v.put = append(v.put, Resolved{words, means})
	}
}

// person is who a pronoun stands for.
func (v *resolver) person(s span) (Subject, string) {
	word := v.rd.text[s.start:s.end]
	switch len(v.t.people) {
	case 1:
		v.means(word, v.t.people[0].Name)
		return v.t.people[0], ""
	case 0:
		if plural(word) && len(v.t.things)+len(v.t.texts) > 0 {
			return v.thing(s)
		}
		return Subject{}, fmt.Sprintf("“%s” stands for nobody whom this conversation has named: ask with the name.", word)
	}
	return Subject{}, fmt.Sprintf("“%s” could be any of %s: ask with the name.", word, names(v.t.people))
}

func plural(word string) bool {
	switch strings.ToLower(word) {
	case "they", "them", "their":
		return true
	}
	return false
}

// kinds of things that "that file" and the like may mean.
var nounTypes = map[string][]graph.Type{
	"file": {graph.File, graph.Document}, "module": {graph.File}, "script": {graph.File}, "path": {graph.File, graph.Document},
	"document": {graph.Document}, "doc": {graph.Document}, "page": {graph.Document}, "guide": {graph.Document}, "article": {graph.Document},
	"release": {graph.Tag}, "version": {graph.Tag}, "tag": {graph.Tag},
}

// thing is what a pronoun or "that file" stands for.
func (v *resolver) thing(s span) (Subject, string) {
	word := v.rd.text[s.start:s.end]
	types := nounTypes[v.l.noun]
	if len(types) > 0 && types[0] == graph.Tag && v.t.release.Name != "" {
		v.means(word, v.t.release.Name)
		return v.t.release, ""
	}
	if len(types) == 1 && types[0] == graph.Document && len(v.t.texts) > 0 {
		v.means(word, v.t.texts[0])
		return Subject{Phrase: v.t.texts[0]}, ""
	}
	history := v.l.side != "" || v.rd.has(cChange|cCommit|cRemove|cRename)
	if v.t.missing != "" && (len(v.t.texts) == 0 || history) {
		return Subject{}, fmt.Sprintf("“%s” would be “%s”, which is in no source that you may read.", word, v.t.missing)
	}
	byText := v.t.last.Shape == ByText || v.t.last.Shape == WhichDocument
	if len(types) == 0 && len(v.t.texts) > 0 && (len(v.t.things) == 0 || byText && !history) {
		v.means(word, v.t.texts[0])
		return Subject{Phrase: v.t.texts[0]}, ""
	}
	if byText && len(v.t.texts) == 0 && !history && len(types) == 0 {
		return Subject{}, fmt.Sprintf("“%s” stands for nothing that the answer before named: ask with the name.", word)
	}
	for _, thing := range v.t.things {
		if len(types) > 0 && !slices.Contains(types, thing.Type) {
			continue
		}
		if thing.Phrase != "" {
			thing.Exact = true
		}
		v.means(word, thing.shown())
		return thing, ""
	}
	return Subject{}, fmt.Sprintf("“%s” stands for nothing that this conversation has named: ask with the name.", word)
}

// whole is a question that is complete once the pronouns are resolved.
func (v *resolver) whole(q Plan, rd reading) Plan {
	if q.Shape == WhichDocument && len(v.put) > 0 {
		q.Search = v.put[0].Means
	}
	if q.Shape == PersonDid || q.Shape == ByText {
		// "what did she change in it": both are named, and the file is the subject.
		file, ok := rd.first(graph.File)
		who, and := rd.first(graph.Person)
		if ok && and && rd.has(cDo|cChange|cCommit) {
			q.Shape, q.Subject, q.By = History, file.subject(), who.subject()
		}
	}
	if q.Shape == ByText && len(v.put) == 0 && !v.l.event {
		return v.alone
	}
	return q
}

// why is what the commit that the newest turn found says of itself.
func (v *resolver) why(q Plan) Plan {
	a, ok := v.t.anchorOf(q.Subject)
	if !ok {
		a, ok = v.t.newest()
	}
	switch {
	case !ok || a.plan.Shape == ReleaseOf || a.first.Values[FactCommit] == "":
		return v.unclear("Nothing before this names a change to explain: ask why with the name of a file first.")
	case a.rows > 1:
		return v.unclear("%d changes were listed before this: ask about one of them first.", a.rows)
	}
	q.Shape, q.Subject, q.By, q.Place = Why, a.plan.Subject, Subject{}, a.place(Same)
	return v.note(q, "why", "the change of "+q.Place.Date+" in commit "+a.first.Values[FactCommit])
}

func (v *resolver) note(q Plan, words, means string) Plan {
	v.means(words, means)
	q.Resolved = v.put
	return q
}

// otherOne is the question before, asked of what its name could mean as well.
func (v *resolver) otherOne(ctx context.Context) (Plan, error) {
	base := v.t.last
	if base.Subject.Name == "" {
		return v.unclear("Nothing before this has a name that two things share: ask with the name."), nil
	}
	var list []Subject
	for _, s := range base.Others {
		ok, err := visible(v.r, s)
		if err != nil {
			return Plan{}, err
		}
		if ok {
			list = append(list, s)
		}
	}
	if len(list) == 0 {
		var err error
		if list, err = v.elsewhere(ctx, base.Subject); err != nil {
			return Plan{}, err
		}
	}
	if len(list) == 0 {
		return v.unclear("Nothing else that you may read is called “%s”.", base.Subject.Name), nil
	}
	if len(list) > 1 {
		return v.unclear("It could be any of %s: ask with the name.", names(list)), nil
	}
	q := v.from(base)
	q.Subject, q.Others = list[0], nil
	return v.note(q, "the other "+v.l.other, list[0].Name+" in "+list[0].Source), nil
}

// elsewhere are the things of a name in other sources.
func (v *resolver) elsewhere(ctx context.Context, s Subject) ([]Subject, error) {
	found, err := v.a.cfg.Index.Names(ctx, v.r, []string{lex.Normalize(s.Name)}, nil)
	if err != nil {
		return nil, err
	}
	var out []Subject
	for _, n := range found {
		if n.Type == s.Type && n.Source != s.Source && n.Exact && n.Prior >= sureName && n.Entity != s.Entity {
			out = append(out, Subject{Entity: n.Entity, Type: n.Type, Source: n.Source, Name: n.Value, Exact: true})
		}
	}
	return out, nil
}

// from is an earlier plan, asked again now.
func (v *resolver) from(base Plan) Plan {
	base.Question, base.Version, base.Time = v.alone.Question, v.alone.Version, v.alone.Time
	base.Resolved, base.Place, base.Besides, base.Unclear, base.Missing = v.put, Place{}, nil, "", nil
	return base
}

// them lists what the question before counted.
func (v *resolver) them(q Plan) Plan {
	base := v.from(v.t.last)
	switch base.Shape {
	case CountPeople, Contributors:
		base.Shape = Contributors
	case CountCommits, History, PersonDid:
		base.Shape = History
		if base.Subject == (Subject{}) && base.By != (Subject{}) {
			base.Shape, base.Subject, base.By = PersonDid, base.By, Subject{}
		}
	default:
		return v.unclear("The answer before counted or listed nothing that could be shown: ask for it by name.")
	}
	base.Resolved = append(base.Resolved, Resolved{"them", "what the answer before counted"})
	return base
}
