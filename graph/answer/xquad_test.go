package answer_test

import (
	"testing"

	"github.com/cloister-os/cloister/graph/answer/measure"
)

// A sample of XQuAD's held-out articles, through the real index: bounds well
// below what BenchmarkFit measures on all of them.
func TestEvidenceOfXQuADIsFound(t *testing.T) {
	if _, err := measure.DataDir(); err != nil {
		t.Skip(err)
	}
	t.Setenv("FIT_EVERY", "10")
	var n, first, three, given, right, hidden, wrong int
	for _, q := range rankXQuAD(t) {
		if q.fit {
			continue
		}
		answers := len(q.list) > 0 && judged(q).Answers
		if q.hidden != "" {
			hidden++
			wrong += one(answers)
			continue
		}
		n++
		given += one(answers)
		right += one(answers && q.gold[0])
		for i := range min(3, len(q.list)) {
			three += one(q.gold[i])
			first += one(q.gold[i] && i == 0)
		}
	}
	t.Logf("of %d: P@1 %d, P@3 %d, answered %d of which right %d; with the evidence hidden %d of %d answered", n, first, three, given, right, wrong, hidden)
	if first*100 < n*72 || three*100 < n*88 || right*100 < given*82 || wrong*100 > hidden*12 || given*100 < n*35 {
		t.Error("too little of the evidence is found")
	}
}

func one(ok bool) int {
	if ok {
		return 1
	}
	return 0
}
