package answer

import (
	"testing"
	"time"
)

func TestWindowOf(t *testing.T) {
	now := time.Date(2026, 11, 25, 15, 4, 0, 0, time.UTC) // a Wednesday
	for _, c := range []struct{ text, from, to string }{
		{"What did Ada do yesterday?", "2026-11-24", "2026-11-25"},
		{"today", "2026-11-25", "2026-11-26"},
		{"How many commits last week?", "2026-11-16", "2026-11-23"},
		{"this month", "2026-11-01", "2026-12-01"},
		{"last quarter", "2026-07-01", "2026-10-01"},
		{"in May 2025", "2025-05-01", "2025-06-01"},
		{"in May", "2026-05-01", "2026-06-01"},
		{"in December", "2025-12-01", "2026-01-01"},
		{"since January 2025", "2025-01-01", ""},
		{"before 2025-03-04", "", "2025-03-04"},
		{"after 2025-03-04", "2025-03-05", ""},
		{"between 2025-03-04 and 2025-03-06", "2025-03-04", "2025-03-07"},
		{"in 2024", "2024-01-01", "2025-01-01"},
		{"Who last changed a.go?", "", ""},
		{"the 300 requests of last resort", "", ""},
	} {
		w, _, _ := windowOf(c.text, now)
		if got := [2]string{dayOf(w.From), dayOf(w.To)}; got != [2]string{c.from, c.to} {
			t.Errorf("%q is %v, want %s to %s", c.text, got, c.from, c.to)
		}
	}
	w, _, _ := windowOf("in the last 3 days", now)
	if !w.From.Equal(now.AddDate(0, 0, -3)) || !w.To.Equal(now) {
		t.Errorf("the last 3 days are %v", w)
	}
}

func dayOf(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Format(time.DateOnly)
}
