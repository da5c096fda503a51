package engine

import (
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestSplitKeepsEveryCharacterInPartsThatFit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOf(rapid.OneOf(rapid.Rune(), rapid.RuneFrom([]rune(" \n.ab")))).Draw(t, "text")
		limit := rapid.IntRange(weightOfToken, 300).Draw(t, "limit")
		parts := split(text, limit)
		for _, p := range parts {
			if weigh(p) > limit || !utf8.ValidString(p) || strings.TrimSpace(p) == "" && p != " " {
				t.Fatalf("part %q of %q at %d", p, text, limit)
			}
		}
		got := strings.Join(strings.Fields(strings.Join(parts, "")), "")
		if want := strings.Join(strings.Fields(text), ""); got != want {
			t.Fatalf("parts hold %q, the text %q", got, want)
		}
	})
}

func TestSplitPrefersWhiteSpace(t *testing.T) {
	for _, p := range split(strings.Repeat("word ", 100), 200) {
		if !strings.HasPrefix(p, "word") || !strings.HasSuffix(p, "word ") {
			t.Errorf("part %q cuts a word", p)
		}
	}
	if got := split(" \n\t", 200); len(got) != 1 || got[0] != " " {
		t.Errorf("an empty text has parts %q", got)
	}
}
