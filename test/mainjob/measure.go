package mainjob

import (
	"context"
	"io"
	"net/http"
	"sort"
	"testing"

	"github.com/cloister-os/cloister/test/world"
)

// Walk says what to walk over, and with which programs.
type Walk struct {
	Dir      string // an empty folder
	Binary   string // cloister
	Verifier string // cloister-verify
	Pack     string // "" = without any model
	Seed     uint64
	Log      io.Writer
}

// Measure walks up to the last question and returns how the answers were. It does
// not need a namespace, but the node's usual port must be free; it judges nothing.
func Measure(ctx context.Context, w Walk) (Score, error) {
	j := &job{dir: w.Dir, binary: w.Binary, verifier: w.Verifier, pack: w.Pack, seed: w.Seed, log: w.Log}
	r, err := j.walk(ctx, j.measured())
	return r.Score, err
}

// Ask puts all questions of a world, in every wording, to a node that somebody
// else has set up and that has read the world, and reads each citation again.
func Ask(ctx context.Context, client *http.Client, url, token string, w *world.World) (Score, error) {
	j := &job{client: client, token: token, world: w}
	j.setup.URL = url
	r := &report{Answers: map[string]string{}}
	err := j.askAll(ctx, r)
	return r.Score, err
}

// Judge fails the test where the answers are not as good as they must be.
func (s Score) Judge(t testing.TB) {
	t.Helper()
	for _, m := range s.Misses {
		t.Log(m)
	}
	for _, f := range s.FalseAnswers {
		t.Log("FALSE ANSWER ", f)
	}
	sort.Float64s(s.Milliseconds)
	if n := len(s.Milliseconds); n > 0 {
		t.Logf("latency p50 %.0f ms, p95 %.0f ms", s.Milliseconds[n/2], s.Milliseconds[n*95/100])
	}
	atLeast(t, "cited evidence holds the fact", s.Evidence, s.Asked, 90)
	atLeast(t, "graph shapes right in the generator's wording", s.GraphRight, s.Graph, 95)
	atLeast(t, "the unanswerable is not answered", s.Refused, s.Unanswerable, 90)
	if s.Unsupported > 0 {
		t.Errorf("%d names, numbers or dates stand in answers without standing in their citations", s.Unsupported)
	}
	if s.BadCitations > 0 {
		t.Errorf("%d answers have a citation that is not what it says", s.BadCitations)
	}
}

func atLeast(t testing.TB, what string, n, of, percent int) {
	t.Helper()
	if of == 0 {
		t.Errorf("%s: nothing was asked", what)
		return
	}
	t.Logf("%s: %d of %d (%.1f %%)", what, n, of, 100*float64(n)/float64(of))
	if n*100 < of*percent {
		t.Errorf("%s for %d of %d, wanted %d %%", what, n, of, percent)
	}
}
