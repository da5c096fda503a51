package extract

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// bullet is what a list item begins with in plain text.
var bullet = regexp.MustCompile(`^\s*(?:[-*+•‣·]|\d{1,3}[.)]|[a-z][.)])\s+`)

// labelled is a line such as "Owner: Ada".
var labelled = regexp.MustCompile(`^\s*[\pL\d][\pL\d ._/-]{0,40}:\s`)

// plain adds a text file: paragraphs divided by empty lines, titles underlined
// with '=' or '-', and lines that were wrapped by hand joined again.
func plain(b *builder, text string) {
	var block []string
	flush := func() {
		plainBlock(b, block)
		block = block[:0]
	}
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		line := strings.TrimRight(lines[i], " \t")
		if i+1 < len(lines) && len(block) == 0 {
			if level := underline(line, lines[i+1]); level > 0 {
				b.heading(level, line, "")
				i++
				continue
			}
		}
		if line == "" {
			flush()
			continue
		}
		block = append(block, line)
	}
	flush()
}

func underline(title, rule string) int {
	title, rule = strings.TrimSpace(title), strings.TrimSpace(rule)
	if title == "" || len(rule) < 3 || len(rule) < utf8.RuneCountInString(title) || len(title) > 200 {
		return 0
	}
	switch {
	case strings.Trim(rule, "=") == "":
		return 1
	case strings.Trim(rule, "-") == "":
		return 2
	}
	return 0
}

func plainBlock(b *builder, block []string) {
	if len(block) == 0 {
		return
	}
	width := 0
	for _, l := range block {
		width = max(width, len(l))
	}
	var out strings.Builder
	for i, l := range block {
		out.WriteString(l)
		if i == len(block)-1 {
			break
		}
		if wrapped(l, block[i+1], width) {
			out.WriteByte(' ')
		} else {
			out.WriteByte('\n')
		}
	}
	b.prose(out.String())
}

// wrapped reports whether a line ends because it was full, so that the next one
// goes on with the same sentence.
func wrapped(line, next string, width int) bool {
	if bullet.MatchString(next) || labelled.MatchString(next) || len(line) < 40 {
		return false
	}
	first, _, _ := strings.Cut(strings.TrimSpace(next), " ")
	return len(line)*10 >= width*6 || len(line)+1+len(first) > width
}
