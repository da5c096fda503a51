package extract

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// ranges divides text into sentences: byte ranges without surrounding white
// space that hold at least one letter or digit. A newline always ends one; with
// split, so do '.', '!', '?', ';' and their like where a reader would stop.
func ranges(text string, split bool) [][2]int {
	var out [][2]int
	start, depth := 0, 0
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		i += size
		switch r {
		case '(', '[':
			depth++
		case ')', ']':
			depth = max(0, depth-1)
		}
		end := 0
		switch {
		case r == '\n':
			end, depth = i, 0
		case split && stops(text, start, i, r, depth):
			end = closing(text, i)
		}
		if end > 0 {
			out = appendRange(out, text, start, end)
			start, i = end, end
		}
	}
	return appendRange(out, text, start, len(text))
}

// stops reports whether the terminator r that ends at i ends the sentence.
func stops(text string, start, i int, r rune, depth int) bool {
	switch r {
	case '。', '！', '？', '；':
		return true
	case '.', '!', '?', '…', ';':
	default:
		return false
	}
	next := closing(text, i)
	if next < len(text) {
		if n, _ := utf8.DecodeRuneInString(text[next:]); !unicode.IsSpace(n) {
			return false // 3.14, v1.2.3, main.go, a;b
		}
	}
	switch r {
	case ';':
		return depth == 0
	case '!', '?':
		return true
	}
	return !continues(text[start:i], strings.TrimLeftFunc(text[next:], unicode.IsSpace))
}

// closing returns where the quotes and brackets end that close behind i.
func closing(text string, i int) int {
	for i < len(text) {
		r, size := utf8.DecodeRuneInString(text[i:])
		if !strings.ContainsRune("\"')]}»”’*_`.!?…", r) {
			break
		}
		i += size
	}
	return i
}

// continues reports whether the full stop at the end of before is no end: an
// abbreviation, an initial, an ordinal.
func continues(before, after string) bool {
	if after == "" {
		return false
	}
	next, _ := utf8.DecodeRuneInString(after)
	word := before[strings.LastIndexFunc(before[:len(before)-1], isBreak)+1:]
	word = strings.Trim(strings.TrimRight(word, ".…"), "\"'([{«“‘*_`")
	lower := strings.ToLower(word)
	switch {
	case word == "":
		return unicode.IsLower(next)
	case allDigits(word):
		return ordinal(before, word, after)
	case beforeNumber[lower]:
		return unicode.IsDigit(next) || lower != "no" && unicode.IsLower(next)
	case never[lower]:
		return true
	case mayEnd[lower]:
		return !unicode.IsUpper(next)
	case utf8.RuneCountInString(word) == 1 && unicode.IsLetter(firstRune(word)) && unicode.IsUpper(firstRune(word)):
		return unicode.IsUpper(next) // J. Smith
	case dotted(word):
		return true // U.S., e.g., z.B.
	}
	return unicode.IsLower(next) && utf8.RuneCountInString(word) < 4
}

func isBreak(r rune) bool { return unicode.IsSpace(r) || r == '—' || r == '/' }

func firstRune(s string) rune {
	r, _ := utf8.DecodeRuneInString(s)
	return r
}

func allDigits(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' }) < 0
}

// ordinal: "1. Stop the node" at the beginning, "am 3. Mai" within.
func ordinal(before, word, after string) bool {
	if strings.TrimLeftFunc(before, unicode.IsSpace) == word+"." {
		return true
	}
	name, _, _ := strings.Cut(after, " ")
	return len(word) <= 2 && months[strings.ToLower(strings.TrimRight(name, ".,;"))] || unicode.IsLower(firstRune(after))
}

// dotted: single letters with full stops between them.
func dotted(word string) bool {
	letters := strings.Split(word, ".")
	if len(letters) < 2 {
		return false
	}
	for _, l := range letters {
		if utf8.RuneCountInString(l) != 1 || !unicode.IsLetter(firstRune(l)) {
			return false
		}
	}
	return true
}

// appendRange trims a range, divides it when it is too long, and drops it when
// it says nothing.
func appendRange(out [][2]int, text string, start, end int) [][2]int {
	for start < end {
		s := text[start:end]
		start += len(s) - len(strings.TrimLeftFunc(s, unicode.IsSpace))
		stop := start + bounded(text[start:end])
		trimmed := strings.TrimRightFunc(text[start:stop], unicode.IsSpace)
		if strings.IndexFunc(trimmed, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }) >= 0 {
			out = append(out, [2]int{start, start + len(trimmed)})
		}
		start = stop
	}
	return out
}

// bounded is how much of s one sentence may hold: up to the last white space
// before the bound, or to the last whole character.
func bounded(s string) int {
	if len(s) <= MaxSentenceBytes {
		return len(s)
	}
	if i := strings.LastIndexFunc(s[:MaxSentenceBytes], unicode.IsSpace); i > 0 {
		return i
	}
	n := MaxSentenceBytes
	for !utf8.RuneStart(s[n]) {
		n--
	}
	return n
}
