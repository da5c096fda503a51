package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestEveryWheelIsPinnedByVersionAndHash(t *testing.T) {
	var pins int
	for _, line := range strings.Split(string(requirements), "\n") {
		if strings.Contains(line, "==") {
			pins++
		}
	}
	hashes := bytes.Count(requirements, []byte("--hash=sha256:"))
	if pins != len(wheels()) || hashes != pins {
		t.Errorf("%d versions and %d hashes for %d wheels", pins, hashes, len(wheels()))
	}
}

func TestTheTermsAreShownAsText(t *testing.T) {
	c := &content{parts: map[string][]part{}}
	page := `<html><style>p{}</style><div class="devsite-article-body clearfix"><script>x()</script>
		<h2>Section 1: DEFINITIONS</h2><p>You &amp; <b>we</b>
		agree.</p><ul><li>one</li><li>two</li></ul></div><p>footer</p></html>`
	c.add("page", []byte(page))
	text, err := c.textOf("page")
	if want := "Section 1: DEFINITIONS\n\nYou & we agree.\n\n- one\n\n- two\n"; err != nil || text != want {
		t.Errorf("text %q, %v; want %q", text, err, want)
	}
	c.add("page", []byte("<p>another form</p>"))
	if _, err := c.textOf("page"); err == nil {
		t.Error("a page of another form was taken")
	}
}

func TestAFileIsTheSumOfItsParts(t *testing.T) {
	c := &content{parts: map[string][]part{"f": {{data: []byte("one ")}, {data: []byte("two")}}}}
	f, err := c.describe("f")
	if err != nil || f.Bytes != 7 || f.SHA256 != "8ab63e29a4ba14e4e1688f9c15e5af90895421358c945b0431f85d66977bd3d2" {
		t.Errorf("%+v, %v", f, err)
	}
	if _, err := c.describe("absent"); err == nil {
		t.Error("a file that nothing makes was described")
	}
}
