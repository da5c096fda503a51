package mainjob

import (
	"testing"

	"github.com/cloister-os/cloister/test/world"
)

func TestScoreCatchesWhatMustNotPass(t *testing.T) {
	q := world.Question{Shape: "fact", Wordings: [3]string{"Which port?"}, Fact: "4711", Answer: []string{"4711"}}
	cite := func(text, sum string) answer {
		a := answer{Outcome: "answer", Answer: "It listens on port 4711, says Ada Lovelace since 3 May 2021."}
		a.Citations = append(a.Citations, struct {
			Source  string `json:"source"`
			Record  string `json:"record"`
			Version uint64 `json:"version"`
			Title   string `json:"title"`
			URI     string `json:"uri"`
			Start   int64  `json:"start"`
			End     int64  `json:"end"`
			Text    string `json:"text"`
			SHA256  string `json:"sha256"`
		}{Text: text, End: int64(len(text)), SHA256: sum})
		return a
	}
	var s Score
	s.add(q, 0, cite("It listens on port 4711, says Ada Lovelace since 2021-05-03.", "a0"))
	if s.Evidence != 1 || s.Unsupported != 0 || s.BadCitations != 1 {
		t.Fatalf("a wrong hash must be a bad citation and nothing else: %+v", s)
	}
	s = Score{}
	s.add(q, 0, cite("It listens on a port.", ""))
	if s.Evidence != 0 || s.Unsupported != 3 {
		t.Fatalf("an invented number, name and date must be found: %+v", s.Misses)
	}
	s = Score{}
	s.add(world.Question{Shape: "unknown"}, 0, cite("x", ""))
	if s.Refused != 0 || len(s.FalseAnswers) != 1 {
		t.Fatalf("an answer to the unanswerable must count as false: %+v", s)
	}
}
