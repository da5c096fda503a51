package extract

import (
	"strconv"
	"strings"
	"unicode"
)

// anchor is the fragment that leads to a heading: the id it declares, or else
// what GitHub makes of its text (lower case, letters, digits, '-' and '_' kept,
// spaces to '-'), with "-1", "-2", … where a fragment is taken. A page of HTML
// has only those it declares.
func (b *builder) anchor(text, id string) string {
	if id != "" || b.anchors == nil {
		return id
	}
	var s strings.Builder
	for _, r := range strings.ToLower(text) {
		switch {
		case r == ' ':
			s.WriteByte('-')
		case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r):
			s.WriteRune(r)
		}
	}
	base := s.String()
	name := base
	for {
		n, taken := b.anchors[name]
		if !taken {
			break
		}
		b.anchors[name] = n + 1
		name = base + "-" + strconv.Itoa(n+1)
		if _, again := b.anchors[name]; again {
			name = base
		}
	}
	b.anchors[name] = 0
	return name
}
