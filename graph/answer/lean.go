package answer

import (
	"regexp"
	"sort"
	"strings"
	"unicode"

	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/search/lex"
)

// leaning is what in a question stands for something that an earlier turn of
// its conversation said. A question without any of it stands for itself, and
// nothing of the conversation touches it.
type leaning struct {
	lead    bool   // it begins with "and", "what about"
	things  []span // "it", "that file"
	people  []span // "she", "that person"
	noun    string // of "that file", "that release": what kind of thing is meant
	event   bool   // "that": what the turn before found, as in "when was that?"
	side    Side   // "before that", "the next one"
	firm    bool   // the side names "that", so that it says nothing by itself
	named   string // what the side is about: "release" in "the release before"
	since   bool   // "since then"
	until   bool   // "until then"
	unit    string // "that year"
	besides bool   // "else"
	why     bool
	reason  span   // the words of why
	count   bool   // "how many" without what: of the question before
	other   string // "the other one": what it is called
	them    bool   // "who are they", "which ones"
	bare    bool   // question words alone: "when?", "by whom?"
	name    bool   // a name alone, or with "and": "and src/retry.go?"
	cut     []span // what is taken out before the rest is read
}

// span is a range of a question's bytes.
type span struct{ start, end int }

// any reports whether the question leans on anything.
func (l leaning) any() bool {
	return len(l.things)+len(l.people) > 0 || l.event || l.side != "" || l.since || l.until || l.unit != "" || l.besides || l.why || l.other != "" || l.them || l.bare || l.name
}

// The words that lean. A name or a time that the question itself says has been
// blanked before they are looked for.
var (
	leadRule   = regexp.MustCompile(`(?i)^\W*(?:(?:ok(?:ay)?|so|no|then|well|now|hm+|oh|right|thanks|thank you)\W+)*(and|but|also|or|plus|what about|how about|(?:now )?(?:the )?same(?: question)? for|likewise for|what of|i mean|i meant)\b(?:\W+(?:what about|how about|also|then|now|for|the same for))?`)
	olderRule  = regexp.MustCompile(`(?i)\b(?:(?:just |right |immediately )?(?:before|prior to|earlier than|preceding) (?:that|this|then|it|him|her|them)(?: (?:one|change|commit|edit|date|day|time|release|version|person|revision))?(?:\W*$|\W+(?:in|on|to|of|and)\b)|previously\W*$|beforehand|earlier(?: still)?\W*$|(?:just |right )?before\W*$|(?:one |a )?(?:step |change |commit )?(?:more |further |farther )+back\W*$)`)
	olderNoun  = regexp.MustCompile(`(?i)\b(?:the )?(?:(one|change|commit|edit|person|author|release|version|revision|modification|editor) (?:just |right |immediately )?before(?: (?:that|this|it|him|her))?(?: one)?\W*$|(?:previous|preceding|prior|next.to.last|last.but.one|second.to.last|second.last|penultimate) (one|change|commit|edit|person|author|editor|revision|modification|release|version|time|contributor)\b(?:\W+(?:of|to) (?:it|that file|that|this file)\b)?)`)
	firmRule   = regexp.MustCompile(`(?i)\b(?:that|this|then|it|him|her|them)\b`)
	possessive = regexp.MustCompile(`(?i)^(?:its|his|her|hers|their)\W`)
	newerRule  = regexp.MustCompile(`(?i)\b(?:(?:just |right |immediately )?(?:after|following|later than) (?:that|this|it|him|her|them)(?: (?:one|change|commit|edit|date|day|time|release|version|person))?\W*$|next\W*$|afterwards?|subsequently)`)
	newerNoun  = regexp.MustCompile(`(?i)\b(?:the )?(?:(one|change|commit|edit|person|release|version) (?:just |right )?after(?: (?:that|this|it|him|her))?(?: one)?\W*$|(?:next|following|subsequent) (one|change|commit|edit|person|author|revision|modification|release|version)\b)`)
	sinceRule  = regexp.MustCompile(`(?i)\b(?:ever |all )?(?:since (?:then|that|this|it happened)|from (?:then|that (?:day|point|moment)) on(?:wards)?)(?: (?:change|commit|edit|date|day|point|release|version))?\b|\bever since\b|\bsince\W*$`)
	untilRule  = regexp.MustCompile(`(?i)\b(?:until|till|up to|by) (?:then|that (?:day|date|point|time))\b`)
	unitRule   = regexp.MustCompile(`(?i)\b(?:(?:in|on|during|within) )?(?:that|the same|that same) (day|date|week|month|quarter|year)\b|\b(back then|at (?:that|the) time)\b`)
	personRule = regexp.MustCompile(`(?i)\b(?:she|he|him|her|his|hers|they|their|them)\b|\b(?:that|this|the same) (?:person|author|developer|committer|engineer|contributor|colleague|guy|woman|man|programmer|editor)\b`)
	thingRule  = regexp.MustCompile(`(?i)\b(?:it|its)\b|\b(?:that|this|the same|said) (file|module|script|component|service|feature|release|version|tag|path|thing|source|repository|repo|package)\b|\b(?:that|the same) (document|doc|page|guide|article)\b`)
	countRule  = regexp.MustCompile(`(?i)\bhow many\W+(?:did|has|have|had|were|are|was|by|from|for|in|of|#)|\bhow many\W*$`)
	eventNoun  = regexp.MustCompile(`(?i)\b(?:(?:in|with|by|of|for|behind) )?(?:that|this|the same) (?:change|commit|edit|modification|revision|rename|removal|addition)\b`)
	eventRule  = regexp.MustCompile(`(?i)\b(?:was|is|were|did|do|does|done|has|made|happen|happened|of|about|built|wrote|added|introduced|removed|deleted|renamed|fixed|committed|caused) (that|this)(?:\W*$|\W+(?:happen|happened|change|changed|done|made|in|on|by|exactly|commit|take place|from)\b)|\b(that) was\W*$|^\W*(?:(?:and|but|so)\W+)?(?:that|this)\W*$`)
	elseRule   = regexp.MustCompile(`(?i)\b(?:else|(?:besides|apart from|other than|except(?: for)?|aside from) (?:him|her|them|that|it|this)(?: one| person)?)\b`)
	elseNoun   = regexp.MustCompile(`(?i)\b(?:which|what|any) (other) (?:people|persons|person|developers|authors|contributors|engineers|colleagues|commits|changes|files|work|things)\b`)
	whyRule    = regexp.MustCompile(`(?i)^\W*(?:(?:and|but|so|ok|okay|then)\W+)*(?:why|how come|for what reason|for what purpose|what for|what (?:is|was) the (?:reason|motivation|purpose|rationale)|what'?s the reason)\b`)
	otherRule  = regexp.MustCompile(`(?i)\b(?:(?:in|from|of|about|for) )?(?:the )?other (one|file|repo|repository|source|project|codebase)\b(?: of that name| with that name)?|\bthe other\W*$`)
	themRule   = regexp.MustCompile(`(?i)\b(?:who|which|what) (?:are|were) (?:they|those|these|the others)\b|\bwhich (?:ones|of them)\b|\b(?:list|show|name)(?: me)? (?:them|those|these)\b`)
	fillerRule = regexp.MustCompile(`(?i)\b(?:it|its)\b[^?]*\b(?:that|to|how|whether|if)\b`)
	expletive  = regexp.MustCompile(`(?i)\b(?:(?:does|did|will|would|can|could|should|may) it (?:take|make sense|matter|help|cost|happen|need)|(?:is|was) it (?:documented|described|explained|written|possible|true|safe|allowed|necessary|required|known|permitted|worth|that|stated|mentioned|defined|decided|agreed|ok|okay|time)|make it|it (?:is|was|takes|took))\b`)
	clauseRule = regexp.MustCompile(`(?i),|;|\b(?:if|when|after|before|once|because|while|unless|until|though|that|which|who|where|and|but|so)\b`)
	verbRule   = regexp.MustCompile(`(?i)\b(?:who|whom|whose|when|where|what|which|how|why|is|was|were|are|did|does|do|has|have|had|can|could|may|must|should|will|would|list|show|tell|name|give)\b`)
	bareRule   = regexp.MustCompile(`(?i)^(?:and|but|so|ok|okay|then|who|whom|when|where|which|what|by|in|on|at|since|the|a|was|is|did|it|that|release|version|tag|commit|date|day|time|year|month|exactly|precisely|how|often|many|times|much|people|person|author|else|changed|made|done|do|happen|happened|from|of|first|for|also|please|you|know|anyone|anybody|somebody|someone)$`)
)

// leans finds what a question leans on. What names something or a time in its
// own words is blank in the text that is looked at.
func (rd reading) leans(windowStart, windowEnd int) leaning {
	text := rd.blanked(windowStart, windowEnd)
	var l leaning
	l.findLead(text)
	own := rd.ownThing()
	_, ownPerson := rd.first(graph.Person)
	l.findPlace(&text)
	l.findMarks(&text)
	if !ownPerson {
		l.findPeople(rd, &text)
	}
	if !own {
		l.findThings(rd, text)
	}
	l.findShort(rd, text, own || ownPerson, windowEnd > windowStart)
	sort.Slice(l.cut, func(i, j int) bool { return l.cut[i].start < l.cut[j].start })
	return l
}

// ownThing reports whether the question names a thing by itself.
func (rd reading) ownThing() bool {
	for _, m := range rd.mentions {
		if m.quoted || len(m.found) > 0 && m.kind() != graph.Person && m.kind() != graph.Repository {
			return true
		}
	}
	return len(rd.missing()) > 0
}

// blanked is the question's text with a mark in place of what it names.
func (rd reading) blanked(windowStart, windowEnd int) string {
	b := []byte(rd.text)
	blank(b, windowStart, windowEnd)
	for _, m := range rd.mentions {
		blank(b, m.start, m.end)
	}
	for _, name := range rd.missing() {
		if i := strings.Index(rd.text, name); i >= 0 {
			blank(b, i, i+len(name))
		}
	}
	return string(b)
}

func blank(b []byte, start, end int) {
	for i := start; i < end; i++ {
		b[i] = '#'
	}
}

// take finds a rule's match, and blanks it so that no other rule sees it.
func (l *leaning) take(text *string, rule *regexp.Regexp) (words string, ok bool) {
	m := rule.FindStringSubmatchIndex(*text)
	if m == nil {
		return "", false
	}
	words = strings.ToLower(group(*text, m))
	l.cut = append(l.cut, span{m[0], m[1]})
	b := []byte(*text)
	blank(b, m[0], m[1])
	*text = string(b)
	return words, true
}

func (l *leaning) findLead(text string) {
	if m := leadRule.FindStringIndex(text); m != nil {
		l.lead = true
		l.cut = append(l.cut, span{m[0], m[1]})
	}
}

// findPlace finds what is told by its place beside something.
func (l *leaning) findPlace(text *string) {
	for _, r := range []struct {
		rule *regexp.Regexp
		side Side
		firm bool
	}{{olderNoun, Older, false}, {newerNoun, Newer, false}, {olderRule, Older, true}, {newerRule, Newer, true}} {
		if l.side != "" {
			return
		}
		at := len(l.cut)
		before := *text
		if noun, ok := l.take(text, r.rule); ok {
			l.side, l.named = r.side, noun
			l.firm = r.firm && firmRule.MatchString(before[l.cut[at].start:l.cut[at].end])
		}
	}
}

// findMarks finds the other words that lean and are no pronouns.
func (l *leaning) findMarks(text *string) {
	_, l.since = l.take(text, sinceRule)
	_, l.until = l.take(text, untilRule)
	if unit, ok := l.take(text, unitRule); ok {
		l.unit = unit
		if unit != "week" && unit != "month" && unit != "quarter" && unit != "year" {
			l.unit = "day"
		}
	}
	if noun, ok := l.take(text, otherRule); ok {
		if l.other = noun; noun == "" {
			l.other = "one"
		}
	}
	_, l.them = l.take(text, themRule)
	_, l.besides = l.take(text, elseRule)
	if m := elseNoun.FindStringSubmatchIndex(*text); m != nil && !l.besides {
		l.besides = true
		l.cut = append(l.cut, span{m[2], m[3]})
	}
	if m := whyRule.FindStringIndex(*text); m != nil {
		l.why, l.reason = true, span{m[0], m[1]}
	}
	if _, ok := l.take(text, eventNoun); ok {
		l.event = true
	}
	if m := eventRule.FindStringSubmatchIndex(*text); m != nil && !l.event {
		l.event = true
		if m[2] >= 0 {
			l.cut = append(l.cut, span{m[2], m[3]})
		}
	}
}

// findPeople finds pronouns for a person that the same sentence does not explain.
func (l *leaning) findPeople(rd reading, text *string) {
	for _, m := range personRule.FindAllStringIndex(*text, maxNameWords) {
		if rd.explained(*text, m[0]) {
			continue
		}
		l.people = append(l.people, span{m[0], m[1]})
	}
	for _, s := range l.people {
		b := []byte(*text)
		blank(b, s.start, s.end)
		*text = string(b)
	}
}

// group is the first group of a match that took part in it.
func group(text string, m []int) string {
	for g := 2; g+1 < len(m); g += 2 {
		if m[g] >= 0 {
			return text[m[g]:m[g+1]]
		}
	}
	return ""
}

// findThings finds pronouns for a thing, but those that stand for nothing ("how
// long does it take to …") and those that the same sentence explains.
func (l *leaning) findThings(rd reading, text string) {
	for _, m := range thingRule.FindAllStringSubmatchIndex(text, maxNameWords) {
		if noun := strings.ToLower(group(text, m)); noun != "" {
			l.noun = noun
		} else if rd.standsForNothing(text, m[0], m[1]) || rd.explained(text, m[0]) {
			continue
		}
		l.things = append(l.things, span{m[0], m[1]})
	}
}

// standsForNothing knows "it" that says nothing because the sentence goes on to
// say it: "is it documented how to restore".
func (rd reading) standsForNothing(text string, start, end int) bool {
	for _, m := range expletive.FindAllStringIndex(text, -1) {
		if m[0] <= start && end <= m[1] {
			return fillerRule.MatchString(text[start:]) || rd.contentIn(m[1], len(text))
		}
	}
	return false
}

// explained reports whether the question says before the pronoun what it is: in
// a clause of its own, or, of "its", anywhere.
func (rd reading) explained(text string, at int) bool {
	if possessive.MatchString(text[at:]+" ") && rd.contentIn(0, at) {
		return true
	}
	for _, m := range clauseRule.FindAllStringIndex(text[:at], -1) {
		if m[0] > 0 && rd.contentIn(0, m[0]) {
			return true
		}
	}
	return false
}

// contentIn reports whether a stretch holds words that are about something.
func (rd reading) contentIn(start, end int) bool {
	for i, t := range rd.tokens {
		if t.Start >= start && t.End <= end && !rd.masked[i] && !lex.IsStop(t.Text) && rd.each[i]&^(cDo|cContain|cFile|cFeature|cPeople|cList) == 0 && !light[t.Stem] {
			return true
		}
	}
	return false
}

// findShort finds questions that say too little to stand alone.
func (l *leaning) findShort(rd reading, text string, named, timed bool) {
	rest := strings.TrimSpace(l.without(text))
	words := strings.FieldsFunc(rest, func(r rune) bool { return !unicode.IsLetter(r) && r != '\'' })
	asks := verbRule.MatchString(rest)
	l.count = countRule.MatchString(rest)
	bare := len(words) > 0
	for _, w := range words {
		bare = bare && bareRule.MatchString(w)
	}
	switch {
	case l.count && (named || timed):
		l.name = true
	case named:
		l.name = !asks && len(contentWords(words)) == 0
	case bare && (asks || l.lead):
		l.bare = true
	case l.lead && !asks && (len(words) > 0 || timed):
		l.name = true
	case timed && len(contentWords(words)) == 0 && !asks:
		l.name = true
	}
}

func contentWords(words []string) []string {
	var out []string
	for _, w := range words {
		if w = lex.Fold(w); !lex.IsStop(w) {
			out = append(out, w)
		}
	}
	return out
}

// without is the text with what leans and has been found taken out.
func (l leaning) without(text string) string {
	b := []byte(text)
	for _, s := range l.cut {
		for i := s.start; i < s.end; i++ {
			b[i] = ' '
		}
	}
	return string(b)
}
