package answer_test

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/answer"
	"github.com/cloister-os/cloister/graph/answer/measure"
	"github.com/cloister-os/cloister/graph/answer/rank"
	"github.com/cloister-os/cloister/store"
)

func TestDebug(t *testing.T) {
	if os.Getenv("Q") == "" {
		t.Skip()
	}
	r := open(t)
	w := measure.NewWorld()
	load(t, r.load, w)
	r.index.WaitFor(context.Background(), r.load.Store.Applied())
	r.load.Store.View(context.Background(), store.Local, func(s store.Snapshot) error {
		rd := graph.NewReader(s, graph.AccessTo("code", "docs"), r.load.Blobs)
		for _, q := range strings.Split(os.Getenv("Q"), "|") {
			qq, list, err := answer.RankSentences(context.Background(), r.index, rd, q, nil)
			t.Log(q, qq.Asked, err)
			for _, x := range qq.Terms {
				t.Logf("   %+v", x)
			}
			sc := make([]rank.Scored, len(list))
			for i := range list {
				sc[i] = list[i].Scored
			}
			v := rank.Judge(qq, sc)
			for i, s := range list[:min(4, len(list))] {
				t.Logf("  %.3f sure %.2f %v %s %+v", s.Score, v[i].Sure, v[i].Answers, s.Text, s.Features)
			}
		}
		return nil
	})
}
