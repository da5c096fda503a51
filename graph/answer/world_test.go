package answer_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/answer"
	"github.com/cloister-os/cloister/graph/answer/measure"
	"github.com/cloister-os/cloister/graph/search"
	"github.com/cloister-os/cloister/store/blob"
	"github.com/cloister-os/cloister/store/storetest"
)

// rig is an Answerer over an empty in-memory store and what loads it.
type rig struct {
	answers *answer.Answerer
	load    measure.Loader
	index   *search.Index
	embed   graph.Embedder
}

func open(t testing.TB) rig {
	t.Helper()
	st := storetest.NewModel(nil)
	blobs, err := blob.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	embed := testEmbedder(t)
	ix, err := search.Open(search.Config{Dir: t.TempDir(), Store: st, Blobs: blobs, Embedder: embed, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { ix.Run(ctx); close(done) }()
	t.Cleanup(func() { stop(); <-done; ix.Close() })
	a, err := answer.New(answer.Config{Store: st, Blobs: blobs, Index: ix, Embed: embed, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	return rig{a, measure.Loader{Store: st, Blobs: blobs}, ix, embed}
}

func load(t testing.TB, l measure.Loader, w measure.World) {
	t.Helper()
	ctx := context.Background()
	for name, kind := range map[string]string{measure.CodeSource: "git", measure.DocsSource: "files"} {
		if err := l.Source(ctx, name, kind); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Commits(ctx, measure.CodeSource, measure.AsOf(), w.Commits...); err != nil {
		t.Fatal(err)
	}
	if err := l.Documents(ctx, measure.DocsSource, measure.AsOf(), w.Files...); err != nil {
		t.Fatal(err)
	}
}

// score counts what was right.
type score struct{ graph, graphRight, text, textEvidence, textRight, none, noneRight int }

func ask(t testing.TB, r rig, w measure.World) (s score) {
	t.Helper()
	ctx := context.Background()
	if err := r.index.WaitFor(ctx, r.load.Store.Applied()); err != nil {
		t.Fatal(err)
	}
	r.waitForVectors(t)
	access := graph.AccessTo(measure.CodeSource, measure.DocsSource)
	for _, q := range w.Questions {
		for _, wording := range q.Wordings {
			plan, err := r.answers.Understand(ctx, access, answer.Question{Text: wording})
			if err != nil {
				t.Fatal(err)
			}
			got, err := r.answers.Ask(ctx, access, answer.Question{Text: wording})
			if err != nil {
				t.Fatalf("%s: %v", wording, err)
			}
			g := measure.Judge(q, string(plan.Shape), got)
			s.add(q, g)
			if !g.Right || !g.Shape || !g.Evidence {
				t.Logf("%q as %s: %s", wording, plan.Shape, g.Why)
			}
		}
	}
	return s
}

func (s *score) add(q measure.Asked, g measure.Grade) {
	switch {
	case q.None:
		s.none, s.noneRight = s.none+1, s.noneRight+one(g.Right)
	case q.Holds != nil || q.Shape == "how_fresh":
		s.graph, s.graphRight = s.graph+1, s.graphRight+one(g.Right && g.Shape && g.Evidence)
	default:
		s.text, s.textEvidence, s.textRight = s.text+1, s.textEvidence+one(g.Evidence), s.textRight+one(g.Right)
	}
}

// The main job asks for 90 % of the evidence, 95 % of the shapes and 90 % of
// what cannot be answered; this world is easier than what people bring.
func (s score) check(t testing.TB) {
	t.Helper()
	t.Logf("shapes %d of %d, evidence %d of %d (answered %d), not answered %d of %d", s.graphRight, s.graph, s.textEvidence, s.text, s.textRight, s.noneRight, s.none)
	if s.graphRight*100 < s.graph*95 || s.textEvidence*100 < s.text*90 || s.noneRight*100 < s.none*90 {
		t.Error("too little is right")
	}
}

func TestWorldIsAnsweredFromTextAlone(t *testing.T) {
	r := open(t)
	w := measure.NewWorld()
	load(t, r.load, w)
	ask(t, r, w).check(t)
}

func TestWorldIsAnsweredThroughTheConnectors(t *testing.T) {
	r := open(t)
	w := measure.NewWorld()
	connectWorld(t, r, w)
	ask(t, r, w).check(t)
}
