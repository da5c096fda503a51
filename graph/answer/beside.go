package answer

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/search/lex"
)

// placed is a question for changes before or after what an earlier turn found.
func (v *resolver) placed(q Plan, rd reading) Plan {
	base, own := v.about(q, rd)
	if v.l.named == "release" || v.l.named == "version" || !own && v.l.side != "" && v.lastAnchor().plan.Shape == ReleaseOf {
		return v.releaseBeside()
	}
	a, same := v.t.anchorOf(base.Subject)
	if !same && base.Subject.Type == graph.Person {
		a, same = v.personAnchor(base.Subject)
	}
	if !same {
		a = v.lastAnchor()
	}
	if w := v.t.last.Window; !own && v.l.side == Older && !w.From.IsZero() {
		base = v.from(v.t.last)
		base.Window = Window{To: w.From, Text: "before " + w.From.Format(time.DateOnly)}
		return v.note(base, "before that", base.Window.Text)
	}
	if a.first.Record == (graph.RecordID{}) {
		return v.unclear("Nothing before this found a change or a release that could be the “that”: ask with a date.")
	}
	if !own && (base.Shape == CountCommits || base.Shape == CountPeople) && v.l.side != "" {
		return v.unclear("The answer before counted several changes: ask with a date.")
	}
	if q := v.timed(base, a); q.Shape != "" {
		return q
	}
	side := v.l.side
	if v.l.since {
		side = Newer
	}
	if !same {
		base.Window = windowBeside(side, a.time)
		return v.note(base, sideWords[side], base.Window.Text)
	}
	base.Place = a.place(side)
	return v.note(base, sideWords[side], string(side)+" than the change of "+base.Place.Date)
}

var sideWords = map[Side]string{Older: "before that", Newer: "after that"}

func windowBeside(side Side, at time.Time) Window {
	day := at.Format(time.DateOnly)
	if side == Older {
		return Window{To: at, Text: "before " + day}
	}
	return Window{From: at.Add(time.Second), Text: "since " + day}
}

// timed is for "until then" and "that year": a stretch of time.
func (v *resolver) timed(base Plan, a anchor) Plan {
	switch {
	case v.l.until:
		base.Window = Window{To: a.time.Add(time.Second), Text: "until " + a.time.Format(time.DateOnly)}
		return v.note(base, "until then", base.Window.Text)
	case v.l.unit != "":
		from := begin(a.time, v.l.unit)
		layout := map[string]string{"year": "2006", "month": "2006-01"}[v.l.unit]
		if layout == "" {
			layout = time.DateOnly
		}
		base.Window = Window{From: from, To: shift(from, v.l.unit, 1), Text: "in " + from.Format(layout)}
		if v.l.unit == "week" || v.l.unit == "quarter" {
			base.Window.Text = "in the " + v.l.unit + " from " + from.Format(time.DateOnly)
		}
		return v.note(base, "that "+v.l.unit, base.Window.Text)
	}
	return Plan{}
}

func (v *resolver) lastAnchor() anchor {
	a, _ := v.t.newest()
	return a
}

// personAnchor is what was found of a person, who need not be the subject.
func (v *resolver) personAnchor(s Subject) (anchor, bool) {
	for _, a := range v.t.anchors {
		if a.plan.Subject.Entity == s.Entity || a.plan.By.Entity == s.Entity {
			return a, true
		}
		if who, ok, err := authorOf(v.r, a.first); err == nil && ok && who.Entity == s.Entity {
			return a, true
		}
	}
	return anchor{}, false
}

// about is the plan that a place is told of: the question's own when it names or
// resolves a subject, else that of the turn before with what the question asks.
func (v *resolver) about(q Plan, rd reading) (base Plan, own bool) {
	own = q.Shape != ByText && q.Subject != Subject{} || q.By != Subject{}
	base = q
	if !own {
		before := v.t.last
		if a, ok := v.t.newest(); ok && v.t.last.Subject == (Subject{}) {
			before = a.plan
		}
		if q.Shape == CountCommits && (v.l.since || v.l.until || v.l.unit != "") {
			return q, true // of all there is
		}
		base = v.from(before)
		if rd.has(cWho | cWhen | cRelease) {
			base.Wants = q.Wants
		}
		if s := rd.fileShape(); s != ByText && base.Subject != (Subject{}) && base.Subject.Type != graph.Person && base.Subject.Type != graph.Tag {
			base.Shape = s
		}
	}
	lists := v.l.since || v.l.until || v.l.unit != ""
	switch base.Shape {
	case LastChange, FirstAdded, Removed, Why, ByText:
		if base.Shape = LastChange; lists {
			base.Shape = History
		}
		if base.Subject.Type == graph.Person {
			base.Shape = PersonDid
		}
	}
	return base, own
}

// releaseBeside is the release before or after the one that was named last.
func (v *resolver) releaseBeside() Plan {
	for _, a := range v.t.anchors {
		for _, row := range []Row{a.first, a.final} {
			if row.Values[FactTag] == "" {
				continue
			}
			q := v.from(a.plan)
			q.Shape, q.Subject, q.By, q.Window = ReleaseOf, Subject{}, Subject{}, Window{}
			q.Place = Place{Side: v.l.side, Record: row.Record, Date: row.Values[FactTag]}
			return v.note(q, sideWords[v.l.side], string(v.l.side)+" than "+row.Values[FactTag])
		}
	}
	return v.unclear("Nothing before this named a release: ask with its name.")
}

// besides is a question for the others: "who else", "what else did she do".
func (v *resolver) besides(q Plan, rd reading) Plan {
	base := q
	if q.Shape == ByText || q.Subject == (Subject{}) && q.By == (Subject{}) {
		if len(v.put) > 0 && q.Shape == ByText && !v.hollow() {
			return v.whole(q, rd)
		}
		base = v.from(v.t.last)
		if _, ok := v.t.newest(); !ok || base.Shape == ByText || base.Subject == (Subject{}) {
			return v.unclear("Nothing before this named a file, a feature or a person of which there could be more: ask with the name.")
		}
	}
	if base.Subject.Type == graph.Person {
		a, ok := v.personAnchor(base.Subject)
		if rd.has(cWho) || !ok {
			return v.unclear("Ask for whom else with the name of a file or a feature.")
		}
		base.Shape, base.Place = PersonDid, a.place(Other)
		if a.rows > 1 {
			base.Place = a.place(Older)
		}
		return v.note(base, "else", "besides the change of "+base.Place.Date)
	}
	if !rd.has(cWho|cPeople) && q.By == (Subject{}) {
		base.Shape = History
		if a, ok := v.t.anchorOf(base.Subject); ok {
			base.Place = a.place(Other)
			return v.note(base, "else", "besides the change of "+base.Place.Date)
		}
		return base
	}
	base.Shape, base.Besides = Contributors, v.t.people
	return v.note(base, "else", "besides "+names(v.t.people))
}

// again is a question about what the turn before found: "when was that?".
func (v *resolver) again(q Plan, rd reading) Plan {
	a, ok := v.t.newest()
	if s := rd.fileShape(); s != ByText && s != LastChange && s != Contributors && v.t.last.Subject != (Subject{}) && v.t.last.Subject.Type != graph.Person && !v.l.event && !rd.onlyRelease() {
		base := v.from(v.t.last)
		base.Shape, base.Wants = s, q.Wants
		return v.note(base, v.rd.text, base.describe())
	}
	byText := v.t.last.Shape == ByText || v.t.last.Shape == WhichDocument
	switch {
	case !ok || byText:
		return v.unclear("The answer before found no change or release that this could be about: ask the whole question.")
	case a.rows > 1:
		return v.unclear("%d things were listed before this: say which one, by its file or commit.", a.rows)
	}
	base := v.from(a.plan)
	base.Place = a.place(Same)
	if q.Wants != (Wants{}) {
		base.Wants = q.Wants
	}
	if base.Shape == ReleaseOf {
		base.Place, base.Subject = Place{}, v.t.release
		return v.note(base, "that", v.t.release.Name)
	}
	if base.Shape == Why {
		base.Shape = LastChange
	}
	return v.note(base, "that", "the change of "+base.Place.Date)
}

// onlyRelease reports whether a release is all that is asked for: then it is that
// of the change which was found.
func (rd reading) onlyRelease() bool { return rd.has(cRelease) && !rd.has(cFirst|cCount|cHistory) }

// instead is the question before, with another name or time in place of its own.
func (v *resolver) instead(q Plan, rd reading) Plan {
	base := v.from(v.t.last)
	if v.t.last.Shape == "" {
		return v.unclear("Nothing was asked before this that it could go on with: ask the whole question.")
	}
	name := strings.Trim(countRule.ReplaceAllString(rd.text, ""), " ?.!,")
	if len(rd.missing()) > 0 {
		return v.unclear("“%s” is in no source that you may read.", rd.missing()[0])
	}
	if !rd.window.IsZero() {
		base.Window = rd.window
		name = strings.Trim(countRule.ReplaceAllString(rd.text[:rd.from]+rd.text[rd.to:], ""), " ?.!,")
		if base.Shape == ByText || base.Shape == WhichDocument {
			return v.unclear("The question before was about documents, which are not asked by time: ask the whole question.")
		}
		if name == "" {
			return v.note(base, strings.TrimSpace(rd.window.Text), base.describe())
		}
	}
	for _, m := range rd.mentions {
		if p, ok := v.swap(base, m); ok {
			return v.note(p, m.text, p.describe())
		}
	}
	return v.swapPhrase(base, name)
}

// swap puts a named thing in place of the one that the plan is about.
func (v *resolver) swap(base Plan, m mention) (Plan, bool) {
	byText := base.Shape == ByText || base.Shape == WhichDocument
	switch m.kind() {
	case graph.File:
		if byText || base.Subject.Type == graph.Tag {
			return base, false
		}
		if base.Subject.Type == graph.Person {
			base.Shape, base.By = History, base.Subject
		}
		base.Subject, base.Others = m.subject(), m.others()
	case graph.Person:
		switch {
		case byText || base.Subject.Type == graph.Tag:
			return base, false
		case base.Subject.Type == graph.Person:
			base.Subject, base.Others = m.subject(), m.others()
		case base.Shape == Contributors || base.Shape == CountPeople:
			base.Shape, base.By = History, m.subject()
		default:
			base.By = m.subject()
		}
	case graph.Tag:
		if base.Shape != ReleaseOf {
			return base, false
		}
		base.Subject, base.Others = m.subject(), nil
	default:
		if !m.quoted || base.Subject.Type == graph.Person || byText || base.Subject == (Subject{}) {
			return base, false
		}
		base.Subject, base.Others = Subject{Phrase: m.text}, nil
	}
	return base, true
}

// things that are counted, by the word for them.
var countables = map[string]string{"commit": "commits", "releas": "releases", "document": "documents", "person": "people", "author": "people", "tag": "releases", "contributor": "people"}

// swapPhrase puts words that name nothing known in place of what the question
// before was about.
func (v *resolver) swapPhrase(base Plan, phrase string) Plan {
	phrase = strings.TrimSpace(articles.ReplaceAllString(phrase, ""))
	stems := contentOf(phrase)
	switch {
	case len(stems) == 0:
		return v.unclear("This says too little to go on with: ask the whole question.")
	case base.Shape == CountThings || base.Shape == CountCommits && base.Subject == (Subject{}) && base.By == (Subject{}):
		thing := countables[lex.Stem(lex.Fold(phrase))]
		if thing == "" {
			return v.unclear("“%s” is nothing that is counted: ask the whole question.", phrase)
		}
		if base.Shape, base.Thing = CountThings, thing; thing == "commits" {
			base.Shape = CountCommits
		}
		return v.note(base, phrase, base.describe())
	case base.Subject.Phrase != "":
		base.Subject = Subject{Phrase: phrase}
		return v.note(base, phrase, base.describe())
	case base.Shape == WhichDocument:
		base.Search, base.Text = phrase, phrase
		return v.note(base, phrase, base.describe())
	case base.Shape == ByText:
		text, ok := v.swapText(base.Search, phrase)
		if !ok {
			return v.unclear("It cannot be told what “%s” stands for in “%s”: ask the whole question.", phrase, base.Search)
		}
		base.Search, base.Text = text, text
		return v.note(base, phrase, text)
	}
	return v.unclear("“%s” is nothing that the question before could be asked of: ask the whole question.", phrase)
}

// articles begin a phrase and say nothing.
var articles = regexp.MustCompile(`(?i)^(?:(?:for|of|in|on|to|about|with|by|from)\s+)?(?:(?:the|a|an|our)\s+)?`)

// swapText puts a phrase in place of what a question about documents was about:
// what the answer's document is about, else what ends in the same word.
func (v *resolver) swapText(question, phrase string) (string, bool) {
	old := ""
	if len(v.t.texts) > 0 {
		old = v.t.texts[0]
	}
	if i := strings.Index(question, old); old != "" && i >= 0 {
		if strings.HasPrefix(old, "the ") {
			phrase = "the " + phrase
		}
		return question[:i] + phrase + question[i+len(old):], true
	}
	tokens, stems := lex.Tokens(question), lex.Stems(phrase)
	last := slices.IndexFunc(tokens, func(t lex.Token) bool { return t.Stem == stems[len(stems)-1] })
	if last < 0 {
		return "", false
	}
	first := last
	for first > 0 && last-first < len(stems)-1 && !lex.IsStop(tokens[first-1].Text) {
		first--
	}
	return question[:tokens[first].Start] + phrase + question[tokens[last].End:], true
}
