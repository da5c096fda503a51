package extract

import (
	"path"
	"strings"

	"github.com/cloister-os/cloister/graph"
)

// builder collects blocks of text in document order.
type builder struct {
	text      strings.Builder
	sections  []graph.Section
	headings  []heading      // open ones, outermost first
	anchors   map[string]int // fragments made so far; nil = none are made
	paragraph int
	title     string // the first heading of level 1, or what the document declares
}

type heading struct {
	level int
	text  string
}

func newBuilder() *builder {
	return &builder{sections: []graph.Section{{}}, anchors: map[string]int{}}
}

// heading begins a section. An empty id means: make one from the text.
func (b *builder) heading(level int, text, id string) {
	text = oneLine(text)
	if text == "" {
		return
	}
	if b.title == "" && level == 1 {
		b.title = text
	}
	for len(b.headings) > 0 && b.headings[len(b.headings)-1].level >= level {
		b.headings = b.headings[:len(b.headings)-1]
	}
	b.headings = append(b.headings, heading{level, text})
	s := graph.Section{Anchor: b.anchor(text, id)}
	for _, h := range b.headings {
		s.Path = append(s.Path, h.text)
	}
	b.gap()
	b.closeSection()
	s.Start = b.text.Len()
	b.sections = append(b.sections, s)
	b.text.WriteString(text)
	b.text.WriteString("\n")
}

func (b *builder) closeSection() { b.sections[len(b.sections)-1].End = b.text.Len() }

// gap puts an empty line before what follows, unless nothing precedes.
func (b *builder) gap() {
	if b.text.Len() > 0 {
		b.text.WriteString("\n")
	}
}

// prose adds running text. A newline in it ends a sentence.
func (b *builder) prose(text string) {
	text = tidy(text)
	if text == "" {
		return
	}
	b.gap()
	b.add(text, "", true)
}

// item adds a list item or the like: lines that follow each other closely.
func (b *builder) item(prefix, text string, first bool) {
	text = tidy(text)
	if text == "" {
		return
	}
	if first {
		b.gap()
	}
	b.add(text, prefix, true)
}

// row adds a table row: one sentence.
func (b *builder) row(cells []string, first bool) {
	for i := range cells {
		cells[i] = oneLine(cells[i])
	}
	text := strings.TrimSpace(strings.Join(cells, " | "))
	if strings.Trim(text, " |") == "" {
		return
	}
	if first {
		b.gap()
	}
	b.add(text, "", false)
}

// lines adds text whose lines stand for themselves: code, verse.
func (b *builder) lines(text string) {
	text = strings.Trim(text, "\n")
	if strings.TrimSpace(text) == "" {
		return
	}
	b.gap()
	at := b.text.Len()
	b.text.WriteString(text)
	b.text.WriteString("\n")
	for line := range strings.SplitSeq(text, "\n") {
		b.sentences(line, at, false)
		at += len(line) + 1
	}
	b.paragraph++
}

func (b *builder) add(text, prefix string, split bool) {
	b.text.WriteString(prefix)
	at := b.text.Len()
	b.text.WriteString(text)
	b.text.WriteString("\n")
	b.sentences(text, at, split)
	b.paragraph++
}

func (b *builder) sentences(text string, at int, split bool) {
	s := &b.sections[len(b.sections)-1]
	for _, r := range ranges(text, split) {
		s.Sentences = append(s.Sentences, graph.Range{Start: at + r[0], End: at + r[1], Paragraph: b.paragraph})
	}
}

func (b *builder) finish(name string) Document {
	b.closeSection()
	if s := b.sections[0]; len(b.sections) > 1 && s.Start == s.End {
		b.sections = b.sections[1:] // nothing before the first heading
	}
	d := Document{Title: b.title, Text: b.text.String(), Outline: graph.Outline{Sections: b.sections}}
	if d.Title == "" && len(b.sections[0].Path) > 0 {
		d.Title = b.sections[0].Path[0]
	}
	if d.Title == "" {
		base := path.Base(name)
		d.Title = strings.TrimSuffix(base, path.Ext(base))
	}
	return d
}

// tidy makes each line's white space single and drops empty lines.
func tidy(text string) string {
	if !strings.Contains(text, "\n") {
		return oneLine(text)
	}
	var out []string
	for line := range strings.SplitSeq(text, "\n") {
		if line = oneLine(line); line != "" {
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n")
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
