package speech

import (
	"regexp"
	"strings"
	"time"
)

// timePhrase finds the words that say for how long something is true.
var timePhrase = regexp.MustCompile(`(?i)\b(?:(?:for |during |all )?(?:today|tonight|tomorrow|(?:this|next) (?:week|month|year|quarter))|` +
	`(?:until|till|through) (?:the end of )?(?:(?:this|next) (?:week|month|year)|(?:next )?` + weekday + `|\d{4}-\d{2}-\d{2}))\b`)

const weekday = `(?:mon|tues|wednes|thurs|fri|satur|sun)day`

// times finds the first phrase that says for how long, as a range of bytes.
func times(s string) (start, end int, ok bool) {
	m := timePhrase.FindStringIndex(s)
	if m == nil {
		return 0, 0, false
	}
	return m[0], m[1], true
}

// valid is for how long a statement holds by its own words: from now, or the
// beginning of what it names, until its end. Both are zero when it does not say.
func valid(s string, now time.Time) (from, until time.Time) {
	start, end, ok := times(s)
	if !ok {
		return from, until
	}
	phrase := strings.ToLower(s[start:end])
	for _, lead := range []string{"for ", "during ", "all "} {
		phrase = strings.TrimPrefix(phrase, lead)
	}
	if rest, ok := cutAny(phrase, "until ", "till ", "through "); ok {
		_, until = span(strings.TrimPrefix(rest, "the end of "), now)
		return now, until
	}
	return span(phrase, now)
}

func cutAny(s string, prefixes ...string) (string, bool) {
	for _, p := range prefixes {
		if rest, ok := strings.CutPrefix(s, p); ok {
			return rest, true
		}
	}
	return s, false
}

// span is the time that a phrase names, its end left out.
func span(phrase string, now time.Time) (from, until time.Time) {
	day := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, now.Location())
	monday := day.AddDate(0, 0, -(int(day.Weekday())+6)%7)
	month := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, now.Location())
	quarter := time.Date(now.Year(), (now.Month()-1)/3*3+1, 1, 0, 0, 0, 0, now.Location())
	year := time.Date(now.Year(), 1, 1, 0, 0, 0, 0, now.Location())
	switch phrase {
	case "today", "tonight":
		return day, day.AddDate(0, 0, 1)
	case "tomorrow":
		return day.AddDate(0, 0, 1), day.AddDate(0, 0, 2)
	case "this week":
		return monday, monday.AddDate(0, 0, 7)
	case "next week":
		return monday.AddDate(0, 0, 7), monday.AddDate(0, 0, 14)
	case "this month":
		return month, month.AddDate(0, 1, 0)
	case "next month":
		return month.AddDate(0, 1, 0), month.AddDate(0, 2, 0)
	case "this quarter":
		return quarter, quarter.AddDate(0, 3, 0)
	case "next quarter":
		return quarter.AddDate(0, 3, 0), quarter.AddDate(0, 6, 0)
	case "this year":
		return year, year.AddDate(1, 0, 0)
	case "next year":
		return year.AddDate(1, 0, 0), year.AddDate(2, 0, 0)
	}
	if t, err := time.ParseInLocation(time.DateOnly, phrase, now.Location()); err == nil {
		return t, t.AddDate(0, 0, 1)
	}
	name := strings.TrimPrefix(phrase, "next ")
	for i := range 7 { // the coming one; today's name is a week from now
		if d := day.AddDate(0, 0, i+1); strings.EqualFold(d.Weekday().String(), name) {
			return d, d.AddDate(0, 0, 1)
		}
	}
	return from, until
}
