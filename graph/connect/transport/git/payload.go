package git

import (
	"strings"

	"github.com/cloister-os/cloister/graph"
)

// payload is the text that a record is shown and cited as. It says everything
// that the record claims, and knows where.
type payload struct {
	b strings.Builder
}

// line adds a label and a value on a line of their own and returns the value's
// place.
func (p *payload) line(label, value string) graph.Span {
	p.b.WriteString(label)
	span := p.text(value)
	p.b.WriteString("\n")
	return span
}

// text adds a text as it is and returns its place.
func (p *payload) text(value string) graph.Span {
	start := p.b.Len()
	p.b.WriteString(value)
	return graph.Span{Start: start, End: p.b.Len()}
}

func (p *payload) bytes() []byte { return []byte(p.b.String()) }
