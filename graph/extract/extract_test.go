package extract

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/cloister-os/cloister/graph"
)

func sentencesOf(d Document) (out []string) {
	for _, s := range d.Outline.Sections {
		for _, r := range s.Sentences {
			out = append(out, d.Text[r.Start:r.End])
		}
	}
	return out
}

func TestSentences(t *testing.T) {
	for _, c := range []struct {
		text string
		want []string
	}{
		{"One. Two! Three? Four", []string{"One.", "Two!", "Three?", "Four"}},
		{"The port is 8443; the path is /api.", []string{"The port is 8443;", "the path is /api."}},
		{"It takes 3.5 s, see v1.2.3 in main.go. Then go on.", []string{"It takes 3.5 s, see v1.2.3 in main.go.", "Then go on."}},
		{"Ask Dr. Ada M. Lovelace, e.g. by mail.", []string{"Ask Dr. Ada M. Lovelace, e.g. by mail."}},
		{"Use tools (i.e. the shell; not the page). Done.", []string{"Use tools (i.e. the shell; not the page).", "Done."}},
		{`He said "Stop." Then he left.`, []string{`He said "Stop."`, "Then he left."}},
		{"Version 2. It is new.", []string{"Version 2.", "It is new."}},
		{"1. Stop the node", []string{"1. Stop the node"}},
		{"See No. 7 and fig. 3 on p. 12. No. That is wrong.", []string{"See No. 7 and fig. 3 on p. 12.", "No.", "That is wrong."}},
		{"Am 3. Mai, d.h. bald, z.B. hier. Danach nicht.", []string{"Am 3. Mai, d.h. bald, z.B. hier.", "Danach nicht."}},
		{"The U.S. office opens at 9 a.m. daily.", []string{"The U.S. office opens at 9 a.m. daily."}},
		{"Start the node. etcd must run.", []string{"Start the node.", "etcd must run."}},
		{"Wait ... and see. OK", []string{"Wait ... and see.", "OK"}},
		{"第一句。第二句！", []string{"第一句。", "第二句！"}},
		{"first line\nsecond line", []string{"first line", "second line"}},
		{" -- ; ... ", nil},
	} {
		var got []string
		for _, r := range ranges(c.text, true) {
			got = append(got, c.text[r[0]:r[1]])
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%q:\n got %q\nwant %q", c.text, got, c.want)
		}
	}
}

const guide = `---
title: "Operator guide"
owner: Ada
---
Intro *text* with ` + "`code.go`" + ` and a [link](https://x).

# Install & run

The node needs 4 GB. It listens
on port 8443; see [ports](#ports).

## Ports

| Port | Use |
|------|-----|
| 8443 | web |

- first item. With two sentences.
- second ~~old~~ new
  1. nested

` + "```sh" + `
cloister serve --data DIR
# comment. not split
` + "```" + `

## Ports

<details><summary>More</summary><p>Hidden &amp; found.</p><script>no()</script></details>

Term
: what it means

## Custom {#my-id}

A \* B &lt; C<br>next
`

func TestMarkdown(t *testing.T) {
	d, err := Extract(Markdown, "docs/guide.md", []byte(guide))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`title: "Operator guide"`, "owner: Ada", "Intro text with code.go and a link.",
		"The node needs 4 GB.", "It listens on port 8443;", "see ports.",
		"Port | Use", "8443 | web",
		"first item.", "With two sentences.", "second new", "nested",
		"cloister serve --data DIR", "# comment. not split",
		"More", "Hidden & found.", "Term: what it means",
		"A * B < C", "next",
	}
	if got := sentencesOf(d); !slices.Equal(got, want) {
		t.Errorf("sentences:\n got %q\nwant %q", got, want)
	}
	if d.Title != "Operator guide" {
		t.Errorf("title = %q", d.Title)
	}
	var heads []string
	for _, s := range d.Outline.Sections {
		heads = append(heads, strings.Join(s.Path, " > ")+" #"+s.Anchor)
	}
	wantHeads := []string{" #", "Install & run #install--run", "Install & run > Ports #ports", "Install & run > Ports #ports-1", "Install & run > Custom #my-id"}
	if !slices.Equal(heads, wantHeads) {
		t.Errorf("sections:\n got %q\nwant %q", heads, wantHeads)
	}
	check(t, d)
}

const page = `<!doctype html><html><head><title>The  Manual</title><style>p{}</style></head><body>
<nav>skip me</nav><div id="top"><h1>Manual</h1></div>
<p>One <b>bold</b> word. Two&nbsp;words.<br>Third line.</p>
<h2 id="limits">Limits</h2>
<ul><li>At most <i>5</i> users.<ul><li>inner</li></ul></li><li><p>para in item</p></li></ul>
<table><tr><th>Name</th><th>Value</th></tr><tr><td>port</td><td>8443</td></tr></table>
<pre>line 1
line 2</pre>
<dl><dt>SLA</dt><dd>99.9 %</dd></dl>
<p hidden>secret</p><script>alert("x")</script><del>gone</del>
</body></html>`

func TestHTML(t *testing.T) {
	d, err := Extract(HTML, "m.html", []byte(page))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"One bold word.", "Two words.", "Third line.", "At most 5 users.", "inner", "para in item",
		"Name | Value", "port | 8443", "line 1", "line 2", "SLA: 99.9 %"}
	if got := sentencesOf(d); !slices.Equal(got, want) {
		t.Errorf("sentences:\n got %q\nwant %q", got, want)
	}
	if d.Title != "The Manual" || d.Outline.Sections[0].Anchor != "top" || d.Outline.Sections[1].Anchor != "limits" {
		t.Errorf("title %q, sections %+v", d.Title, d.Outline.Sections)
	}
	check(t, d)
}

func TestPlainText(t *testing.T) {
	src := "Release notes\r\n=============\r\n\r\nThis paragraph was wrapped by hand at about seventy\r\ncolumns. It has two sentences.\r\n\r\nOwner: Ada\r\nPhone: 123\r\n- item one\r\n- item two\r\n"
	d, err := Extract(Text, "notes.txt", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"This paragraph was wrapped by hand at about seventy columns.", "It has two sentences.", "Owner: Ada", "Phone: 123", "- item one", "- item two"}
	if got := sentencesOf(d); !slices.Equal(got, want) {
		t.Errorf("sentences:\n got %q\nwant %q", got, want)
	}
	if d.Title != "Release notes" {
		t.Errorf("title = %q", d.Title)
	}
	check(t, d)
}

func TestEncodings(t *testing.T) {
	for name, raw := range map[string]string{
		"utf-8 with mark": "\xef\xbb\xbfGrüße aus Köln",
		"utf-16":          "\xff\xfeG\x00r\x00\xfc\x00\xdf\x00e\x00 \x00a\x00u\x00s\x00 \x00K\x00\xf6\x00l\x00n\x00",
		"windows-1252":    "Gr\xfc\xdfe aus K\xf6ln",
	} {
		d, err := Extract(Text, "x.txt", []byte(raw))
		if err != nil || d.Text != "Grüße aus Köln\n" {
			t.Errorf("%s: %q, %v", name, d.Text, err)
		}
	}
	d, err := Extract(HTML, "x.html", []byte("<html><head><meta charset=iso-8859-15></head><p>5 \xa4 pro K\xf6pf"))
	if err != nil || d.Text != "5 € pro Köpf\n" {
		t.Errorf("declared charset: %q, %v", d.Text, err)
	}
	if _, err := Extract(Text, "x.txt", []byte("\x7fELF\x00\x01")); !errors.Is(err, ErrNotText) {
		t.Errorf("binary: %v", err)
	}
}

func TestOneLongLineIsDividedWithinBounds(t *testing.T) {
	for _, f := range []Format{Text, Markdown, HTML} {
		for _, unit := range []string{"x", "word ", "ü"} {
			d, err := Extract(f, "long", []byte(strings.Repeat(unit, 300_000)))
			if err != nil {
				t.Fatal(err)
			}
			check(t, d)
			if n := len(sentencesOf(d)); n < 100 {
				t.Errorf("%s of %q: %d sentences", f, unit, n)
			}
		}
	}
	if _, err := Extract(Markdown, "big.md", make([]byte, MaxMarkupBytes+1)); err == nil {
		t.Error("a file above the bound was read")
	}
}

func TestDeepNestingEnds(t *testing.T) {
	for _, src := range []string{strings.Repeat("> ", 20_000) + "x", strings.Repeat("<div>", 20_000) + "x", strings.Repeat("*_", 20_000) + "x", strings.Repeat("- ", 5_000) + "x"} {
		for _, f := range []Format{Markdown, HTML} {
			d, err := Extract(f, "deep", []byte(src))
			if err == nil {
				check(t, d)
			}
		}
	}
}

// check verifies what the package promises of every document.
func check(t testing.TB, d Document) {
	t.Helper()
	if !utf8.ValidString(d.Text) {
		t.Fatal("the text is not UTF-8")
	}
	at, paragraph := 0, 0
	for i, s := range d.Outline.Sections {
		if s.Start > s.End || s.End > len(d.Text) || i > 0 && s.Start != d.Outline.Sections[i-1].End && i > 1 {
			t.Fatalf("section %d: [%d, %d) of %d", i, s.Start, s.End, len(d.Text))
		}
		for _, r := range s.Sentences {
			checkSentence(t, d, s, r, at)
			if r.Paragraph < paragraph {
				t.Fatalf("paragraph %d after %d", r.Paragraph, paragraph)
			}
			at, paragraph = r.End, r.Paragraph
		}
	}
}

func checkSentence(t testing.TB, d Document, s graph.Section, r graph.Range, at int) {
	t.Helper()
	if r.Start < at || r.Start < s.Start || r.End > s.End || r.Start >= r.End {
		t.Fatalf("sentence [%d, %d) after %d in section [%d, %d)", r.Start, r.End, at, s.Start, s.End)
	}
	text := d.Text[r.Start:r.End]
	if len(text) > MaxSentenceBytes || !utf8.ValidString(text) || text != strings.TrimSpace(text) {
		t.Fatalf("sentence %q", text)
	}
}

func FuzzExtract(f *testing.F) {
	for _, seed := range []string{guide, page, "a; b. c! d? e… f", "x\x00y", "- a\n  - b\n\n    c\n", "| a |\n|-|\n| b; c. |", "<li>a<p>b</li>c", "# a\n# a\n# a-1\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, src string) {
		for _, format := range []Format{Markdown, HTML, Text} {
			d, err := Extract(format, "x", []byte(src))
			if err != nil {
				continue
			}
			check(t, d)
			again, err := Extract(format, "x", []byte(src))
			if err != nil || !reflect.DeepEqual(d, again) {
				t.Fatal("the same bytes gave another document")
			}
		}
	})
}

func TestAnchorsAreDistinct(t *testing.T) {
	d, err := Extract(Markdown, "x", []byte("# a\n# a\n# a-1\n# a\n# A b, c!\n"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range d.Outline.Sections {
		got = append(got, s.Anchor)
	}
	if fmt.Sprint(got) != "[a a-1 a-1-1 a-2 a-b-c]" {
		t.Errorf("anchors = %v", got)
	}
}
