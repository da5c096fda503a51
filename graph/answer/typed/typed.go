// Package typed finds what a question asks for (a date, a number, a name …) and
// the spans of a sentence that could be it.
//
// It is all rules over words, so that what it marks in a quotation can be
// explained. It promises nothing about recall: a span that it does not find is
// simply not set in bold. It may import graph/search/lex.
package typed

import (
	"regexp"
	"sort"
	"strings"

	"github.com/cloister-os/cloister/graph/search/lex"
)

// Kind is the kind of thing that a question asks for.
type Kind string

// The kinds. Any is for questions whose answer has no recognisable form.
const (
	Any      Kind = ""
	Date     Kind = "date"
	Number   Kind = "number"
	Duration Kind = "duration"
	Money    Kind = "money"
	Percent  Kind = "percent"
	Size     Kind = "size"
	Version  Kind = "version"
	Name     Kind = "name"
	Address  Kind = "address" // mail address, URL, host:port
	Path     Kind = "path"
	Place    Kind = "place" // asked for by "where"; no span has it
)

// Span is a part of a sentence that has a kind.
type Span struct {
	Kind  Kind
	Start int // bytes
	End   int
}

const (
	months = `(?:january|february|march|april|may|june|july|august|september|october|november|december|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)\.?`
	count  = `(?:\d[\d,]*(?:\.\d+)?|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|(?:a )?hundred|(?:a )?thousand)(?:[ -](?:one|two|three|four|five|six|seven|eight|nine|hundred|thousand|million|billion|trillion))*`
)

// patterns are tried in order; a span inside an earlier one is dropped, so a
// date is not also three numbers.
var patterns = []struct {
	kind Kind
	re   *regexp.Regexp
}{
	{Address, regexp.MustCompile(`(?i)\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+|\b[a-z][a-z0-9+.-]*://[^\s<>"')\]]+[\w/]|\b[a-z0-9-]+(?:\.[a-z0-9-]+)+:\d{2,5}\b`)},
	{Path, regexp.MustCompile(`(?:^|[\s"'` + "`" + `(])(/?(?:[\w.@-]+/)+[\w.@-]*\w|[\w-]+\.(?:go|md|txt|html?|ya?ml|toml|json|js|ts|py|rs|c|h|cpp|java|rb|sh|sql|css|conf|cfg|ini|xml|csv|proto|mod|sum|lock|service))\b`)},
	{Date, regexp.MustCompile(`(?i)\b\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2})?(?:Z|[+-]\d{2}:?\d{2})?)?\b|\b\d{1,2}[./]\d{1,2}[./]\d{2,4}\b`)},
	{Date, regexp.MustCompile(`(?i)\b(?:\d{1,2}(?:st|nd|rd|th)?(?: of)? ` + months + `|` + months + ` \d{1,2}(?:st|nd|rd|th)?)(?:,? \d{4})?\b|\b` + months + `,? (?:of )?\d{4}\b`)},
	{Date, regexp.MustCompile(`(?i)\b(?:\d{1,2}(?:st|nd|rd|th)|` + ordinals + `) centur(?:y|ies)\b|\b1[0-9]{3}s?\b|\b20[0-9]{2}s?\b|\b\d{1,4} ?(?:BC|AD|BCE|CE)\b|\bQ[1-4](?: \d{4})?\b`)},
	{Date, regexp.MustCompile(`(?:January|February|March|April|June|July|August|September|October|November|December)\b|(?i)\b(?:(?:on|every|each|until|by) )?(?:mon|tues|wednes|thurs|fri|satur|sun)days?\b|\b\d{1,2}:\d{2}(?: ?[ap]m)?(?: UTC)?\b|\b\d{1,2} ?[ap]\.?m\b|\b(?:midnight|noon)\b`)},
	{Money, regexp.MustCompile(`(?i)[$€£¥] ?\d[\d,]*(?:\.\d+)?(?: ?(?:thousand|million|billion|trillion|k|m|bn))?\b|\b` + count + ` (?:dollars?|euros?|pounds?|cents?|francs?|usd|eur|gbp|chf|yen)\b`)},
	{Percent, regexp.MustCompile(`(?i)\b` + count + `(?: ?%| per ?cent\b| percentage points?\b)`)},
	{Duration, regexp.MustCompile(`(?i)\b` + count + `[ -]?(?:nanoseconds?|microseconds?|milliseconds?|seconds?|secs?|minutes?|mins?|hours?|hrs?|days?|weeks?|fortnights?|months?|quarters?|years?|decades?|ms|s|h)\b|\b(?:hourly|daily|nightly|weekly|fortnightly|monthly|quarterly|yearly|annually|(?:once|twice) (?:a|per|every) (?:second|minute|hour|day|night|week|month|quarter|year)|every (?:second|minute|hour|day|night|week|month|quarter|year))\b`)},
	{Size, regexp.MustCompile(`(?i)\b` + count + ` ?(?:bytes?|[kmgtp]i?b|kilobytes?|megabytes?|gigabytes?|terabytes?|bits?|[kmg]bit/s|mbps|gbps)\b`)},
	{Version, regexp.MustCompile(`\bv\d+(?:\.\d+)*(?:[-+][\w.]+)?\b|\b\d+\.\d+\.\d+(?:[-+][\w.]+)?\b`)},
	{Name, regexp.MustCompile(`\b\pL[\pL\d]*[-_]\d+[\w-]*|\b\pL+(?:-\pL+)*-\d+\b`)}, // heron-3, RFC-2119
	{Number, regexp.MustCompile(`(?i)\b` + count + `\b`)},
}

const ordinals = `first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|eleventh|twelfth|thirteenth|fourteenth|fifteenth|sixteenth|seventeenth|eighteenth|nineteenth|twentieth|twenty-first`

// Spans finds the typed spans of a sentence, in order, none inside another.
func Spans(sentence string) []Span {
	var out []Span
	for _, p := range patterns {
		for _, m := range p.re.FindAllStringSubmatchIndex(sentence, -1) {
			s := Span{p.kind, m[0], m[1]}
			if len(m) > 2 && m[2] >= 0 {
				s.Start, s.End = m[2], m[3]
			}
			if !overlaps(out, s) {
				out = append(out, s)
			}
		}
	}
	for _, s := range names(sentence) {
		if !overlaps(out, s) {
			out = append(out, s)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Start < out[j].Start })
	return out
}

func overlaps(spans []Span, s Span) bool {
	for _, o := range spans {
		if s.Start < o.End && o.Start < s.End {
			return true
		}
	}
	return false
}

// nameRun matches capitalised words, joined by small words that names contain.
var nameRun = regexp.MustCompile(`\b(?:\p{Lu}[\p{L}\p{N}'’&-]*|\p{L}*\p{Lu}\p{L}*\p{Lu}\p{L}*)(?:(?: (?:of|the|de|van|von|der|den|la|le|du|al|bin|and)){0,2} (?:\p{Lu}[\p{L}\p{N}'’&-]*|\d+\b)| \p{Lu}\.)*`)

// names finds runs of capitalised words. A single word that opens the sentence
// is none when it is a common opener: any word of the language can stand there.
func names(sentence string) []Span {
	var out []Span
	for _, m := range nameRun.FindAllStringIndex(sentence, -1) {
		start, end := m[0], m[1]
		for start < end {
			word, rest, more := strings.Cut(sentence[start:end], " ")
			if !lex.IsStop(lex.Fold(word)) {
				break
			}
			if !more {
				start = end
				break
			}
			start = end - len(rest)
		}
		if start < end && !(start == 0 && !strings.Contains(sentence[:end], " ") && opener(sentence[:end])) {
			out = append(out, Span{Name, start, end})
		}
	}
	return out
}

// opener reports whether a word that opens a sentence is unlikely to be a name.
func opener(word string) bool {
	w := lex.Fold(word)
	switch w {
	case "whoever", "whatever", "whenever", "nothing", "nobody", "someone", "somebody", "everyone", "everybody", "everything", "anyone",
		"anything", "something", "larger", "older", "earlier", "later", "newer", "smaller", "never", "always", "often", "today", "once",
		"another", "either", "neither", "further", "however", "therefore", "besides", "instead", "note", "until", "since", "while", "see", "use", "run", "set", "add", "ask", "read", "write", "keep", "make":
		return true
	}
	for _, suffix := range []string{"ing", "ed", "ly", "tion", "ment", "ness", "s"} {
		if strings.HasSuffix(w, suffix) && len(w) > len(suffix)+2 {
			return true
		}
	}
	return len(w) < 3
}
