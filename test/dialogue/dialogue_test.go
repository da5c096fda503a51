package dialogue

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cloister-os/cloister/auth/guard/guardtest"
	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/answer"
	"github.com/cloister-os/cloister/graph/connect"
	"github.com/cloister-os/cloister/graph/connect/transport/files"
	"github.com/cloister-os/cloister/graph/connect/transport/git"
	"github.com/cloister-os/cloister/graph/search"
	"github.com/cloister-os/cloister/store/blob"
	"github.com/cloister-os/cloister/store/storetest"
	"github.com/cloister-os/cloister/test/world"
)

// The bounds that a release must hold.
const (
	minRight   = 0.90 // of the follow-ups
	maxTouched = 0    // questions of their own that a conversation changed
)

// TestFollowUpsAreUnderstood lets every dialogue of a world run. A follow-up
// is right when the answer holds all the facts of the generator's gold and none
// that it must not; a question of its own is right when its plan is, byte for
// byte, the one it has without any conversation.
func TestFollowUpsAreUnderstood(t *testing.T) {
	var s score
	for _, seed := range seeds(t) {
		w, err := world.New(t.TempDir(), seed)
		if err != nil {
			t.Fatal(err)
		}
		r := connected(t, w)
		for _, d := range w.Dialogues {
			r.run(t, d, &s)
		}
		for i, text := range w.Plain() {
			for j := range 4 {
				d := w.Dialogues[(i*31+j*17)%len(w.Dialogues)]
				r.run(t, world.Dialogue{Kind: "plain", Turns: []world.Turn{d.Turns[0], {Text: text}}}, &s)
			}
		}
	}
	s.report(t)
}

// seeds is one world, or those that CLOISTER_DIALOGUE_SEEDS lists, parted by commas.
func seeds(t *testing.T) (out []uint64) {
	t.Helper()
	list := os.Getenv("CLOISTER_DIALOGUE_SEEDS")
	if list == "" {
		return []uint64{11}
	}
	for s := range strings.SplitSeq(list, ",") {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, n)
	}
	return out
}

// score counts turns.
type score struct {
	asked, right, alone, touched int
	kinds                        map[string][2]int
}

func (s *score) report(t *testing.T) {
	var kinds []string
	for k := range s.kinds {
		kinds = append(kinds, k)
	}
	slices.Sort(kinds)
	for _, k := range kinds {
		t.Logf("%-10s %d of %d", k, s.kinds[k][0], s.kinds[k][1])
	}
	share := float64(s.right) / float64(s.asked)
	t.Logf("follow-ups: %d of %d right (%.3f); questions of their own: %d of %d touched", s.right, s.asked, share, s.touched, s.alone)
	if s.asked < 200 || s.alone < 200 {
		t.Errorf("only %d follow-ups and %d questions of their own were asked", s.asked, s.alone)
	}
	if share < minRight || s.touched > maxTouched {
		t.Error("too little is right")
	}
}

// rig is an Answerer over a world that was connected.
type rig struct {
	answers *answer.Answerer
	access  graph.Access
}

func connected(t *testing.T, w *world.World) rig {
	t.Helper()
	st := storetest.NewModel(nil)
	blobs, err := blob.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	ix, err := search.Open(search.Config{Dir: t.TempDir(), Store: st, Blobs: blobs, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { ix.Run(ctx); close(done) }()
	t.Cleanup(func() { stop(); <-done; ix.Close() })
	s, err := connect.New(connect.Config{Store: st, Blobs: blobs, Door: guardtest.Open(t, st),
		Connectors: []connect.Connector{git.New(), files.New()}, Node: guardtest.Node(), Every: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	for _, src := range []graph.Source{{Name: "code", Kind: "git", Path: w.Repository}, {Name: "handbook", Kind: "files", Path: w.Documents}} {
		if _, err := s.Add(t.Context(), guardtest.Admin(), src); err != nil {
			t.Fatal(err)
		}
		if p, err := s.Wait(t.Context(), guardtest.Admin(), src.Name); err != nil || p.Error != "" {
			t.Fatal(err, p.Error)
		}
	}
	a, err := answer.New(answer.Config{Store: st, Blobs: blobs, Index: ix, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	return rig{a, graph.AccessTo("code", "handbook")}
}

// ask takes a question through all steps.
func (r rig) ask(t *testing.T, text string, earlier []answer.Turn) (answer.Turn, answer.Answer) {
	t.Helper()
	ctx := t.Context()
	p, err := r.answers.Follow(ctx, r.access, answer.Question{Text: text}, func(context.Context) ([]answer.Turn, error) { return earlier, nil })
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	e, err := r.answers.Gather(ctx, r.access, p)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	d, err := r.answers.Compose(p, e)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if d, err = r.answers.Verify(d); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	got, err := r.answers.Cite(ctx, r.access, d)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return answer.Turn{Plan: p, Evidence: e}, got
}

func (r rig) run(t *testing.T, d world.Dialogue, s *score) {
	t.Helper()
	if s.kinds == nil {
		s.kinds = map[string][2]int{}
	}
	var earlier []answer.Turn
	var said []string
	for _, turn := range d.Turns {
		got, a := r.ask(t, turn.Text, earlier)
		if turn.Follows {
			k := s.kinds[d.Kind]
			s.asked, k[1] = s.asked+1, k[1]+1
			if why := r.wrong(t, turn, a); why == "" {
				s.right, k[0] = s.right+1, k[0]+1
			} else {
				t.Logf("%s: %q after %q: understood as %q: %s", d.Kind, turn.Text, said, a.Understood, why)
			}
			s.kinds[d.Kind] = k
		} else {
			s.alone++
			if why := r.touched(t, turn.Text, got.Plan); why != "" {
				s.touched++
				t.Logf("%s: %q after %q is touched by its conversation: %s", d.Kind, turn.Text, said, why)
			}
		}
		earlier = append([]answer.Turn{got}, earlier...)
		said = append(said, turn.Text)
	}
}

// wrong says what is wrong with a follow-up's answer, or "".
func (r rig) wrong(t *testing.T, turn world.Turn, a answer.Answer) string {
	t.Helper()
	if turn.Alone != "" {
		if _, full := r.ask(t, turn.Alone, nil); full.Outcome != a.Outcome || full.Answer != a.Answer {
			return fmt.Sprintf("asked in full as %q it is answered [%s] %s, and not [%s] %s", turn.Alone, full.Outcome, full.Answer, a.Outcome, a.Answer)
		}
		return ""
	}
	if turn.Unclear {
		if a.Unclear == "" {
			return "it was answered: " + a.Answer
		}
		return ""
	}
	if a.Outcome != answer.Stated {
		return fmt.Sprintf("[%s] %s", a.Outcome, a.Answer)
	}
	text := a.Answer
	for _, c := range a.Citations {
		text += "\n" + c.Text
	}
	for _, want := range turn.Holds {
		if !strings.Contains(text, want) {
			return fmt.Sprintf("no %q in %s", want, a.Answer)
		}
	}
	for _, not := range turn.Not {
		if strings.Contains(a.Answer, not) {
			return fmt.Sprintf("there is %q in %s", not, a.Answer)
		}
	}
	return ""
}

// touched says how a plan differs from that of the same question asked alone.
func (r rig) touched(t *testing.T, text string, got answer.Plan) string {
	t.Helper()
	alone, err := r.answers.Understand(t.Context(), r.access, answer.Question{Text: text})
	if err != nil {
		t.Fatal(err)
	}
	a, err := json.Marshal(alone)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if string(a) != string(b) {
		return fmt.Sprintf("%s\nalone: %s", b, a)
	}
	return ""
}
