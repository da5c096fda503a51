package git

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-git/go-git/v5/plumbing"
	"golang.org/x/text/encoding/charmap"

	"github.com/cloister-os/cloister/graph/connect"
)

// maxMessageBytes bounds the message that is read of a commit or tag.
const maxMessageBytes = 256 << 10

// commit is a commit object as read.
type commit struct {
	hash      plumbing.Hash
	tree      plumbing.Hash
	parents   []plumbing.Hash
	author    string // name
	mail      string
	authored  time.Time // with the author's zone
	committed time.Time
	subject   string
	body      string
}

// commit reads a commit.
func (r *repo) commit(h plumbing.Hash) (*commit, error) {
	raw, err := r.bytes(plumbing.CommitObject, h)
	if err != nil {
		return nil, err
	}
	c := &commit{hash: h}
	if err := c.parse(raw); err != nil {
		return nil, &unreadable{"commit " + h.String(), err}
	}
	return c, nil
}

func (c *commit) parse(raw []byte) error {
	head, message, _ := bytes.Cut(raw, []byte("\n\n"))
	for line := range bytes.SplitSeq(head, []byte("\n")) {
		key, value, _ := strings.Cut(string(line), " ")
		switch key {
		case "tree":
			c.tree = plumbing.NewHash(value)
		case "parent":
			if p := plumbing.NewHash(value); !contains(c.parents, p) {
				c.parents = append(c.parents, p)
			}
		case "author":
			c.author, c.mail, c.authored = signature(value)
		case "committer":
			_, _, c.committed = signature(value)
		}
	}
	if c.tree.IsZero() {
		return errors.New("it names no tree")
	}
	c.subject, c.body = divide(message)
	return nil
}

func contains(list []plumbing.Hash, h plumbing.Hash) bool {
	for _, x := range list {
		if x == h {
			return true
		}
	}
	return false
}

// signature reads "Name <mail> seconds zone".
func signature(s string) (name, mail string, at time.Time) {
	s = utf8Of([]byte(s))
	open, end := strings.IndexByte(s, '<'), strings.LastIndexByte(s, '>')
	if open < 0 || end < open {
		return connect.Printable(strings.TrimSpace(s)), "", time.Unix(0, 0).UTC()
	}
	name, mail = strings.Join(strings.Fields(s[:open]), " "), strings.TrimSpace(s[open+1:end])
	seconds, zone, _ := strings.Cut(strings.TrimSpace(s[end+1:]), " ")
	n, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil || n < 0 || n > 253402300799 { // the end of the year 9999
		n = 0
	}
	return connect.Printable(name), connect.Printable(mail), time.Unix(n, 0).In(location(zone))
}

// location reads a zone such as "+0530"; what is no zone is UTC.
func location(zone string) *time.Location {
	n, err := strconv.Atoi(zone)
	if err != nil || len(zone) != 5 || n < -1400 || n > 1400 || n == 0 {
		return time.UTC
	}
	return time.FixedZone("", n/100*3600+n%100*60)
}

// divide splits a message into its first paragraph, on one line, and the rest.
func divide(raw []byte) (subject, body string) {
	if len(raw) > maxMessageBytes {
		raw = raw[:maxMessageBytes]
	}
	text := strings.Trim(visible(utf8Of(raw)), "\n")
	subject, body, _ = strings.Cut(text, "\n\n")
	subject = strings.Join(strings.Fields(subject), " ")
	return subject, strings.Trim(strings.TrimRight(body, " \t\n"), "\n")
}

// utf8Of is text as UTF-8; what is not is taken for Latin-1 as Windows has it.
func utf8Of(raw []byte) string {
	if utf8.Valid(raw) {
		return string(raw)
	}
	out, err := charmap.Windows1252.NewDecoder().Bytes(raw)
	if err != nil {
		return strings.ToValidUTF8(string(raw), "\uFFFD")
	}
	return string(out)
}

// visible drops carriage returns and makes other control characters spaces.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\r':
			return -1
		case r == utf8.RuneError || r < ' ' && r != '\n' && r != '\t' || r == 0x7f:
			return ' '
		}
		return r
	}, s)
}
