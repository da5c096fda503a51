package answer_test

import (
	"context"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/answer"
	"github.com/cloister-os/cloister/graph/answer/measure"
	"github.com/cloister-os/cloister/graph/answer/rank"
	"github.com/cloister-os/cloister/graph/search"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/blob"
	"github.com/cloister-os/cloister/store/storetest"
)

// BenchmarkFit fits the coefficients of package rank on half of XQuAD and prints
// them with what they score on the other half.
func BenchmarkFit(b *testing.B) {
	dir, err := measure.DataDir()
	if err != nil {
		b.Skip(err)
	}
	x, err := measure.LoadXQuAD(dir)
	if err != nil {
		b.Fatal(err)
	}
	rounds, _ := strconv.Atoi(os.Getenv("FIT_ROUNDS"))
	if rounds == 0 {
		rounds = 1500
	}
	ctx := context.Background()
	st := storetest.NewModel(nil)
	blobs, err := blob.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	l := measure.Loader{Store: st, Blobs: blobs}
	if err := l.Source(ctx, "x", "files"); err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	if err := l.Documents(ctx, "x", time.Now(), x.Files()...); err != nil {
		b.Fatal(err)
	}
	ix, err := search.Open(search.Config{Dir: b.TempDir(), Store: st, Blobs: blobs})
	if err != nil {
		b.Fatal(err)
	}
	run, stop := context.WithCancel(ctx)
	go ix.Run(run)
	defer stop()
	b.Log("loaded", time.Since(began))
	if err := ix.WaitFor(ctx, st.Applied()); err != nil {
		b.Fatal(err)
	}
	b.Log("indexed", time.Since(began))
	var train []measure.Example
	type asked struct {
		lists [][]float64
		gold  []bool
	}
	var test []asked
	files := x.Files()
	began = time.Now()
	n := 0
	found := 0
	err = st.View(ctx, store.Local, func(s store.Snapshot) error {
		r := graph.NewReader(s, graph.AccessTo("x"), blobs)
		for i, p := range x.Paragraphs {
			for _, q := range p.Questions {
				_, scored, err := answer.RankSentences(ctx, ix, r, q.Text)
				if err != nil {
					return err
				}
				n++
				var a asked
				hit := false
				for _, sc := range scored {
					gold := sc.Native == files[i].Path && sc.Start <= q.Start && q.Start < sc.End
					hit = hit || gold
					f := sc.Features.Lexical()
					a.lists = append(a.lists, f)
					a.gold = append(a.gold, gold)
					if p.Article%2 == 0 {
						train = append(train, measure.Example{X: f, Right: gold, Weight: 1})
					}
				}
				if hit {
					found++
				}
				if p.Article%2 == 1 {
					test = append(test, a)
				}
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("%d questions, gold among ranked %.3f, %.2f ms each", n, float64(found)/float64(n), float64(time.Since(began).Milliseconds())/float64(n))
	report := func(w []float64, name string) {
		p1, p3 := 0, 0
		for _, a := range test {
			best := []int{}
			used := map[int]bool{}
			for range 3 {
				top := -1
				for i := range a.lists {
					if !used[i] && (top < 0 || dot(w, a.lists[i]) > dot(w, a.lists[top])) {
						top = i
					}
				}
				if top >= 0 {
					used[top] = true
					best = append(best, top)
				}
			}
			for k, i := range best {
				if a.gold[i] {
					if k == 0 {
						p1++
					}
					p3++
				}
			}
		}
		b.Logf("%s: P@1 %.3f P@3 %.3f of %d", name, float64(p1)/float64(len(test)), float64(p3)/float64(len(test)), len(test))
	}
	now := rank.LexicalWeights()
	report(now, "present")
	w := measure.Fit(train, rounds)
	report(w, "fitted")
	b.Logf("%.2f", w)
}

func dot(w, x []float64) (z float64) {
	for i := range w {
		z += w[i] * x[i]
	}
	return z
}
