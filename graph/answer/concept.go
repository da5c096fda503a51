package answer

import (
	"strings"

	"github.com/cloister-os/cloister/graph/search/lex"
)

// concept is a meaning that many words share. Questions are matched by the
// concepts in them, so that wording nobody thought of still lands where its
// meaning is.
type concept uint32

const (
	cWho concept = 1 << iota
	cWhen
	cRelease
	cLast
	cFirst
	cChange
	cAdd
	cRemove
	cRename
	cCount
	cHistory
	cDocument
	cExplain
	cCommit
	cPeople
	cFresh
	cDo
	cFile
	cFeature
	cWhere
	cWhich
	cList
	cContain
	cTimes
	cLearn
)

// phrases give several words one meaning. Each is a list of stems; longer ones
// are tried first. "_" stands for any one word.
var conceptPhrases = map[string]concept{
	"most recent": cLast, "most recently": cLast, "up to date": cFresh, "how many": cCount, "how often": cCount | cTimes,
	"how many time": cCount | cTimes, "number of time": cCount | cTimes, "how many change": cCount | cCommit, "how many edit": cCount | cCommit, "number of": cCount, "count of": cCount,
	"what date": cWhen, "which date": cWhen, "what day": cWhen, "which day": cWhen, "what time": cWhen,
	"what year": cWhen, "which year": cWhen, "what month": cWhen, "which month": cWhen, "how long ago": cWhen,
	"what point": cWhen, "which point": cWhen, "since when": cWhen | cFirst, "since which": cFirst, "since what": cFirst, "get support": cAdd, "become available": cAdd, "become part": cAdd, "date of": cWhen, "the date": cWhen,
	"what moment": cWhen, "point in time": cWhen, "when in time": cWhen, "how recently": cWhen | cLast,
	"by whom": cWho, "which person": cWho, "what person": cWho, "which author": cWho, "what author": cWho,
	"which developer": cWho, "what developer": cWho, "which engineer": cWho, "what engineer": cWho,
	"which contributor": cWho, "what contributor": cWho, "which committer": cWho, "which colleague": cWho,
	"which teammate": cWho, "which team member": cWho, "which member": cWho, "which programmer": cWho,
	"which user": cWho, "which coder": cWho, "which maintainer": cWho, "which people": cWho | cPeople, "what people": cWho | cPeople,
	"which person's": cWho, "author of": cWho, "name of the person": cWho, "name the person": cWho,
	"name the author": cWho, "name of the author": cWho, "name the developer": cWho, "name of the developer": cWho,
	"the person who": cWho, "the person that": cWho, "the one who": cWho, "person behind": cWho, "the author": cWho, "the person": cWho,
	"the developer": cWho, "the engineer": cWho, "the committer": cWho, "the contributor": cWho, "someone who": cWho,
	"last time": cLast | cWhen, "latest time": cLast | cWhen, "first time": cFirst | cWhen,
	"work on": cChange | cDo, "hand on": cChange, "touch up": cChange, "check in": cAdd, "bring in": cAdd, "put in": cAdd,
	"come in": cAdd, "come into": cAdd, "go in": cAdd, "go into": cAdd, "get in": cAdd, "get into": cAdd, "show up": cAdd,
	"make it into": cAdd, "make its way": cAdd, "find its way": cAdd, "come from": cFirst, "come to be": cAdd, "come about": cAdd,
	"start exist": cAdd, "begin exist": cAdd, "first commit": cFirst | cCommit, "last commit": cLast | cCommit,
	"latest commit": cLast | cCommit, "be responsible for the last": cWho | cLast, "get rid of": cRemove,
	"take out": cRemove, "throw out": cRemove, "call before": cRename, "use to be call": cRename, "old name": cRename,
	"former name": cRename, "previous name": cRename, "previously call": cRename, "formerly call": cRename, "formerly know": cRename,
	"what happen to": cHistory, "change over time": cHistory, "over time": cHistory, "change log": cHistory,
	"list of change": cHistory, "list of commit": cHistory, "list the commit": cHistory, "list commit": cHistory, "list all commit": cHistory,
	"list the change": cHistory, "list change": cHistory, "show the change": cHistory, "show the commit": cHistory, "all change": cHistory, "all commit": cHistory,
	"what change": cHistory, "which change": cHistory, "which commit": cHistory | cCommit, "what commit": cHistory | cCommit,
	"where can i read": cDocument | cExplain, "where do i read": cDocument | cExplain, "where can i find": cDocument,
	"where do i find": cDocument, "where should i look": cDocument, "where can i learn": cDocument | cExplain,
	"where do we": cWhere, "what should i read": cDocument | cExplain, "what do i read": cDocument | cExplain,
	"where to read": cDocument | cExplain, "where to find": cDocument, "where to look": cDocument, "learn about": cLearn, "learn more": cLearn,
	"read about": cExplain, "read up on": cDocument | cExplain, "find out about": cLearn, "find information": cLearn, "information on": cLearn, "information about": cLearn,
	"deal with": cExplain, "talk about": cExplain, "tell about": cExplain, "tell me about": 0, "go over": cExplain, "write down": cExplain,
	"last sync": cFresh, "last synced": cFresh, "last synchron": cFresh, "last updat from": cFresh, "last scan": cFresh, "last index": cFresh, "last read": cFresh, "how old be the data": cFresh,
	"how fresh": cFresh, "how recent be": cFresh, "how current be": cFresh, "how up to date": cFresh,
	"make up": 0, "set up": 0,
}

// conceptWords give one word its meaning.
var conceptWords = map[concept]string{
	cWho:      "who whom whose who's who'd whodunit",
	cWhen:     "when",
	cRelease:  "release releases version versions tag tags tagged released milestone",
	cLast:     "last latest recent recently newest lately final lastly",
	cFirst:    "first original originally initial initially earliest beginning",
	cChange:   "change changed changing modify modified modification edit edited editing update updated updating touch touched alter altered alteration tweak tweaked revise revised revision amend amended adjust adjusted rework reworked rewrite rewritten rewrote refactor refactored patch patched committed commit fiddle maintain",
	cAdd:      "add added adding addition introduce introduced introduction create created creation appear appeared appearance land landed arrive arrived arrival originate originated born birth implement implemented implementation built build ship shipped debut launch launched include included emerge emerged start started begin began establish wrote write author authored invent bring brings brought gain gained received enabled available enter entered incorporated incorporate merged merge",
	cRemove:   "remove removed removal delete deleted deletion drop dropped retire retired erase erased gone disappear vanish",
	cRename:   "rename renamed renaming moved",
	cCount:    "count total tally",
	cHistory:  "history timeline evolution evolve evolved changelog chronology biography",
	cDocument: "document documents doc docs page pages guide guides article articles manual manuals handbook runbook runbooks readme tutorial tutorials writeup howto paper wiki text file",
	cExplain:  "explain explains explained explaining explanation describe describes described description document documented documents documentation discuss discusses discussed cover covers covered outline outlines outlined detail details detailed define defines defined teach specify specified clarify introduction mention mentions tells",
	cCommit:   "commit commits changeset changesets revision revisions patch patches checkin checkins contribution contributions",
	cPeople:   "people authors author developers contributors contributor committers engineers programmers persons colleagues maintainers",
	cFresh:    "fresh freshness stale outdated synced synchronised synchronized indexed",
	cDo:       "do did done doing work worked working contribute contributed accomplish achieve busy",
	cFile:     "file files path module script source",
	cFeature:  "feature features functionality capability function option support",
	cWhere:    "where",
	cWhich:    "which what what's",
	cList:     "list enumerate",
	cContain:  "contain contains contained hold part include includes included ship shipped carry",
	cTimes:    "times",
	cLearn:    "learn understand",
}

// wordConcepts is conceptWords by word.
var wordConcepts = indexConcepts()

func indexConcepts() map[string]concept {
	out := map[string]concept{}
	for c, words := range conceptWords {
		for _, w := range strings.Fields(words) {
			out[w] |= c
		}
	}
	return out
}

var phraseConcepts, longestPhrase = indexPhrases()

func indexPhrases() (map[string]concept, int) {
	out := map[string]concept{}
	longest := 0
	for p, c := range conceptPhrases {
		words := strings.Fields(p)
		longest = max(longest, len(words))
		for i, w := range words {
			words[i] = phraseStem(w)
		}
		out[strings.Join(words, " ")] = c
	}
	return out, longest
}

// phraseStem is how words are compared inside phrases: forms of "be" are one.
func phraseStem(w string) string {
	switch w {
	case "is", "was", "are", "were", "been", "be", "am":
		return "be"
	}
	return lex.Stem(w)
}

// meaning is a question as concepts.
type meaning struct {
	tokens []lex.Token
	each   []concept // the concepts of each token; 0 = it has none
	all    concept
}

// mean reads the concepts of a question's tokens. Masked tokens belong to a
// name that the question mentions, and mean nothing by themselves.
func mean(tokens []lex.Token, masked []bool) meaning {
	m := meaning{tokens: tokens, each: make([]concept, len(tokens))}
	stems := make([]string, len(tokens))
	for i, t := range tokens {
		stems[i] = phraseStem(t.Text)
	}
	for i := range tokens {
		if masked[i] {
			continue
		}
		m.each[i] |= wordConcepts[tokens[i].Text]
		for n := min(longestPhrase, len(tokens)-i); n > 1; n-- {
			c, ok := phraseConcepts[strings.Join(stems[i:i+n], " ")]
			if !ok || anyOf(masked[i:i+n]) {
				continue
			}
			for j := i; j < i+n; j++ {
				m.each[j] |= c
			}
			break
		}
	}
	for _, c := range m.each {
		m.all |= c
	}
	return m
}

func anyOf(list []bool) bool {
	for _, b := range list {
		if b {
			return true
		}
	}
	return false
}

func (m meaning) has(c concept) bool { return m.all&c != 0 }

// light verbs carry no meaning beside the noun that they go with: "made a change".
var light = stemSet("make made get got have had go went take took do did give put see saw happen become use used person one")

// rest is what remains of the question once the words that put it are taken
// away: the phrase that it is about. What stands together in the question is
// returned as it stands there.
func (m meaning) rest(text string, drop concept, masked []bool) (phrase string, stems []string) {
	var b strings.Builder
	last := -1
	for i, t := range m.tokens {
		if masked[i] || m.each[i]&drop != 0 || lex.IsStop(t.Text) || light[t.Stem] {
			continue
		}
		switch {
		case last < 0:
		case onlyStops(m.tokens[last+1 : i]):
			b.WriteString(text[m.tokens[last].End:t.Start])
		default:
			b.WriteByte(' ')
		}
		b.WriteString(text[t.Start:t.End])
		last = i
		stems = append(stems, t.Stem)
	}
	return b.String(), stems
}

func onlyStops(tokens []lex.Token) bool {
	for _, t := range tokens {
		if !lex.IsStop(t.Text) {
			return false
		}
	}
	return true
}
