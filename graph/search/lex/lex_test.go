package lex

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestTokens(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"Who changed src/retry_budget.go?", "who changed src retry budget go"},
		{"It holds 1,000.5 units at 10:30.", "it holds 1,000.5 units at 10:30"},
		{"Ada's key, the users’ keys", "ada key the users keys"},
		{"Über naïve Chloé", "uber naive chloe"},
		{"", ""},
	} {
		var got []string
		for _, tok := range Tokens(c.text) {
			got = append(got, tok.Text)
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("tokens of %q are %q, want %q", c.text, s, c.want)
		}
	}
}

func TestTokensAreRangesOfTheText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.String().Draw(t, "text")
		last := 0
		for _, tok := range Tokens(s) {
			if tok.Start < last || tok.End <= tok.Start || tok.End > len(s) || !utf8.ValidString(s[tok.Start:tok.End]) {
				t.Fatalf("token %+v of %q", tok, s)
			}
			last = tok.End
		}
	})
}

func TestWordsThatCountAsTheSame(t *testing.T) {
	for _, pair := range [][2]string{{"rotates", "rotating"}, {"ten", "10"}, {"kept", "keep"}, {"written", "wrote"}, {"policies", "policy"}} {
		if Stem(pair[0]) != Stem(pair[1]) {
			t.Errorf("%q and %q are different: %q, %q", pair[0], pair[1], Stem(pair[0]), Stem(pair[1]))
		}
	}
}

func TestNearIsOneEditAway(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"journal", "journal", true}, {"journal", "jornal", true}, {"journal", "journaal", true}, {"journal", "jounral", true},
		{"journal", "jpurnal", true}, {"journal", "jurnel", false}, {"", "a", true}, {"ab", "cd", false}, {"ab", "abcd", false},
	} {
		if Near(c.a, c.b) != c.want || Near(c.b, c.a) != c.want {
			t.Errorf("Near(%q, %q) is not %v both ways", c.a, c.b, c.want)
		}
	}
}

func TestNearAgreesWithItsDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := []rune(rapid.StringMatching(`[a-c]{0,6}`).Draw(t, "a"))
		b := slices.Clone(a)
		if len(b) > 0 {
			i := rapid.IntRange(0, len(b)-1).Draw(t, "at")
			switch rapid.IntRange(0, 3).Draw(t, "edit") {
			case 0:
				b = slices.Delete(b, i, i+1)
			case 1:
				b = slices.Insert(b, i, 'x')
			case 2:
				b[i] = 'x'
			case 3:
				if i+1 < len(b) {
					b[i], b[i+1] = b[i+1], b[i]
				}
			}
		}
		if !Near(string(a), string(b)) {
			t.Fatalf("%q and %q are one edit apart", string(a), string(b))
		}
	})
}
