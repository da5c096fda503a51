package answer

import (
	"context"
	"strings"

	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/search"
	"github.com/cloister-os/cloister/graph/search/lex"
)

// shape decides which shape a question has. A shape is taken only when the
// question's meaning asks for it and something that it can be about is named;
// every other question is answered by text.
func (a *Answerer) shape(ctx context.Context, r *graph.Reader, p *Plan, rd reading, window Window) error {
	p.Wants = Wants{Who: rd.has(cWho), When: rd.has(cWhen), Release: rd.wantsRelease()}
	if rd.has(cFresh) && !rd.has(cChange|cAdd) && rd.aboutSources(r) {
		p.Shape = HowFresh
		return nil
	}
	if m, ok := rd.first(graph.File); ok {
		s := rd.fileShape()
		if s == ByText {
			s = a.byExemplars(ctx, mask(rd.text, m, "FILE"))
		}
		if s != ByText {
			p.Shape, p.Subject, p.Others = s, m.subject(), m.others()
			a.addPerson(p, rd)
			return nil
		}
	}
	if m, ok := rd.first(graph.Document); ok && !m.quoted {
		if s := rd.fileShape(); s != ByText {
			p.Shape, p.Subject = s, m.subject()
			return nil
		}
	}
	if rd.asksDocument() {
		p.Shape = WhichDocument
		p.Search = rd.topic()
		return nil
	}
	if m, ok := rd.first(graph.Tag); ok && (rd.has(cWhen) || rd.has(cWho)) && !rd.restWords(releaseWords) {
		p.Shape, p.Subject = ReleaseOf, m.subject()
		return nil
	}
	if rd.latestRelease() {
		p.Shape = ReleaseOf
		return nil
	}
	if m, ok := rd.first(graph.Person); ok {
		if s := rd.personShape(); s != ByText {
			p.Shape, p.Subject, p.Others = s, m.subject(), m.others()
			if s == CountCommits {
				p.By, p.Subject = p.Subject, Subject{}
			}
			return nil
		}
	}
	if thing := rd.countable(); thing != "" {
		p.Shape, p.Thing = CountThings, thing
		if thing == "commits" {
			p.Shape = CountCommits
		}
		return nil
	}
	return a.featureShape(ctx, r, p, rd, window)
}

func (a *Answerer) addPerson(p *Plan, rd reading) {
	if m, ok := rd.first(graph.Person); ok && (p.Shape == CountCommits || p.Shape == History) {
		p.By = m.subject()
	}
}

// wantsRelease reports whether a release is asked for, not just named.
func (rd reading) wantsRelease() bool {
	_, named := rd.first(graph.Tag)
	return rd.has(cRelease) && !named
}

// fileShape is the shape of a question about a file.
func (rd reading) fileShape() Shape {
	asks := rd.has(cWho | cWhen | cRelease)
	switch {
	case rd.has(cCount) && rd.has(cPeople) && !rd.has(cCommit|cTimes):
		return CountPeople
	case rd.has(cCount) && rd.has(cCommit|cChange|cTimes|cHistory):
		return CountCommits
	case rd.has(cRemove) && asks:
		return Removed
	case rd.has(cLast) && !rd.has(cFirst):
		return LastChange
	case rd.has(cFirst) || rd.has(cAdd) && asks:
		return FirstAdded
	case rd.has(cHistory) && !rd.has(cWho):
		return History
	case rd.wantsRelease() && !rd.has(cChange):
		return FirstAdded
	case rd.has(cWho) && rd.has(cDo), rd.has(cPeople) && !rd.has(cLast):
		return Contributors
	case rd.has(cChange) && asks:
		return LastChange
	case rd.has(cRename):
		return History
	}
	return ByText
}

func (rd reading) personShape() Shape {
	switch {
	case rd.has(cWho):
		return ByText
	case rd.has(cCount) && rd.has(cCommit|cChange|cTimes):
		return CountCommits
	case rd.has(cDo|cCommit|cHistory|cChange|cAdd) && !rd.restWords(personWords):
		return PersonDid
	}
	return ByText
}

const (
	releaseWords = cRelease | cWhen | cWho | cAdd | cLast | cFirst | cWhich | cChange | cDo
	personWords  = cDo | cCommit | cHistory | cChange | cAdd | cWhich | cList | cLast | cRelease | cWhen | cFile
	countWords   = cCount | cCommit | cFile | cDocument | cRelease | cPeople | cWhich | cDo | cAdd | cContain | cTimes | cChange | cList
)

// restWords reports whether the question has content words beyond its names and
// the given concepts: then it is about something else.
func (rd reading) restWords(drop concept) bool {
	_, stems := rd.rest(rd.text, drop, rd.masked)
	for _, s := range stems {
		if !incidental[s] {
			return true
		}
	}
	return false
}

// incidental words say where things are kept, which every question here is about.
var incidental = stemSet(`repository repo codebase project code history git branch main master source sources data
	index system there far total date time currently today ever altogether overall name tell show give list made make
	happen get go come been recorded known cloister whole entire our published publish cut`)

func stemSet(words string) map[string]bool {
	out := map[string]bool{}
	for _, w := range strings.Fields(words) {
		out[lex.Stem(w)] = true
	}
	return out
}

// aboutSources reports whether a question about freshness is about a source or
// about the data as a whole.
func (rd reading) aboutSources(r *graph.Reader) bool {
	if !rd.restWords(cFresh | cLast | cWhen | cWhich | cDo | cFile | cDocument) {
		return true
	}
	for src, err := range r.Sources() {
		if err != nil {
			return false
		}
		for _, t := range rd.tokens {
			if t.Text == lex.Fold(src.Name) {
				return true
			}
		}
	}
	return false
}

// asksDocument reports whether the question asks where something is explained.
func (rd reading) asksDocument() bool {
	if rd.has(cCount) || rd.has(cWho) || rd.has(cWhen) {
		return false
	}
	if rd.has(cWhere) && rd.has(cExplain) {
		return true
	}
	for i, c := range rd.each {
		if c&cDocument == 0 {
			continue
		}
		if phraseAsks(rd, i) {
			if c&cExplain != 0 {
				return true
			}
			continue
		}
		// "which page covers", "the guide about", "a document on"
		if i > 0 && rd.each[i-1]&cWhich != 0 && rd.opens(i+1) || rd.has(cLearn) && rd.has(cWhere|cWhich|cExplain) {
			return true
		}
		if rd.hasOther(i, cExplain) && (rd.has(cWhich) || rd.has(cWhere) || rd.asksToShow()) {
			return true
		}
		if rd.asksToShow() && rd.opens(i+1) {
			return true
		}
	}
	return false
}

// phraseAsks reports whether the token is part of a phrase such as "where can I
// read": then the phrase itself asks for a document.
func phraseAsks(rd reading, i int) bool {
	return wordConcepts[rd.tokens[i].Text]&cDocument == 0
}

func (rd reading) hasOther(i int, c concept) bool {
	for j, d := range rd.each {
		if j != i && d&c != 0 {
			return true
		}
	}
	return false
}

// opens reports whether the token begins what a document is about, so that the
// word before it was a noun of its own: "page about", but not "page size".
func (rd reading) opens(i int) bool {
	if i >= len(rd.tokens) {
		return false
	}
	return lex.IsStop(rd.tokens[i].Text) || rd.each[i]&(cExplain|cLearn|cContain) != 0
}

func (rd reading) asksToShow() bool {
	for _, t := range rd.tokens {
		switch t.Text {
		case "find", "point", "need", "want", "recommend", "there", "link", "consult", "open", "look", "read", "check", "show":
			return true
		}
	}
	return false
}

// topic is what a question for a document is about.
func (rd reading) topic() string {
	for _, m := range rd.mentions {
		if m.quoted {
			return m.text
		}
	}
	none := make([]bool, len(rd.tokens))
	phrase, _ := rd.rest(rd.text, cDocument|cExplain|cWhich|cWhere|cLearn|cContain, dropTopic(rd, none))
	if phrase == "" {
		return rd.text
	}
	return phrase
}

// dropTopic masks words of asking that carry no concept.
func dropTopic(rd reading, masked []bool) []bool {
	for i, t := range rd.tokens {
		switch t.Text {
		case "find", "point", "need", "want", "recommend", "link", "consult", "open", "look", "read", "information", "info", "section", "part", "our", "check":
			masked[i] = true
		}
	}
	return masked
}

func (rd reading) latestRelease() bool {
	return rd.has(cRelease) && rd.has(cLast|cFirst) && len(rd.mentions) == 0 &&
		!rd.restWords(cRelease|cLast|cFirst|cWhen|cWhich|cAdd|cWho) && !rd.has(cFile|cFeature)
}

// countable is what is counted when the question counts all there is of it.
func (rd reading) countable() string {
	if !rd.has(cCount) || len(linkedOnly(rd.mentions)) > 0 || rd.restWords(countWords) {
		return ""
	}
	switch {
	case rd.has(cPeople):
		return "people"
	case rd.has(cCommit):
		return "commits"
	case rd.has(cRelease):
		return "releases"
	case rd.hasWord("document", "documents", "docs", "pages", "guides", "articles"):
		return "documents"
	}
	return ""
}

func (rd reading) hasWord(words ...string) bool {
	for _, t := range rd.tokens {
		for _, w := range words {
			if t.Text == w {
				return true
			}
		}
	}
	return false
}

// featureShape is for questions about something that is no entity of its own but
// that commit messages speak of. The phrase must be in quotes, be called a
// feature, or be spoken of by commits word for word.
func (a *Answerer) featureShape(ctx context.Context, r *graph.Reader, p *Plan, rd reading, window Window) error {
	shape := rd.fileShape()
	if shape == ByText || len(p.Missing) > 0 && looksLikePath(p.Missing[0]) {
		return nil
	}
	subject, explicit := rd.feature()
	if subject.Phrase == "" {
		return nil
	}
	found, err := a.mentioning(ctx, r, subject.Phrase)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return nil
	}
	if !explicit {
		said, err := a.saidByText(ctx, r, rd.text)
		if err != nil || said {
			return err
		}
	}
	p.Shape, p.Subject = shape, subject
	return nil
}

// feature is the phrase that a question about a feature is about; explicit says
// that the question marks it as one.
func (rd reading) feature() (s Subject, explicit bool) {
	for _, m := range rd.mentions {
		if m.quoted && (len(m.found) == 0 || m.kind() == graph.Document) {
			return Subject{Phrase: m.text}, true
		}
	}
	drop := cWho | cWhen | cRelease | cLast | cFirst | cChange | cAdd | cRemove | cCount | cHistory | cCommit | cPeople | cFeature | cWhich | cTimes | cDo | cList | cContain
	phrase, stems := rd.rest(rd.text, drop, dropTopic(rd, append([]bool(nil), rd.masked...)))
	if len(stems) == 0 {
		return Subject{}, false
	}
	return Subject{Phrase: phrase}, rd.has(cFeature)
}

// mentioning returns the commits whose message speaks of a phrase: those that
// hold it word for word if there are any, else those that hold all its words.
func (a *Answerer) mentioning(ctx context.Context, r *graph.Reader, phrase string) ([]graph.RecordID, error) {
	var groups [][]string
	for _, t := range lex.Content(lex.Tokens(phrase)) {
		if incidental[t.Stem] || wordConcepts[t.Text]&cFeature != 0 {
			continue
		}
		groups = append(groups, []string{t.Stem})
	}
	return a.cfg.Index.Commits(ctx, r, groups[:min(len(groups), search.MaxTerms)])
}
