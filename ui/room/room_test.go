package room

import (
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/answer"
	"github.com/cloister-os/cloister/ui/view"
)

func TestBoldMarksBecomeSpans(t *testing.T) {
	for text, want := range map[string][]view.Span{
		"":               nil,
		"plain":          {{Text: "plain"}},
		"**a** b":        {{Text: "a", Strong: true}, {Text: " b"}},
		"x **a**, **b**": {{Text: "x "}, {Text: "a", Strong: true}, {Text: ", "}, {Text: "b", Strong: true}},
		"2 ** 3":         {{Text: "2 "}, {Text: "** 3"}},
	} {
		if got := spans(text); !reflect.DeepEqual(got, want) {
			t.Errorf("%q became %v", text, got)
		}
	}
}

func TestSpansLoseNoText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOf(rapid.SampledFrom([]rune("a* é\n"))).Draw(t, "text")
		var b strings.Builder
		for _, s := range spans(text) {
			b.WriteString(s.Text)
		}
		if got, want := strings.ReplaceAll(b.String(), "*", ""), strings.ReplaceAll(text, "*", ""); got != want {
			t.Fatalf("%q became %q", text, got)
		}
	})
}

func TestOutcomesOfAnAnswer(t *testing.T) {
	c := []answer.Citation{{Source: "docs", Record: "docs/document/a.md", Title: "A", Text: "Q", Version: 7, Start: 1, End: 2, SHA256: "00"}}
	stated := showAnswer(answer.Answer{Outcome: answer.Stated, Answer: "**Yes**.", Citations: c}, "R")
	if len(stated.Spans) != 2 || !reflect.DeepEqual(stated.Spans[1].Cites, []int{1}) || stated.Note != "" {
		t.Errorf("stated: %+v", stated)
	}
	if got := stated.Citations[0]; got.Raw || got.Kind != "document" || got.URI != "a.md" || !strings.Contains(got.URL, "run=R") {
		t.Errorf("citation: %+v", got)
	}
	closest := showAnswer(answer.Answer{Outcome: answer.Closest, Answer: "No source states this directly. The closest passages:\nQ", Citations: c}, "R")
	if closest.Note != "No source states this directly. The closest passages:" || closest.Spans != nil {
		t.Errorf("closest: %+v", closest)
	}
	unknown := showAnswer(answer.Answer{Outcome: answer.Unknown, Answer: "The sources do not say. Searched: docs."}, "R")
	if unknown.Note != "Searched: docs." || unknown.Outcome != view.Unknown {
		t.Errorf("unknown: %+v", unknown)
	}
}

func TestStagesStandWhereTheRunStands(t *testing.T) {
	got := stagesAt("compose", view.Bad)
	want := []view.Tone{view.OK, view.OK, view.OK, view.Bad, view.Calm, view.Calm}
	for i, s := range got {
		if s.Tone != want[i] {
			t.Errorf("%s is %s, not %s", s.Name, s.Tone, want[i])
		}
	}
}

func TestCutTextIsWholeCharacters(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := []byte(rapid.String().Draw(t, "text"))
		i := rapid.IntRange(0, len(text)).Draw(t, "cut")
		before, after := whole(text[i:], text[:i])
		if !utf8.Valid(before) || !utf8.Valid(after) {
			t.Fatalf("%q and %q", before, after)
		}
		if len(before) < len(text[i:])-3 || len(after) < i-3 {
			t.Fatalf("too much was dropped: %q and %q of %q", before, after, text)
		}
	})
}

func TestQuestionsComeFromWhatIsThere(t *testing.T) {
	commit := graph.Record{Payload: graph.Content{Inline: []byte("abc\nAuthor: A\n\nSubject\n\nChanges:\nremoved x\nmodified src/a b.go\n")}}
	if got := askCommit(commit); got != "Who last changed src/a b.go?" {
		t.Errorf("%q", got)
	}
	if got := askCommit(graph.Record{}); got != "" {
		t.Errorf("%q of nothing", got)
	}
	if got := askDocument(graph.Record{Title: "Retention"}); got != "Which document explains Retention?" {
		t.Errorf("%q", got)
	}
}
