package mainjob

import (
	"testing"

	"github.com/cloister-os/cloister/test/sink"
)

// TestMainJobOnThreeNodes does the job on one node, and on three of which one is
// killed at a random moment: every answer and its citations are the same, the
// evidence verifies, and nothing leaves the building.
func TestMainJobOnThreeNodes(t *testing.T) {
	if why := sink.Reason(); why != "" {
		t.Skip(why)
	}
	seed := seeded(t)
	s := sink.New(t)
	one := walkInside(t, s, "measured", "", "", seed)
	three := walkInside(t, s, "three", "", "", seed)
	if frames := s.Frames(); len(frames) > 0 {
		t.Errorf("%d packets left the building, the first of them: %s", len(frames), frames[0])
	}
	judge(t, three)
	if len(one.Answers) == 0 {
		t.Error("nothing was asked")
	}
	for q, a := range one.Answers {
		if three.Answers[q] != a {
			t.Errorf("%q\non one node:    %s\non three nodes: %s", q, a, three.Answers[q])
		}
	}
}
