package answer_test

import (
	"context"
	"testing"

	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/answer"
	"github.com/cloister-os/cloister/graph/answer/measure"
	"github.com/cloister-os/cloister/graph/search"
	"github.com/cloister-os/cloister/store/blob"
	"github.com/cloister-os/cloister/store/storetest"
)

// open returns an Answerer over an empty in-memory store and what loads it.
func open(t testing.TB) (*answer.Answerer, measure.Loader) {
	t.Helper()
	st := storetest.NewModel(nil)
	blobs, err := blob.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ix, err := search.Open(search.Config{Dir: t.TempDir(), Store: st, Blobs: blobs})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { ix.Run(ctx); close(done) }()
	t.Cleanup(func() { stop(); <-done; ix.Close() })
	a, err := answer.New(answer.Config{Store: st, Blobs: blobs, Index: ix})
	if err != nil {
		t.Fatal(err)
	}
	return a, measure.Loader{Store: st, Blobs: blobs}
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

func TestWorld(t *testing.T) {
	a, l := open(t)
	w := measure.NewWorld()
	load(t, l, w)
	ctx := context.Background()
	access := graph.AccessTo(measure.CodeSource, measure.DocsSource)
	var graphN, graphRight, textN, textEvidence, textRight, noneN, noneRight int
	for _, q := range w.Questions {
		for _, wording := range q.Wordings {
			plan, err := a.Understand(ctx, access, answer.Question{Text: wording})
			if err != nil {
				t.Fatal(err)
			}
			got, err := a.Ask(ctx, access, answer.Question{Text: wording})
			if err != nil {
				t.Fatalf("%s: %v", wording, err)
			}
			g := measure.Judge(q, string(plan.Shape), got)
			switch {
			case q.None:
				noneN++
				if g.Right {
					noneRight++
				}
			case q.Holds != nil || q.Shape == "how_fresh":
				graphN++
				if g.Right && g.Shape {
					graphRight++
				}
			default:
				textN++
				if g.Evidence {
					textEvidence++
				}
				if g.Right {
					textRight++
				}
			}
			if !g.Right || !g.Shape || !g.Evidence {
				t.Logf("%q as %s: %s", wording, plan.Shape, g.Why)
			}
		}
	}
	t.Logf("graph %d/%d, text evidence %d/%d answered %d, none %d/%d", graphRight, graphN, textEvidence, textN, textRight, noneRight, noneN)
}
