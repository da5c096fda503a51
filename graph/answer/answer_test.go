package answer_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/answer"
	"github.com/cloister-os/cloister/graph/answer/measure"
	"github.com/cloister-os/cloister/store"
)

var everything = graph.AccessTo(measure.CodeSource, measure.DocsSource)

func mustAsk(t testing.TB, r rig, access graph.Access, q answer.Question) answer.Answer {
	t.Helper()
	a, err := r.answers.Ask(context.Background(), access, q)
	if err != nil {
		t.Fatalf("%s: %v", q.Text, err)
	}
	return a
}

var stated = regexp.MustCompile(`\d+(?:[.:,-]\d+)*|\b\p{Lu}\p{Ll}+ \p{Lu}\p{Ll}+\b`)

// The invariant, checked without the code that enforces it: no number, date or
// name stands in an answer that its citations do not hold. A count of rows is a
// number of ours, and its rows are cited.
func TestNothingIsStatedThatNoCitationHolds(t *testing.T) {
	r := open(t)
	w := measure.NewWorld()
	load(t, r.load, w)
	facts := measure.NewFacts(9)
	if err := r.load.Documents(t.Context(), measure.DocsSource, measure.AsOf(), append(w.Files, facts.Files[:8]...)...); err != nil {
		t.Fatal(err)
	}
	for _, q := range facts.Questions[:60] {
		w.Questions = append(w.Questions, measure.Asked{Wordings: []string{q.Text}})
	}
	n := 0
	for _, q := range w.Questions {
		for _, text := range q.Wordings {
			a := mustAsk(t, r, everything, answer.Question{Text: text})
			if a.Outcome != answer.Stated || strings.HasPrefix(q.Shape, "count") || q.Shape == "contributors" {
				continue
			}
			n++
			var held strings.Builder
			for _, c := range a.Citations {
				held.WriteString(c.Text + "\n")
			}
			for _, s := range stated.FindAllString(a.Answer, -1) {
				if !strings.Contains(held.String(), s) {
					t.Errorf("%q: %q is in no citation: %s", text, s, a.Answer)
				}
			}
		}
	}
	if n < 100 {
		t.Errorf("only %d answers were checked", n)
	}
}

func TestCitationsAreTheBytesOfTheStore(t *testing.T) {
	r := open(t)
	w := measure.NewWorld()
	load(t, r.load, w)
	for _, q := range w.Questions {
		a := mustAsk(t, r, everything, answer.Question{Text: q.Wordings[0]})
		if a.Outcome == answer.Stated && len(a.Citations) == 0 && q.Shape != "how_fresh" {
			t.Errorf("%q is answered without a citation", q.Wordings[0])
		}
		for _, c := range a.Citations {
			sum := sha256.Sum256([]byte(c.Text))
			if c.SHA256 != hex.EncodeToString(sum[:]) || c.End-c.Start != len(c.Text) || bytesOf(t, r, c) != c.Text {
				t.Errorf("%q: citation %+v is not what the store holds", q.Wordings[0], c)
			}
		}
	}
}

// bytesOf reads a citation as anybody would who has only the citation.
func bytesOf(t testing.TB, r rig, c answer.Citation) (text string) {
	t.Helper()
	id, err := graph.ParseRecordID(c.Record)
	if err != nil {
		t.Fatal(err)
	}
	err = r.load.Store.View(context.Background(), store.At(c.Version), func(s store.Snapshot) error {
		reader := graph.NewReader(s, graph.AccessTo(c.Source), r.load.Blobs)
		rec, err := reader.Record(id)
		if err != nil {
			return err
		}
		content := rec.Payload
		if !rec.Text.IsZero() {
			content = rec.Text
		}
		b, err := reader.Range(content, c.Start, c.End)
		text = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// A run journals between the steps: what comes back from JSON or CBOR must lead
// to the same answer.
func TestStepsCanBeJournaled(t *testing.T) {
	r := open(t)
	w := measure.NewWorld()
	load(t, r.load, w)
	ctx := t.Context()
	for _, q := range w.Questions {
		question := answer.Question{Text: q.Wordings[0]}
		plan, err := r.answers.Understand(ctx, everything, question)
		if err != nil {
			t.Fatal(err)
		}
		question.Version = plan.Version
		want := mustAsk(t, r, everything, question)
		plan = journaled(t, plan)
		evidence, err := r.answers.Gather(ctx, everything, plan)
		if err != nil {
			t.Fatal(err)
		}
		draft, err := r.answers.Compose(plan, journaled(t, evidence))
		if err != nil {
			t.Fatal(err)
		}
		draft, err = r.answers.Verify(journaled(t, draft))
		if err != nil {
			t.Fatal(err)
		}
		got, err := r.answers.Cite(ctx, everything, journaled(t, draft))
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(journaled(t, got), journaled(t, want)) {
			t.Errorf("%q: journaled\n%+v\nat once\n%+v", q.Wordings[0], got, want)
		}
	}
}

func journaled[T any](t testing.TB, v T) T {
	t.Helper()
	var fromJSON, fromCBOR T
	b, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(b, &fromJSON)
	}
	if err != nil {
		t.Fatal(err)
	}
	b, err = cbor.Marshal(fromJSON)
	if err == nil {
		err = cbor.Unmarshal(b, &fromCBOR)
	}
	if err != nil {
		t.Fatal(err)
	}
	return fromCBOR
}

// To somebody who may read one source, the other does not exist: every answer is
// the same as in a house without it.
func TestWhatMayNotBeReadIsNotThere(t *testing.T) {
	w := measure.NewWorld()
	both, one := open(t), open(t)
	load(t, both.load, w)
	if err := errors.Join(one.load.Source(t.Context(), measure.DocsSource, "files"),
		one.load.Documents(t.Context(), measure.DocsSource, measure.AsOf(), w.Files...)); err != nil {
		t.Fatal(err)
	}
	docs := graph.AccessTo(measure.DocsSource)
	for _, q := range w.Questions {
		got := mustAsk(t, both, docs, answer.Question{Text: q.Wordings[0]})
		want := mustAsk(t, one, docs, answer.Question{Text: q.Wordings[0]})
		for i := range got.Citations {
			got.Citations[i].Version = 0
		}
		for i := range want.Citations {
			want.Citations[i].Version = 0
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%q\nbeside a source that may not be read: %+v\nwithout it: %+v", q.Wordings[0], got, want)
		}
	}
	none := mustAsk(t, both, graph.AccessTo(), answer.Question{Text: "How often is the ledger database backed up?"})
	if none.Outcome != answer.Unknown || len(none.Citations)+len(none.Freshness) != 0 {
		t.Errorf("with no source to read: %+v", none)
	}
}

func TestADeletedFileLeavesAnswersAtOneVersion(t *testing.T) {
	r := open(t)
	w := measure.NewWorld()
	load(t, r.load, w)
	q := answer.Question{Text: "Who prints the paper invoices?"}
	before := mustAsk(t, r, everything, q)
	if before.Outcome != answer.Stated {
		t.Fatalf("before the deletion: %+v", before)
	}
	if err := r.load.Delete(t.Context(), measure.DocsSource, measure.AsOf(), "team/vendors.md"); err != nil {
		t.Fatal(err)
	}
	after := mustAsk(t, r, everything, q)
	for _, c := range after.Citations {
		if strings.Contains(c.Record, "vendors") {
			t.Errorf("after the deletion it is still cited: %+v", after)
		}
	}
	q.Version = before.Citations[0].Version
	if again := mustAsk(t, r, everything, q); !reflect.DeepEqual(again, before) {
		t.Errorf("at the version before it reads\n%+v\nnot\n%+v", again, before)
	}
}

func TestVerifyDropsWhatItsCitationDoesNotHold(t *testing.T) {
	r := open(t)
	quote := answer.Quote{Record: graph.RecordID{Source: "docs", Stream: "document", Native: "a7.md"}, Text: "The limit is ten requests."}
	say := func(parts ...answer.Said) answer.Statement {
		return answer.Statement{Parts: parts, Quotes: []answer.Quote{quote}}
	}
	for _, c := range []struct {
		name string
		say  answer.Statement
		kept bool
	}{
		{"the sentence itself", say(answer.Said{Text: quote.Text, Value: true}), true},
		{"another value", say(answer.Said{Text: "twelve", Value: true}), false},
		{"a number of our own", say(answer.Said{Text: "It is about 12. "}, answer.Said{Text: "ten", Value: true}), false},
		{"half a word", say(answer.Said{Text: "quest", Value: true}), true},
		{"the record's name with a number", say(answer.Said{Text: "a7.md", Value: true}), false},
		{"nothing cited", answer.Statement{Parts: []answer.Said{{Text: "ten", Value: true}}}, false},
	} {
		d, err := r.answers.Verify(answer.Draft{Outcome: answer.Stated, Statements: []answer.Statement{c.say}})
		if err != nil {
			t.Fatal(err)
		}
		if (len(d.Statements) == 1) != c.kept || (d.Outcome == answer.Stated) != c.kept {
			t.Errorf("%s: kept %d statements with outcome %s", c.name, len(d.Statements), d.Outcome)
		}
	}
}

func TestCiteRefusesBytesThatAreNotThoseOfTheDraft(t *testing.T) {
	r := open(t)
	load(t, r.load, measure.NewWorld())
	ctx := t.Context()
	plan, err := r.answers.Understand(ctx, everything, answer.Question{Text: "Who prints the paper invoices?"})
	if err != nil {
		t.Fatal(err)
	}
	e, err := r.answers.Gather(ctx, everything, plan)
	if err != nil {
		t.Fatal(err)
	}
	d, err := r.answers.Compose(plan, e)
	if err != nil {
		t.Fatal(err)
	}
	d.Statements[0].Quotes[0].Text = strings.Replace(d.Statements[0].Quotes[0].Text, "Borealis", "Boreales", 1)
	if _, err := r.answers.Cite(ctx, everything, d); err == nil {
		t.Error("a changed quotation was released")
	}
	if _, err := r.answers.Cite(ctx, graph.AccessTo(), d); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("to somebody who lost the right meanwhile: %v", err)
	}
}

func TestQuestionsThatAreNone(t *testing.T) {
	r := open(t)
	for _, text := range []string{"", " \n\t", strings.Repeat("a", answer.MaxQuestionBytes+1)} {
		if _, err := r.answers.Ask(t.Context(), everything, answer.Question{Text: text}); !errors.Is(err, answer.ErrQuestion) {
			t.Errorf("%.20q: %v", text, err)
		}
	}
	if _, err := r.answers.Ask(t.Context(), everything, answer.Question{Text: "Who?", Zone: "Moon/Sea"}); err == nil {
		t.Error("a time zone that is none was taken")
	}
}

func FuzzAnyTextIsAnsweredSomehow(f *testing.F) {
	r := open(f)
	load(f, r.load, measure.NewWorld())
	for _, s := range []string{"Who last changed export/csv.go?", "\"", "“”", "how many", "\x00\xff", "a/b/c.go v1 'x' 2025-01-01 last 3 weeks", "when when when who"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := r.answers.Ask(context.Background(), everything, answer.Question{Text: s})
		if err != nil && !errors.Is(err, answer.ErrQuestion) {
			t.Errorf("%q: %v", s, err)
		}
		if err == nil && a.Outcome == "" {
			t.Errorf("%q has no outcome", s)
		}
	})
}
