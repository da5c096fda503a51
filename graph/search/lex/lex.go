// Package lex is the one place that says what a word is: how text is cut into
// tokens, when two words count as the same, which words carry no content, and
// how a name is normalised before it is compared with another.
//
// The text index, the alias index and the ranking of sentences all use it, so a
// question and a document are always cut alike. Everything here is a pure
// function. It may import nothing of Cloister.
package lex

import (
	"strings"
	"unicode"
	"unicode/utf8"

	porter "github.com/blevesearch/go-porterstemmer"
	"golang.org/x/text/unicode/norm"
)

// Token is one word of a text.
type Token struct {
	Text  string // lower case, diacritics folded
	Stem  string // what Text is compared by
	Start int    // byte offset in the text
	End   int
}

// Tokens cuts a text into words: runs of letters and digits. Numbers keep their
// inner points, commas and colons ("1,000.5", "10:30"); everything else ends a
// word, so "src/retry_budget.go" is four.
func Tokens(text string) []Token {
	out := make([]Token, 0, len(text)/6+1)
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		if !wordRune(r) {
			i += size
			continue
		}
		end := wordEnd(text, i)
		out = append(out, newToken(text, i, end))
		i = end
	}
	return out
}

// wordEnd returns where the word that begins at start ends.
func wordEnd(text string, start int) int {
	i := start
	var last rune
	for i < len(text) {
		r, size := utf8.DecodeRuneInString(text[i:])
		if !wordRune(r) && !joins(last, r, text[i+size:]) {
			break
		}
		last = r
		i += size
	}
	return i
}

// joins reports whether a point, comma or colon stands between two digits, or an
// apostrophe between two letters.
func joins(before, r rune, rest string) bool {
	next, _ := utf8.DecodeRuneInString(rest)
	switch r {
	case '.', ',', ':':
		return unicode.IsDigit(before) && unicode.IsDigit(next)
	case '\'', '’':
		return unicode.IsLetter(before) && unicode.IsLetter(next)
	}
	return false
}

func wordRune(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.Is(unicode.Mn, r)
}

func newToken(text string, start, end int) Token {
	w := Fold(text[start:end])
	w = strings.ReplaceAll(w, "’", "'")
	w = strings.TrimSuffix(w, "'s")
	return Token{Text: w, Stem: Stem(w), Start: start, End: end}
}

// Fold lowers case and removes diacritics.
func Fold(s string) string {
	if isASCII(s) {
		return strings.ToLower(s)
	}
	var b strings.Builder
	for _, r := range norm.NFKD.String(strings.ToLower(s)) {
		if !unicode.Is(unicode.Mn, r) {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// maxStemBytes bounds the words that are stemmed; longer ones are no words.
const maxStemBytes = 64

// Stem reduces a folded word to the form by which it is compared: English words
// by Porter's algorithm, number words to digits, some common words whose forms
// differ ("ran", "built") to one of them.
func Stem(word string) string {
	if n, ok := numberWords[word]; ok {
		return n
	}
	if base, ok := irregular[word]; ok {
		word = base
	}
	if len(word) < 3 || len(word) > maxStemBytes || !isASCII(word) || strings.ContainsAny(word, "0123456789") {
		return word
	}
	return porter.StemString(word)
}

// Normalize is the form in which names are compared: words of the name, folded,
// with one blank between them.
func Normalize(name string) string {
	var b strings.Builder
	for i, t := range Tokens(name) {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(t.Text)
	}
	return b.String()
}

// Stems returns the stems of a text, in order.
func Stems(text string) []string {
	tokens := Tokens(text)
	out := make([]string, len(tokens))
	for i, t := range tokens {
		out[i] = t.Stem
	}
	return out
}

// Content returns the tokens that carry content: those that are not stop words.
func Content(tokens []Token) []Token {
	out := make([]Token, 0, len(tokens))
	for _, t := range tokens {
		if !IsStop(t.Text) {
			out = append(out, t)
		}
	}
	return out
}

// Near reports whether two strings differ by at most one insertion, deletion,
// substitution or swap of neighbours. Equal strings are near.
func Near(a, b string) bool {
	if a == b {
		return true
	}
	ra, rb := []rune(a), []rune(b)
	if len(ra) > len(rb) {
		ra, rb = rb, ra
	}
	if len(rb)-len(ra) > 1 {
		return false
	}
	i := 0
	for i < len(ra) && ra[i] == rb[i] {
		i++
	}
	if len(ra) < len(rb) {
		return string(ra[i:]) == string(rb[i+1:])
	}
	if string(ra[i+1:]) == string(rb[i+1:]) {
		return true
	}
	return i+1 < len(ra) && ra[i] == rb[i+1] && ra[i+1] == rb[i] && string(ra[i+2:]) == string(rb[i+2:])
}
