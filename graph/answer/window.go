package answer

import (
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	monthNames = `january|february|march|april|may|june|july|august|september|october|november|december`
	monthShort = `jan|feb|mar|apr|jun|jul|aug|sep|sept|oct|nov|dec`
	unitNames  = `day|week|month|quarter|year`
)

// windowRule turns the words that a pattern matches into a window.
type windowRule struct {
	re   *regexp.Regexp
	make func(m []string, now time.Time) Window
}

var windowRules = []windowRule{
	{regexp.MustCompile(`(?i)\b(?:between|from) (\d{4}-\d{2}-\d{2}) (?:and|to|until|till) (\d{4}-\d{2}-\d{2})\b`), func(m []string, now time.Time) Window {
		return Window{From: day(m[1], now), To: day(m[2], now).AddDate(0, 0, 1)}
	}},
	{regexp.MustCompile(`(?i)\b(since|after|before|until|till|on)? ?(\d{4}-\d{2}-\d{2})\b`), func(m []string, now time.Time) Window {
		from := day(m[2], now)
		return bounded(m[1], from, from.AddDate(0, 0, 1))
	}},
	{regexp.MustCompile(`(?i)\b(since|after|before|until|till|in|during|of)? ?(` + monthNames + `|` + monthShort + `)\.?,?(?: of)? (\d{4})\b`), func(m []string, now time.Time) Window {
		from := time.Date(number(m[3]), month(m[2]), 1, 0, 0, 0, 0, now.Location())
		return bounded(m[1], from, from.AddDate(0, 1, 0))
	}},
	{regexp.MustCompile(`(?i)\b(since|after|before|until|till|in|during) (?:the year )?((?:19|20)\d{2})\b`), func(m []string, now time.Time) Window {
		from := time.Date(number(m[2]), 1, 1, 0, 0, 0, 0, now.Location())
		return bounded(m[1], from, from.AddDate(1, 0, 0))
	}},
	{regexp.MustCompile(`(?i)\b(since|after|before|until|in|during) (` + monthNames + `)\b`), func(m []string, now time.Time) Window {
		from := time.Date(now.Year(), month(m[2]), 1, 0, 0, 0, 0, now.Location())
		if from.After(now) {
			from = from.AddDate(-1, 0, 0)
		}
		return bounded(m[1], from, from.AddDate(0, 1, 0))
	}},
	{regexp.MustCompile(`(?i)\b(?:in|over|during|within) the (?:last|past) (\d+) (` + unitNames + `)s?\b|\b(?:last|past) (\d+) (` + unitNames + `)s?\b`), func(m []string, now time.Time) Window {
		n, unit := m[1], m[2]
		if n == "" {
			n, unit = m[3], m[4]
		}
		return Window{From: shift(now, unit, -number(n)), To: now}
	}},
	{regexp.MustCompile(`(?i)\b(?:(?:in|during) the )?(this|last|past|previous) (week|month|quarter|year)\b`), func(m []string, now time.Time) Window {
		from := begin(now, m[2])
		if strings.EqualFold(m[1], "this") {
			return Window{From: from, To: shift(from, m[2], 1)}
		}
		return Window{From: shift(from, m[2], -1), To: from}
	}},
	{regexp.MustCompile(`(?i)\b(today|yesterday)\b`), func(m []string, now time.Time) Window {
		from := begin(now, "day")
		if strings.EqualFold(m[1], "yesterday") {
			from = from.AddDate(0, 0, -1)
		}
		return Window{From: from, To: from.AddDate(0, 0, 1)}
	}},
}

// windowOf finds the first stretch of time that a question names, seen from now,
// and where its words stand.
func windowOf(text string, now time.Time) (w Window, start, end int) {
	for _, rule := range windowRules {
		m := rule.re.FindStringSubmatchIndex(text)
		if m == nil {
			continue
		}
		groups := make([]string, len(m)/2)
		for i := range groups {
			if m[2*i] >= 0 {
				groups[i] = text[m[2*i]:m[2*i+1]]
			}
		}
		w := rule.make(groups, now)
		w.Text = text[m[0]:m[1]]
		return w, m[0], m[1]
	}
	return Window{}, 0, 0
}

// bounded applies "since", "before" and the like to the stretch [from, to).
func bounded(word string, from, to time.Time) Window {
	switch strings.ToLower(word) {
	case "since":
		return Window{From: from}
	case "after":
		return Window{From: to}
	case "before":
		return Window{To: from}
	case "until", "till":
		return Window{To: to}
	}
	return Window{From: from, To: to}
}

func day(s string, now time.Time) time.Time {
	t, err := time.ParseInLocation(time.DateOnly, s, now.Location())
	if err != nil {
		return begin(now, "day")
	}
	return t
}

func month(s string) time.Month {
	for m := time.January; m <= time.December; m++ {
		if strings.HasPrefix(strings.ToLower(m.String()), strings.ToLower(s)[:3]) {
			return m
		}
	}
	return time.January
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0
	}
	return min(n, 10_000)
}

// begin is the start of the day, week (Monday), month, quarter or year.
func begin(t time.Time, unit string) time.Time {
	y, m, d := t.Date()
	switch strings.ToLower(unit) {
	case "week":
		d -= (int(t.Weekday()) + 6) % 7
	case "month":
		d = 1
	case "quarter":
		m, d = (m-1)/3*3+1, 1
	case "year":
		m, d = 1, 1
	}
	return time.Date(y, m, d, 0, 0, 0, 0, t.Location())
}

func shift(t time.Time, unit string, n int) time.Time {
	switch strings.ToLower(unit) {
	case "week":
		return t.AddDate(0, 0, 7*n)
	case "month":
		return t.AddDate(0, n, 0)
	case "quarter":
		return t.AddDate(0, 3*n, 0)
	case "year":
		return t.AddDate(n, 0, 0)
	}
	return t.AddDate(0, 0, n)
}
