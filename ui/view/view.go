package view

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cloister-os/cloister/ui/asset"
)

// Page is what the frame around every screen shows.
type Page struct {
	Title    string
	Section  string   // of the navigation: "home", "ask", "sources", …; "" = none
	User     *User    // nil before signing in
	Node     string   // this node's name
	Version  string   // of the program
	Theme    string   // "light", "dark", "" = the system's
	Hidden   []string // sections that policy does not open to this person
	KeysOff  bool     // single-key shortcuts are turned off
	ReadOnly string   // why writes are refused; "" = they are not
	Once     string   // makes a form that is sent again do nothing twice
	Refresh  int      // seconds until a browser without script reloads; 0 = never
	Reload   string   // the address that it then loads; "" = the same, which must have no fragment
	Scripts  []string
	Now      time.Time
	Assets   *asset.Set
}

// User is the person signed in.
type User struct {
	ID    string
	Name  string
	Roles []string
}

// Initial is the letter that stands for the person.
func (u *User) Initial() string {
	r, _ := utf8.DecodeRuneInString(strings.ToUpper(u.Name))
	if r == utf8.RuneError {
		return "?"
	}
	return string(r)
}

// Tone says how something fares; it chooses colour and icon together.
type Tone string

// The tones.
const (
	OK   Tone = "ok"
	Warn Tone = "warn"
	Bad  Tone = "bad"
	Live Tone = "live" // something is happening now
	Calm Tone = "calm" // nothing to say
)

func (t Tone) icon() string {
	switch t {
	case OK:
		return "ok"
	case Warn:
		return "warn"
	case Bad:
		return "bad"
	case Live:
		return "busy"
	default:
		return "todo"
	}
}

// Notice is a message above or inside a screen.
type Notice struct {
	Tone  Tone
	Title string
	Text  string
}

// Link is a named place.
type Link struct{ Text, URL string }

// Choice is one option of a select, a radio group or a set of boxes.
type Choice struct {
	Value, Text, Hint string
	On                bool
}

// Bytes writes a size for people, in binary units.
func Bytes(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, i := float64(n)/unit, 0
	for value >= unit && i < 3 {
		value, i = value/unit, i+1
	}
	return fmt.Sprintf("%.1f %s", value, [...]string{"KiB", "MiB", "GiB", "TiB"}[i])
}

// Count writes a number with thin spaces between thousands.
func Count[N int | int64 | uint64](n N) string {
	s := fmt.Sprint(n)
	sign := ""
	if strings.HasPrefix(s, "-") {
		sign, s = "-", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return sign + s
}

// Plural writes "1 file", "3 files".
func Plural[N int | int64 | uint64](n N, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return Count(n) + " " + many
}

// Dollars writes nano-dollars.
func Dollars(nano int64) string {
	switch {
	case nano == 0:
		return "$0"
	case nano > 0 && nano < 1000:
		return "< $0.000001"
	case nano < 10_000_000 && nano > -10_000_000:
		return fmt.Sprintf("$%.6f", float64(nano)/1e9)
	default:
		return fmt.Sprintf("$%.2f", float64(nano)/1e9)
	}
}

// Ago writes how long ago something was; js/ago.js keeps it true.
func Ago(now, t time.Time) string {
	d := now.Sub(t)
	switch {
	case d < 5*time.Second:
		return "just now"
	case d < time.Minute:
		return fmt.Sprintf("%d s ago", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", int(d.Minutes()))
	case d < 24*time.Hour:
		return fmt.Sprintf("%d h ago", int(d.Hours()))
	case d < 48*time.Hour:
		return "1 day ago"
	default:
		return fmt.Sprintf("%d days ago", int(d.Hours()/24))
	}
}

// Took writes a duration for people.
func Took(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	default:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
}

// Moment writes a time in UTC to the second.
func Moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

func machine(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func short(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n]) + "…"
}

func title(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	if n == 0 {
		return s
	}
	return strings.ToUpper(string(r)) + s[n:]
}

// query escapes a value for a URL's query, segment one for its path.
func query(s string) string   { return url.QueryEscape(s) }
func segment(s string) string { return url.PathEscape(s) }

// refresh is the content of a refresh. A browser does not load an address anew
// that differs from its own by a fragment alone, or not at all when it has one.
func refresh(p Page) string {
	if p.Reload == "" {
		return strconv.Itoa(p.Refresh)
	}
	return strconv.Itoa(p.Refresh) + "; url=" + p.Reload
}
