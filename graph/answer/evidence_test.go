package answer_test

import (
	"testing"

	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/answer/measure"
)

// BenchmarkXQuAD asks all held-out questions with their articles loaded, and as
// many with theirs not, and prints what came of it.
func BenchmarkXQuAD(b *testing.B) {
	dir, err := measure.DataDir()
	if err != nil {
		b.Skip(err)
	}
	x, err := measure.LoadXQuAD(dir)
	if err != nil {
		b.Fatal(err)
	}
	r := open(b)
	held := x.Half(1)
	if err := r.load.Source(b.Context(), "x", "files"); err != nil {
		b.Fatal(err)
	}
	if err := r.load.Documents(b.Context(), "x", measure.AsOf(), held.Files()...); err != nil {
		b.Fatal(err)
	}
	if err := r.index.WaitFor(b.Context(), r.load.Store.Applied()); err != nil {
		b.Fatal(err)
	}
	r.waitForVectors(b)
	s, err := measure.Evidence(b.Context(), r.answers, graph.AccessTo("x"), held, x.Half(0))
	if err != nil {
		b.Fatal(err)
	}
	say("P@1 %.3f P@3 %.3f of %d; answered %.3f, precision %.3f; foreign questions answered %.3f of %d; p95 %.0f ms",
		float64(s.First)/float64(s.Asked), float64(s.Three)/float64(s.Asked), s.Asked, float64(s.Answered)/float64(s.Asked),
		float64(s.Right)/float64(s.Answered), float64(s.FalseAnswers)/float64(s.Foreign), s.Foreign, s.P95())
}
