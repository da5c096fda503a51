package search

import (
	"fmt"
	"strings"

	"github.com/cloister-os/cloister/graph"
)

// document is a document's text and division, as the reader sees it.
type document struct {
	record  graph.Record
	text    []byte
	outline graph.Outline
	blocks  []block
}

func readDocument(r *graph.Reader, id graph.RecordID) (*document, error) {
	rec, err := r.Record(id)
	if err != nil {
		return nil, err
	}
	d := &document{record: rec}
	if d.outline, err = r.Outline(rec); err != nil {
		return nil, err
	}
	if d.text, err = r.Bytes(rec.Text); err != nil {
		return nil, err
	}
	for _, s := range d.outline.Sections {
		for _, g := range s.Sentences {
			if g.Start < 0 || g.End < g.Start || g.End > len(d.text) {
				return nil, fmt.Errorf("the outline of %s does not fit its text", id)
			}
		}
	}
	d.blocks = blocks(d.outline)
	return d, nil
}

func (d *document) blockText(b block) string {
	s := d.outline.Sections[b.Section].Sentences
	return string(d.text[s[b.First].Start:s[b.Last-1].End])
}

func (d *document) head(b block) string {
	return d.record.Title + " " + strings.Join(d.outline.Sections[b.Section].Path, " ")
}

func (d *document) passage(number int) Passage {
	b := d.blocks[number]
	sec := d.outline.Sections[b.Section]
	p := Passage{Record: d.record, Number: number, Path: sec.Path, Anchor: sec.Anchor}
	if n := len(sec.Path); n > 0 && len(sec.Sentences) > 0 {
		p.Heading = d.find(sec.Path[n-1], sec.Start, sec.Sentences[0].Start)
	}
	p.Title = d.find(d.record.Title, 0, titleWithin)
	for _, s := range sec.Sentences[b.First:b.Last] {
		p.Sentences = append(p.Sentences, Sentence{Start: s.Start, End: s.End, Text: string(d.text[s.Start:s.End])})
	}
	if b.First > 0 {
		s := sec.Sentences[b.First-1]
		p.Before = string(d.text[s.Start:s.End])
	}
	return p
}

// Passage reads one passage again, by the record and the number that Passages
// gave. It has no cosines.
func (x *Index) Passage(r *graph.Reader, id graph.RecordID, number int) (Passage, error) {
	d, err := readDocument(r, id)
	if err != nil {
		return Passage{}, err
	}
	if number < 0 || number >= len(d.blocks) {
		return Passage{}, fmt.Errorf("document %s has %d passages, not a passage %d", id, len(d.blocks), number)
	}
	return d.passage(number), nil
}

// titleWithin is how far from its beginning a text's title is looked for.
const titleWithin = 2 << 10

// find is the range of words that stand in [start, end) of the text.
func (d *document) find(words string, start, end int) graph.Span {
	end = min(end, len(d.text))
	if words == "" || start < 0 || start > end {
		return graph.Span{}
	}
	i := strings.Index(string(d.text[start:end]), words)
	if i < 0 {
		return graph.Span{}
	}
	return graph.Span{Start: start + i, End: start + i + len(words)}
}
