package search

import (
	"github.com/cloister-os/cloister/graph"
)

// A passage is what the text index finds: some sentences of one section that
// stand together. Short paragraphs, list items and table rows are joined until
// there is enough to read; a paragraph is divided only when it is very long.
const (
	passageBytes    = 400  // a passage this long ends at the next paragraph
	maxPassageBytes = 1600 // and one this long at the next sentence
	maxPassages     = 20_000
)

// block is a passage's place in an outline: sentences [First, Last) of a
// section, and how many sentences of the document come before it.
type block struct {
	Section int
	First   int
	Last    int
	Before  int
}

// blocks divides an outline. It depends on nothing else, so that the number of a
// passage means the same whenever the same text is read again.
func blocks(o graph.Outline) []block {
	var out []block
	before := 0
	for si, sec := range o.Sections {
		first := 0
		for i := range sec.Sentences {
			if i == first || !ends(sec.Sentences, first, i) {
				continue
			}
			out = append(out, block{si, first, i, before + first})
			first = i
		}
		if first < len(sec.Sentences) {
			out = append(out, block{si, first, len(sec.Sentences), before + first})
		}
		before += len(sec.Sentences)
		if len(out) >= maxPassages {
			return out[:maxPassages]
		}
	}
	return out
}

// ends reports whether a passage that began at first ends before sentence i.
func ends(s []graph.Range, first, i int) bool {
	size := s[i-1].End - s[first].Start
	if size >= maxPassageBytes {
		return true
	}
	return size >= passageBytes && s[i].Paragraph != s[i-1].Paragraph
}
