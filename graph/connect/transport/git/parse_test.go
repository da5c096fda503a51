package git

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// Whatever an object holds, reading it ends, and what it yields is fit to be shown.
func FuzzObjects(f *testing.F) {
	f.Add([]byte("tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nparent 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor A <a@b> 1 +0100\ncommitter A <a@b> 99999999999999 -9999\n\nsubject\n\nbody\x00\n"))
	f.Add([]byte("100644 a\x0012345678901234567890" + "40000 d\x0012345678901234567890"))
	f.Add([]byte("author <> <x> 18446744073709551616 +99\n\n\xff\xfe"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if entries, err := parseTree(raw); err == nil && len(entries) > len(raw)/20 {
			t.Errorf("%d entries in %d bytes", len(entries), len(raw))
		}
		c := &commit{}
		if c.parse(raw) != nil {
			return
		}
		for _, s := range []string{c.author, c.mail, c.subject, c.body} {
			if !utf8.ValidString(s) || strings.ContainsAny(s, "\x00\x1b\r") {
				t.Errorf("%q is not fit to be shown", s)
			}
		}
		if strings.Contains(c.subject, "\n") || strings.ContainsAny(c.author+c.mail, "\n") {
			t.Errorf("%q by %q has several lines", c.subject, c.author)
		}
		if _, err := c.authored.MarshalText(); err != nil {
			t.Error(err)
		}
	})
}

func TestNaturalOrder(t *testing.T) {
	list := []string{"a", "v1", "v1.0-rc1", "v1.0-rc2", "v1.0", "v1.0.1", "v1.9", "v1.10", "v02", "v10"}
	for i := range list {
		for j := range list {
			if got := natural(list[i], list[j]); got != (i < j) {
				t.Errorf("natural(%s, %s) = %v", list[i], list[j], got)
			}
		}
	}
}

func TestPeopleWhoShareAnAddressAreNotOne(t *testing.T) {
	if keyOf("Ada", " ADA@Example.org ") != "ada@example.org" {
		t.Error("an address is not canonical")
	}
	for _, mail := range []string{"", "nobody", "noreply@github.com", "root@localhost", "@", "a b@c <d>"} {
		if keyOf("Ada", mail) == keyOf("Grace", mail) || personal(keyOf("Ada", mail)) {
			t.Errorf("%q makes two people one", mail)
		}
	}
}
