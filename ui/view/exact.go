package view

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/a-h/templ"
)

// Templates put white space between elements; where each character counts, the
// HTML is written here.

// said is an answer's text with the numbers of its citations.
func said(spans []Span, r Run) templ.Component {
	var b strings.Builder
	for _, s := range spans {
		if s.Strong {
			b.WriteString("<strong>" + templ.EscapeString(s.Text) + "</strong>")
		} else {
			b.WriteString(templ.EscapeString(s.Text))
		}
		for _, n := range s.Cites {
			fmt.Fprintf(&b, ` <a class="ref" href="#%s" aria-label="Citation %d">%d</a>`, r.mark(fmt.Sprintf("cite-%d", n)), n, n)
		}
	}
	return exact(b.String())
}

// coloured is a policy's text.
func coloured(text string) templ.Component {
	var b strings.Builder
	for _, t := range cedar(text) {
		if t.class == "" {
			b.WriteString(templ.EscapeString(t.text))
		} else {
			fmt.Fprintf(&b, `<span class="%s">%s</span>`, t.class, templ.EscapeString(t.text))
		}
	}
	return exact(b.String())
}

// exact writes HTML that is already escaped.
func exact(html string) templ.Component {
	return templ.ComponentFunc(func(_ context.Context, w io.Writer) error {
		_, err := io.WriteString(w, html)
		return err
	})
}
