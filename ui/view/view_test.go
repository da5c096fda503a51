package view

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestColouringKeepsEachByte(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOfN(rapid.RuneFrom([]rune("permit forbid when\"\\/\n _aé;")), 0, 60, -1).Draw(t, "policy")
		var b strings.Builder
		for _, x := range cedar(text) {
			b.WriteString(x.text)
		}
		if b.String() != text {
			t.Fatalf("%q became %q", text, b.String())
		}
	})
}

func TestWordsForNumbers(t *testing.T) {
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	for got, want := range map[string]string{
		Count(0): "0", Count(999): "999", Count(1000): "1\u202f000", Count(-1234567): "-1\u202f234\u202f567",
		Bytes(1023): "1023 B", Bytes(1024): "1.0 KiB", Bytes(5 << 40): "5.0 TiB",
		Dollars(0): "$0", Dollars(999): "< $0.000001", Dollars(14_200): "$0.000014", Dollars(2_500_000_000): "$2.50",
		Plural(1, "file", "files"): "1 file", Plural(2, "file", "files"): "2 files",
		Took(31 * time.Millisecond): "31 ms", Took(90 * time.Second): "1 min 30 s",
		Ago(now, now): "just now", Ago(now, now.Add(-61*time.Second)): "1 min ago", Ago(now, now.Add(-30*time.Hour)): "1 day ago",
	} {
		if got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}
