package mainjob

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/cloister-os/cloister/test/world"
)

// answer is what `cloister ask --json` prints.
type answer struct {
	Outcome    string `json:"outcome"`
	Understood string `json:"understood"`
	Answer     string `json:"answer"`
	Citations  []struct {
		Source  string `json:"source"`
		Record  string `json:"record"`
		Version uint64 `json:"version"`
		Title   string `json:"title"`
		URI     string `json:"uri"`
		Start   int64  `json:"start"`
		End     int64  `json:"end"`
		Text    string `json:"text"`
		SHA256  string `json:"sha256"`
	} `json:"citations"`
	Freshness []struct {
		Source string    `json:"source"`
		AsOf   time.Time `json:"as_of"`
	} `json:"freshness"`
	Run          string `json:"run"`
	CostNanoUSD  int64  `json:"cost_nano_usd"`
	milliseconds float64
}

// gist is what an answer says and from where, without what differs from run to
// run: versions, times, prices. Where nothing was answered it is that: which of
// several passages that are equally close are shown depends on a node's own index.
func gist(a answer) string {
	if a.Outcome == "closest" {
		return a.Outcome
	}
	b := a.Outcome + ": " + a.Answer
	for _, c := range a.Citations {
		b += fmt.Sprintf(" [%s %s %d-%d %q]", c.Source, c.Record, c.Start, c.End, c.Text)
	}
	return b
}

// Score counts how a set of questions went.
type Score struct {
	Asked, Evidence, Right    int // answerable: asked; the cited evidence holds the fact; the answer says it
	Graph, GraphRight         int // graph shapes in the generator's own wording
	Own, OwnEvidence          int // all shapes in the generator's own wording
	Unanswerable, Refused     int
	Unsupported, BadCitations int
	ByShape                   map[string][2]int // shape → right, asked
	Misses                    []string
	Milliseconds              []float64
	FalseAnswers              []string
}

var graphShapes = map[string]bool{"last-change": true, "added": true, "release": true, "feature": true, "document": true}

// add judges one answer. wording 0 is the generator's own.
func (s *Score) add(q world.Question, wording int, a answer) {
	s.Milliseconds = append(s.Milliseconds, a.milliseconds)
	for _, why := range unsupported(a) {
		s.Unsupported++
		s.Misses = append(s.Misses, fmt.Sprintf("UNSUPPORTED %q in the answer to %q: %q", why, q.Wordings[wording], a.Answer))
	}
	if why := badCitation(a); why != "" {
		s.BadCitations++
		s.Misses = append(s.Misses, fmt.Sprintf("CITATION %s: %q", why, q.Wordings[wording]))
	}
	if q.Shape == "unknown" {
		s.Unanswerable++
		if a.Outcome == "unknown" || a.Outcome == "closest" {
			s.Refused++
		} else {
			s.FalseAnswers = append(s.FalseAnswers, fmt.Sprintf("%q → %q", q.Wordings[wording], a.Answer))
		}
		return
	}
	s.judge(q, wording, a)
}

func (s *Score) judge(q world.Question, wording int, a answer) {
	holds, right := evidence(q, a), says(q, a)
	s.Asked++
	if holds {
		s.Evidence++
	}
	if right {
		s.Right++
	}
	if wording == 0 {
		s.Own++
		if holds {
			s.OwnEvidence++
		}
		if graphShapes[q.Shape] {
			s.Graph++
			if right && holds {
				s.GraphRight++
			}
		}
	}
	if s.ByShape == nil {
		s.ByShape = map[string][2]int{}
	}
	key := fmt.Sprintf("%s/%d", q.Shape, wording)
	n := s.ByShape[key]
	n[1]++
	if holds {
		n[0]++
	}
	s.ByShape[key] = n
	if !holds {
		s.Misses = append(s.Misses, fmt.Sprintf("MISS %s %q: wanted %q, got %s %q (%s)", q.Shape, q.Wordings[wording], q.Fact, a.Outcome, a.Answer, a.Understood))
	}
}

// evidence reports whether the cited bytes hold the fact.
func evidence(q world.Question, a answer) bool {
	for _, c := range a.Citations {
		if strings.Contains(strings.ToLower(c.Text+" "+c.Title), strings.ToLower(q.Fact)) {
			return true
		}
	}
	return false
}

// says reports whether the answer itself says it.
func says(q world.Question, a answer) bool {
	for _, want := range q.Answer {
		if strings.Contains(strings.ToLower(a.Answer), strings.ToLower(want)) {
			return true
		}
	}
	return false
}

func badCitation(a answer) string {
	if a.Outcome == "answer" && len(a.Citations) == 0 {
		return "an answer without a citation"
	}
	for _, c := range a.Citations {
		sum := sha256.Sum256([]byte(c.Text))
		if hex.EncodeToString(sum[:]) != c.SHA256 {
			return "the text's SHA-256 is not the one stated"
		}
		if c.End-c.Start != int64(len(c.Text)) {
			return fmt.Sprintf("the range %d–%d is not as long as the text", c.Start, c.End)
		}
	}
	return ""
}

var (
	longDate = regexp.MustCompile(`\b\d{1,2} (?:January|February|March|April|May|June|July|August|September|October|November|December) \d{4}\b`)
	number   = regexp.MustCompile(`#?\d+(?:[.:,-]\d+)*`)
	name     = regexp.MustCompile(`\b[A-Z][a-z]+ [A-Z][a-z]+\b`)
)

// unsupported lists the names, numbers and dates of an answer that no citation of
// it holds. Dates count in either of two spellings.
func unsupported(a answer) (out []string) {
	if a.Outcome != "answer" {
		return nil
	}
	var held strings.Builder
	for _, c := range a.Citations {
		held.WriteString(c.Text + "\n")
	}
	have, text := held.String(), a.Answer
	for _, d := range longDate.FindAllString(text, -1) {
		day, err := time.Parse("2 January 2006", d)
		if err == nil && !strings.Contains(have, d) && !strings.Contains(have, day.Format(time.DateOnly)) {
			out = append(out, d)
		}
		text = strings.ReplaceAll(text, d, " ")
	}
	for _, n := range append(number.FindAllString(text, -1), name.FindAllString(text, -1)...) {
		if !strings.Contains(have, n) {
			out = append(out, n)
		}
	}
	return out
}

// Merge adds another run's counts.
func (s *Score) Merge(o Score) {
	s.Asked, s.Evidence, s.Right = s.Asked+o.Asked, s.Evidence+o.Evidence, s.Right+o.Right
	s.Graph, s.GraphRight = s.Graph+o.Graph, s.GraphRight+o.GraphRight
	s.Own, s.OwnEvidence = s.Own+o.Own, s.OwnEvidence+o.OwnEvidence
	s.Unanswerable, s.Refused = s.Unanswerable+o.Unanswerable, s.Refused+o.Refused
	s.Unsupported, s.BadCitations = s.Unsupported+o.Unsupported, s.BadCitations+o.BadCitations
	s.Misses = append(s.Misses, o.Misses...)
	s.FalseAnswers = append(s.FalseAnswers, o.FalseAnswers...)
	s.Milliseconds = append(s.Milliseconds, o.Milliseconds...)
}
