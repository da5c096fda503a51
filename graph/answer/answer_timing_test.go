package answer_test

import (
	"testing"

	"github.com/cloister-os/cloister/graph/answer"
	"github.com/cloister-os/cloister/graph/answer/measure"
)

func BenchmarkGraphQuestion(b *testing.B) { benchmarkAsk(b, "Who last changed ledger/journal.go?") }

func BenchmarkFeatureQuestion(b *testing.B) {
	benchmarkAsk(b, "When was the feature \"fiscal calendars\" added?")
}

func BenchmarkTextQuestion(b *testing.B) {
	benchmarkAsk(b, "How long does the amber gateway keep its logs?")
}

func benchmarkAsk(b *testing.B, question string) {
	r := open(b)
	w := measure.NewWorld()
	w.Files = append(w.Files, measure.NewFacts(1).Files...)
	load(b, r.load, w)
	mustAsk(b, r, everything, answer.Question{Text: question})
	for b.Loop() {
		mustAsk(b, r, everything, answer.Question{Text: question})
	}
}
