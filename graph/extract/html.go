package extract

import (
	"bytes"
	"fmt"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// hypertext adds an HTML document.
func hypertext(b *builder, src []byte) error {
	root, err := html.Parse(bytes.NewReader(src))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotText, err)
	}
	b.anchors = nil
	h := hyper{b: b}
	h.node(root, 0)
	h.flush()
	if h.title != "" {
		b.title = h.title
	}
	return nil
}

// fragment adds HTML that stands inside another document; what does not parse
// is left out.
func fragment(b *builder, src []byte) {
	body := &html.Node{Type: html.ElementNode, Data: "body", DataAtom: atom.Body}
	nodes, err := html.ParseFragment(bytes.NewReader(src), body)
	if err != nil {
		return
	}
	h := hyper{b: b}
	for _, n := range nodes {
		h.node(n, 0)
	}
	h.flush()
}

// hyper walks a tree and collects running text until a block ends.
type hyper struct {
	b     *builder
	run   strings.Builder
	item  string // prefix of the list item being read, "" outside of one
	first bool   // the item is the first of its list
	title string
	id    string // of the nearest element that began and has had no heading yet
}

func (h *hyper) flush() {
	text := h.run.String()
	h.run.Reset()
	if h.item == "" {
		h.b.prose(text)
		return
	}
	if strings.TrimSpace(text) != "" {
		h.b.item(h.item, text, h.first)
		h.first, h.item = false, strings.Repeat(" ", len(h.item))
	}
}

func (h *hyper) node(n *html.Node, depth int) {
	if depth > maxDepth {
		return
	}
	switch n.Type {
	case html.TextNode:
		h.run.WriteString(strings.ReplaceAll(n.Data, "\n", " "))
		return
	case html.CommentNode, html.DoctypeNode:
		return
	case html.ElementNode:
		if !h.element(n, depth) {
			return
		}
	}
	h.children(n, depth)
	if n.Type == html.ElementNode && isBlock(n.DataAtom) {
		h.flush()
	}
}

func (h *hyper) children(n *html.Node, depth int) {
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		h.node(c, depth+1)
	}
}

// element handles what an element means by itself; true = go on with its
// children.
func (h *hyper) element(n *html.Node, depth int) bool {
	if hidden(n) {
		return false
	}
	switch n.DataAtom {
	case atom.Title:
		h.title = oneLine(textOf(n, 0))
		return false
	case atom.H1, atom.H2, atom.H3, atom.H4, atom.H5, atom.H6:
		h.flush()
		h.b.heading(int(n.Data[1]-'0'), textOf(n, 0), h.headingID(n))
		return false
	case atom.Pre:
		h.flush()
		h.b.lines(strings.ReplaceAll(textOf(n, 0), "\t", "    "))
		return false
	case atom.Table:
		h.flush()
		first := true
		h.table(n, depth, &first)
		return false
	case atom.Ul, atom.Ol:
		h.flush()
		h.list(n, depth)
		return false
	case atom.Dl:
		h.flush()
		h.definitions(n)
		return false
	case atom.Br:
		h.run.WriteByte('\n')
		return false
	case atom.Img:
		h.run.WriteString(attr(n, "alt"))
		return false
	}
	if isBlock(n.DataAtom) {
		h.flush()
		if id := attr(n, "id"); id != "" && (n.DataAtom == atom.Section || n.DataAtom == atom.Div || n.DataAtom == atom.Article) {
			h.id = id
		}
	}
	return true
}

// hidden is what a reader of the page does not see as its text, or what its
// author struck out.
func hidden(n *html.Node) bool {
	switch n.DataAtom {
	case atom.Script, atom.Style, atom.Template, atom.Noscript, atom.Nav, atom.Svg, atom.Math, atom.Iframe, atom.Object,
		atom.Select, atom.Button, atom.Textarea, atom.Canvas, atom.Del, atom.S, atom.Strike:
		return true
	}
	for _, a := range n.Attr {
		if a.Key == "hidden" || a.Key == "aria-hidden" && a.Val == "true" {
			return true
		}
	}
	return false
}

// headingID is the fragment of a heading: its own id, an anchor inside it, or
// the id of the section that it begins.
func (h *hyper) headingID(n *html.Node) string {
	id := attr(n, "id")
	for c := n.FirstChild; c != nil && id == ""; c = c.NextSibling {
		if c.DataAtom == atom.A {
			if id = attr(c, "id"); id == "" {
				id = attr(c, "name")
			}
		}
	}
	if id == "" {
		id = h.id
	}
	h.id = ""
	return id
}

func (h *hyper) list(n *html.Node, depth int) {
	number := 0
	outer, outerFirst := h.item, h.first
	h.first = outer == ""
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		if c.DataAtom != atom.Li {
			continue
		}
		number++
		h.item = indentOf(outer) + "- "
		if n.DataAtom == atom.Ol {
			h.item = fmt.Sprintf("%s%d. ", indentOf(outer), number)
		}
		if hidden(c) {
			continue
		}
		h.children(c, depth+1)
		h.flush()
	}
	h.item, h.first = outer, outerFirst && number == 0
}

func indentOf(outer string) string { return strings.Repeat(" ", min(len(outer), 16)) }

func (h *hyper) table(n *html.Node, depth int, first *bool) {
	if depth > maxDepth {
		return
	}
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		switch {
		case c.DataAtom == atom.Tr && !hidden(c):
			h.b.row(cells(c), *first)
			*first = false
		case c.DataAtom == atom.Caption:
			h.b.prose(textOf(c, 0))
		default:
			h.table(c, depth+1, first)
		}
	}
}

func cells(row *html.Node) (out []string) {
	for c := row.FirstChild; c != nil; c = c.NextSibling {
		if c.DataAtom == atom.Td || c.DataAtom == atom.Th {
			out = append(out, textOf(c, 0))
		}
	}
	return out
}

func (h *hyper) definitions(n *html.Node) {
	term, first := "", true
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		switch c.DataAtom {
		case atom.Dt:
			term = oneLine(textOf(c, 0))
		case atom.Dd:
			h.b.item("", term+": "+oneLine(textOf(c, 0)), first)
			first = false
		case atom.Div:
			h.definitions(c)
		}
	}
}

// textOf is all visible text inside a node.
func textOf(n *html.Node, depth int) string {
	if depth > maxDepth {
		return ""
	}
	var out strings.Builder
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		switch {
		case c.Type == html.TextNode:
			out.WriteString(c.Data)
		case c.Type == html.ElementNode && c.DataAtom == atom.Br:
			out.WriteByte('\n')
		case c.Type == html.ElementNode && !hidden(c):
			out.WriteString(textOf(c, depth+1))
			if isBlock(c.DataAtom) {
				out.WriteByte(' ')
			}
		}
	}
	return out.String()
}

func attr(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

func isBlock(a atom.Atom) bool {
	switch a {
	case atom.Address, atom.Article, atom.Aside, atom.Blockquote, atom.Body, atom.Dd, atom.Details, atom.Div, atom.Dl, atom.Dt,
		atom.Fieldset, atom.Figcaption, atom.Figure, atom.Footer, atom.Form, atom.Header, atom.Hr, atom.Html, atom.Head,
		atom.Li, atom.Main, atom.Ol, atom.P, atom.Pre, atom.Section, atom.Summary, atom.Table, atom.Ul, atom.Td, atom.Th, atom.Tr:
		return true
	}
	return false
}
