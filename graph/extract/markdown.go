package extract

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	east "github.com/yuin/goldmark/extension/ast"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
)

// markdown adds a Markdown document (CommonMark with tables, strike-through,
// task lists, definition lists, footnotes, front matter and heading ids).
func markdown(b *builder, src []byte) {
	src = frontMatter(b, src)
	p := goldmark.New(
		goldmark.WithExtensions(extension.Table, extension.Strikethrough, extension.TaskList, extension.DefinitionList, extension.Footnote),
		goldmark.WithParserOptions(parser.WithHeadingAttribute()),
	).Parser()
	m := md{b: b, src: src}
	m.blocks(p.Parse(text.NewReader(src)), 0)
}

// frontMatter adds the lines between the two "---" (or "+++") that a document
// may begin with, takes its title from there, and returns the rest.
func frontMatter(b *builder, src []byte) []byte {
	for _, fence := range []string{"---\n", "+++\n"} {
		if !bytes.HasPrefix(src, []byte(fence)) {
			continue
		}
		end := bytes.Index(src[4:], []byte("\n"+fence[:3]))
		if end < 0 || end > 16<<10 {
			return src
		}
		head, rest := src[4:4+end], src[4+end+4:]
		if nl := bytes.IndexByte(rest, '\n'); nl >= 0 && len(bytes.TrimSpace(rest[:nl])) == 0 {
			rest = rest[nl:]
		} else if len(bytes.TrimSpace(rest)) > 0 {
			return src // a table or a rule, not front matter
		}
		for line := range strings.SplitSeq(string(head), "\n") {
			key, value, ok := strings.Cut(strings.Replace(line, " = ", ": ", 1), ":")
			if ok && strings.TrimSpace(key) == "title" {
				b.title = strings.Trim(oneLine(value), `"'`)
			}
		}
		b.lines(string(head))
		return rest
	}
	return src
}

type md struct {
	b   *builder
	src []byte
}

// blocks adds the blocks inside n.
func (m md) blocks(n ast.Node, depth int) {
	if depth > maxDepth {
		return
	}
	for c := n.FirstChild(); c != nil; c = c.NextSibling() {
		m.block(c, depth)
	}
}

func (m md) block(n ast.Node, depth int) {
	switch n := n.(type) {
	case *ast.Heading:
		m.b.heading(n.Level, m.inline(n, 0), attribute(n, "id"))
	case *ast.Paragraph, *ast.TextBlock:
		m.b.prose(m.inline(n, 0))
	case *ast.CodeBlock, *ast.FencedCodeBlock:
		m.b.lines(strings.ReplaceAll(string(linesOf(n, m.src)), "\t", "    "))
	case *ast.HTMLBlock:
		raw := linesOf(n, m.src)
		if n.HasClosure() {
			raw = append(raw, n.ClosureLine.Value(m.src)...)
		}
		fragment(m.b, raw)
	case *ast.List:
		m.list(n, 0, depth)
	case *east.Table:
		m.table(n)
	case *east.DefinitionList:
		m.definitions(n)
	case *ast.LinkReferenceDefinition:
	default:
		m.blocks(n, depth+1)
	}
}

func attribute(n ast.Node, name string) string {
	v, ok := n.AttributeString(name)
	if b, isBytes := v.([]byte); ok && isBytes {
		return string(b)
	}
	return ""
}

func linesOf(n ast.Node, src []byte) []byte {
	var out []byte
	for i := range n.Lines().Len() {
		s := n.Lines().At(i)
		out = append(out, s.Value(src)...)
	}
	return out
}

// list adds one line for each item and, below it, what else the item holds.
func (m md) list(l *ast.List, indent, depth int) {
	if depth > maxDepth {
		return
	}
	number, first := l.Start, indent == 0
	for item := l.FirstChild(); item != nil; item = item.NextSibling() {
		prefix := strings.Repeat("  ", min(indent, 8)) + "- "
		if l.IsOrdered() {
			prefix = strings.Repeat("  ", min(indent, 8)) + strconv.Itoa(number) + ". "
			number++
		}
		for c := item.FirstChild(); c != nil; c = c.NextSibling() {
			switch c := c.(type) {
			case *ast.Paragraph, *ast.TextBlock:
				m.b.item(prefix, m.inline(c, 0), first)
				prefix = strings.Repeat(" ", len(prefix))
			case *ast.List:
				m.list(c, indent+1, depth+1)
			default:
				m.block(c, depth+1)
			}
			first = false
		}
	}
}

func (m md) table(t *east.Table) {
	first := true
	for row := t.FirstChild(); row != nil; row = row.NextSibling() {
		var cells []string
		for cell := row.FirstChild(); cell != nil; cell = cell.NextSibling() {
			cells = append(cells, m.inline(cell, 0))
		}
		m.b.row(cells, first)
		first = false
	}
}

// definitions adds "Term: description" for each description.
func (m md) definitions(l *east.DefinitionList) {
	term, first := "", true
	for c := l.FirstChild(); c != nil; c = c.NextSibling() {
		if _, ok := c.(*east.DefinitionTerm); ok {
			term = oneLine(m.inline(c, 0))
			continue
		}
		for p := c.FirstChild(); p != nil; p = p.NextSibling() {
			m.b.item("", term+": "+m.inline(p, 0), first)
			first = false
		}
	}
}

// inline is the text of a node without its markup. What is struck through is
// left out: its author withdrew it.
func (m md) inline(n ast.Node, depth int) string {
	var out strings.Builder
	if depth > maxDepth {
		return ""
	}
	for c := n.FirstChild(); c != nil; c = c.NextSibling() {
		switch c := c.(type) {
		case *ast.Text:
			m.text(&out, c)
		case *ast.String:
			out.Write(c.Value)
		case *ast.CodeSpan:
			out.WriteString(m.code(c))
		case *ast.AutoLink:
			out.Write(c.Label(m.src))
		case *ast.RawHTML:
			if raw := c.Segments.Value(m.src); bytes.HasPrefix(bytes.ToLower(raw), []byte("<br")) {
				out.WriteByte('\n')
			}
		case *east.Strikethrough:
		case *east.TaskCheckBox:
			if c.IsChecked {
				out.WriteString("[x] ")
			} else {
				out.WriteString("[ ] ")
			}
		case *east.FootnoteLink, *east.FootnoteBacklink:
		default:
			out.WriteString(m.inline(c, depth+1))
		}
	}
	return out.String()
}

func (m md) text(out *strings.Builder, t *ast.Text) {
	value := t.Segment.Value(m.src)
	if !t.IsRaw() {
		value = util.ResolveEntityNames(util.ResolveNumericReferences(util.UnescapePunctuations(value)))
	}
	out.Write(value)
	switch {
	case t.HardLineBreak():
		out.WriteByte('\n')
	case t.SoftLineBreak():
		out.WriteByte(' ')
	}
}

func (m md) code(n ast.Node) string {
	var out strings.Builder
	for c := n.FirstChild(); c != nil; c = c.NextSibling() {
		if t, ok := c.(*ast.Text); ok {
			out.Write(bytes.ReplaceAll(t.Segment.Value(m.src), []byte("\n"), []byte(" ")))
		}
	}
	return out.String()
}
