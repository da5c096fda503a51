// Package speech tells a statement from a question, takes a statement apart, and
// says which statements a question is about.
//
// It promises: everything is rules over words, so the same words mean the same on
// every node and without a language model; what is not clearly said as a fact is
// no statement; a question that is not clearly about a statement is not answered
// from it. It reads English. It may import graph/search/lex, graph/answer/rank and
// graph/answer/typed.
package speech

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/cloister-os/cloister/graph/search/lex"
)

// Bounds of what is taken for a statement.
const (
	MaxBytes    = 500 // of one that begins with "remember that"
	maxImplicit = 200 // bytes of one that does not
	maxNoun     = 8   // words of what something is said of
)

// Statement is a fact as somebody said it.
type Statement struct {
	Start, End int    // the bytes of the text that say it
	Words      string // those bytes
	Subject    string // "I", "we", or "" for a thing that is named
	Attribute  string // "release day", "on call", "use"; "" for a note that was not taken apart
	Value      string // "Thursday", "not on call"
	From       time.Time
	Until      time.Time // when it ends to be true; zero = it is not said
	Slot       string    // two statements with one slot cannot both hold: the newer takes its place
}

// Recognise returns the fact that a text states, if it states one. It must be said
// as one: with "my", "our", "I" or "we", or after "remember that". now is when it
// was said, in the speaker's zone, for words such as "this week".
func Recognise(text string, now time.Time) (Statement, bool) {
	start, end := trimmed(text)
	explicit := false
	if m := asksToRemember.FindStringIndex(text[start:end]); m != nil {
		start, explicit = start+m[1], true
	}
	words := text[start:end]
	if words == "" || len(words) > MaxBytes || !explicit && len(words) > maxImplicit || strings.ContainsAny(words, "?\n\r") {
		return Statement{}, false
	}
	tokens := lex.Tokens(words)
	if len(tokens) < 2 || asks(tokens, explicit) || !explicit && manySentences(words) {
		return Statement{}, false
	}
	s := Statement{Start: start, End: end, Words: words}
	switch {
	case s.being(tokens, explicit), s.self(tokens, explicit), s.called(tokens), s.doing(tokens, explicit), s.does(tokens):
	case explicit:
		s.Value = words
		s.Slot = slot("", "note", words)
	default:
		return Statement{}, false
	}
	s.From, s.Until = valid(words, now)
	return s, true
}

// Plain is a statement out of what somebody typed into a field for one: it need
// not be said in any way, but must not be a question.
func Plain(text string, now time.Time) (Statement, bool) {
	if s, ok := Recognise(text, now); ok {
		return s, true
	}
	s, ok := Recognise("remember that "+text, now)
	if ok {
		s.Start, s.End = trimmed(text)
		s.Words = text[s.Start:s.End]
	}
	return s, ok
}

var asksToRemember = regexp.MustCompile(`(?i)^(?:(?:please|can you|could you|i want you to|i'd like you to|hey|ok|okay),? )*` +
	`(?:remember|note|keep in mind|bear in mind|don['’]t forget|do not forget|make a note|take a note|take note|write down|for the record|fyi|for your information|you should know|you need to know)` +
	`(?:(?:,|:| that|, that|: that| this:| for me that| for me:)\s+|\s+)`)

func trimmed(text string) (start, end int) {
	start = len(text) - len(strings.TrimLeft(text, " \t\r\n"))
	end = len(strings.TrimRight(text, " \t\r\n.!"))
	return start, max(start, end)
}

// askers begin a question or a command, whatever follows.
var askers = words(`who whom whose what which when where why how is are was were am do does did can could will would shall should
	may might must has had list show find search tell give get explain describe summarise summarize compare count name open translate
	write draft help let's whats who's what's where's when's how's if whether anybody anyone someone`)

// asks reports whether a sentence asks, by how it begins or, unless it is surely
// said as a fact, by a clause that asks.
func asks(tokens []lex.Token, explicit bool) bool {
	if askers[tokens[0].Text] || explicit {
		return askers[tokens[0].Text]
	}
	for _, t := range tokens {
		switch t.Text {
		case "who", "whom", "whose", "what", "which", "why", "how", "whether":
			return true
		}
	}
	return tokens[len(tokens)-1].Text == "when" || tokens[len(tokens)-1].Text == "where"
}

// manySentences reports whether a full stop, or the like, divides the text.
func manySentences(s string) bool {
	return sentenceEnd.MatchString(s) || strings.Contains(s, ";")
}

var sentenceEnd = regexp.MustCompile(`[.!:]\s+\p{Lu}`)

// copulas join a thing with what is said of it.
var copulas = words("is are was were equals becomes")

// owners are the words by which something is the speaker's.
var ownWords = map[string]string{"my": "I", "mine": "I", "our": "we", "ours": "we"}

// being takes "our release day is Thursday" apart.
func (s *Statement) being(tokens []lex.Token, explicit bool) bool {
	at := slices.IndexFunc(tokens, func(t lex.Token) bool { return copulas[t.Text] })
	skip := 1
	if at < 0 { // "will be", "has been"
		at = slices.IndexFunc(tokens, func(t lex.Token) bool { return t.Text == "will" || t.Text == "has" })
		if at < 0 || at+1 >= len(tokens) || tokens[at+1].Text != "be" && tokens[at+1].Text != "been" {
			return false
		}
		skip = 2
	}
	if at == 0 || at > maxNoun || at+skip >= len(tokens) || pronouns[tokens[0].Text] {
		return false
	}
	owner := ""
	for i, t := range tokens[:at] {
		if o := ownWords[t.Text]; o != "" && (i == 0 || explicit || tokens[i-1].Text == "of" || relations[tokens[i-1].Text] || i == 1 && tokens[0].Text == "all") {
			owner = o
			break
		}
	}
	if owner == "" && !explicit {
		return false
	}
	noun := s.Words[:tokens[at-1].End]
	value := tokens[at+skip:]
	s.Subject, s.Attribute = owner, bare(noun)
	s.Value = s.Words[value[0].Start:]
	if len(value) > 2 && participle(value[0].Text) && (prepositions[value[1].Text] || value[1].Text == "in") { // "approved by", "written in"
		s.Attribute += " " + s.Words[value[0].Start:value[1].End]
		s.Value = s.Words[value[2].Start:]
	}
	s.Slot = slot(owner, s.Attribute, "")
	return s.Attribute != ""
}

func participle(word string) bool {
	return strings.HasSuffix(word, "ed") || strings.HasSuffix(word, "en") || word == "kept" || word == "built" || word == "held" || word == "made"
}

var pronouns = words("i we it this that there here he she they you")

var relations = words("for in on at by to from with about")

// bare is a noun phrase without the words that only point at it.
func bare(noun string) string {
	fields := strings.Fields(noun)
	for len(fields) > 0 && pointers[lex.Fold(fields[0])] {
		fields = fields[1:]
	}
	return strings.Join(fields, " ")
}

var pointers = words("my our the a an this that these those your all")

// self takes "I am on call this week" apart.
func (s *Statement) self(tokens []lex.Token, explicit bool) bool {
	subject, at := "", 2
	switch tokens[0].Text {
	case "i'm", "i’m":
		subject, at = "I", 1
	case "we're", "we’re":
		subject, at = "we", 1
	case "i", "we":
		if len(tokens) < 3 || tokens[1].Text != "am" && tokens[1].Text != "are" && tokens[1].Text != "m" && tokens[1].Text != "re" {
			return false
		}
		subject = map[string]string{"i": "I", "we": "we"}[tokens[0].Text]
	default:
		return false
	}
	for at < len(tokens) && filler[tokens[at].Text] {
		at++
	}
	not := false
	rest := tokens[min(at, len(tokens)):]
	value := rest
	switch {
	case len(rest) > 1 && rest[0].Text == "not":
		not, rest = true, rest[1:]
	case len(rest) > 2 && rest[0].Text == "no" && rest[1].Text == "longer":
		not, rest = true, rest[2:]
	}
	if len(rest) == 0 || moods[rest[0].Text] || !explicit && strings.HasSuffix(rest[0].Text, "ing") && !states[rest[0].Text] {
		return false
	}
	s.Subject, s.Value = subject, s.Words[value[0].Start:]
	what := s.Words[rest[0].Start:]
	if at, _, ok := times(what); ok {
		what = what[:at]
	}
	what = strings.TrimRight(strings.TrimSuffix(strings.TrimSuffix(strings.TrimSpace(what), "any more"), "anymore"), " ,")
	if what == "" {
		return false
	}
	s.Attribute = what
	s.Slot = slot(subject, what, "")
	if i := slices.IndexFunc(rest, func(t lex.Token) bool { return prepositions[t.Text] || t.Text == "of" }); i > 0 && i+1 < len(rest) {
		s.Attribute = s.Words[rest[0].Start:rest[i].End] // "allergic to", "the lead of"
	}
	if places[rest[0].Text] && !not && !strings.HasPrefix(lex.Fold(what), "on call") && !strings.HasPrefix(lex.Fold(what), "on duty") {
		s.Attribute, s.Slot = rest[0].Text, slot(subject, "whereabouts", "")
	}
	return true
}

var (
	filler = words("currently now also still usually always normally")
	places = words("in at")
	// moods tell how the speaker feels about asking: no fact to keep.
	moods = words(`looking searching trying asking wondering curious unsure sure sorry afraid interested confused lost stuck unable having getting
		seeing facing going here back done ready missing hoping glad happy sad thinking about just really so very using running`)
	// states are words in -ing that tell where somebody stands.
	states = words("working leading managing living moving travelling traveling leaving joining reporting migrating sitting")
)

// called takes "call me Ada" apart.
func (s *Statement) called(tokens []lex.Token) bool {
	if len(tokens) < 3 || tokens[0].Text != "call" || tokens[1].Text != "me" && tokens[1].Text != "us" {
		return false
	}
	s.Subject = map[string]string{"me": "I", "us": "we"}[tokens[1].Text]
	s.Attribute, s.Value = "name", s.Words[tokens[2].Start:]
	s.Slot = slot(s.Subject, "name", "")
	return true
}

// verbs are what people and organisations do as a rule.
var verbs = words(`use prefer like love hate dislike work live own manage lead maintain release ship deploy meet report support speak drive eat
	follow keep host store sit start finish have take avoid buy pay develop build test belong study teach play sell rely trust drink
	freeze publish patch rotate review handle cover run serve close open begin stop`)

// notHad are objects that only tell of a question to come.
var notHad = words("question questions problem problems issue issues trouble idea request doubt bug to no any some one tried been got")

// doing takes "we use Postgres for billing" apart.
func (s *Statement) doing(tokens []lex.Token, explicit bool) bool {
	subject := map[string]string{"i": "I", "we": "we"}[tokens[0].Text]
	if subject == "" {
		return false
	}
	at := 1
	for at < len(tokens) && (filler[tokens[at].Text] || tokens[at].Text == "never" || tokens[at].Text == "only" || tokens[at].Text == "mostly") {
		at++
	}
	not := false
	if at+1 < len(tokens) && (tokens[at].Text == "don't" || tokens[at].Text == "don’t") {
		not, at = true, at+1
	} else if at+2 < len(tokens) && tokens[at].Text == "do" && tokens[at+1].Text == "not" {
		not, at = true, at+2
	}
	if at+1 >= len(tokens) || !verbs[tokens[at].Text] {
		return false
	}
	verb, object := tokens[at], tokens[at+1:]
	if !explicit && (notHad[object[0].Text] || (object[0].Text == "a" || object[0].Text == "an") && len(object) > 1 && notHad[object[1].Text]) {
		return false
	}
	s.Subject, s.Attribute, s.Value = subject, verb.Text, s.Words[object[0].Start:]
	if not {
		s.Value = s.Words[tokens[1].Start:]
	}
	if prepositions[object[0].Text] && !not { // where, when and with whom something is done is one thing at a time
		s.Attribute += " " + object[0].Text
		s.Slot = slot(subject, s.Attribute, "")
		return true
	}
	s.Slot = slot(subject, verb.Text, s.Words[object[0].Start:])
	return true
}

var prepositions = words("on in at every each from to with for until by as under")

// does takes "our sprint ends on Friday" apart.
func (s *Statement) does(tokens []lex.Token) bool {
	owner := ownWords[tokens[0].Text]
	if owner == "" {
		return false
	}
	at := slices.IndexFunc(tokens, func(t lex.Token) bool { return strings.HasSuffix(t.Text, "s") && thirdPerson[t.Stem] })
	if at < 2 || at > maxNoun || at+1 >= len(tokens) {
		return false
	}
	s.Subject, s.Attribute, s.Value = owner, bare(s.Words[:tokens[at].End]), s.Words[tokens[at+1].Start:]
	s.Slot = slot(owner, s.Attribute, "")
	return true
}

// thirdPerson are the stems of what things do, as in "ends".
var thirdPerson = stemmed(`use own lead maintain meet report follow start begin finish end take run serve close open stop come go change expire
	last leave arrive cost belong live sit need happen rotate cover require contain hold send`)

// slot names what a statement is about, apart from what it says of it. What the
// speaker's organisation has and what is named without an owner are one.
func slot(subject, attribute, object string) string {
	if subject == "we" {
		subject = ""
	}
	var stems []string
	for _, t := range lex.Tokens(joined(attribute + " " + object)) {
		if !pointers[t.Text] {
			stems = append(stems, t.Stem)
		}
	}
	slices.Sort(stems)
	return subject + "|" + strings.Join(slices.Compact(stems), " ")
}

func words(list string) map[string]bool {
	out := map[string]bool{}
	for _, w := range strings.Fields(list) {
		out[w] = true
	}
	return out
}
