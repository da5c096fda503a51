package git_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/cloister-os/cloister/auth/guard/guardtest"
	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/connect/connecttest"
	"github.com/cloister-os/cloister/graph/connect/transport/git"
	"github.com/cloister-os/cloister/store/storetest"
)

// busy makes a repository of n commits by several people with renames, a merged
// branch and tags.
func busy(t testing.TB, n int) *work {
	w := newWork(t)
	for i := range n {
		w.who = fmt.Sprintf("Author %d <a%d@example.org>", i%3, i%3)
		w.write(fmt.Sprintf("f%d.txt", i%7), lines(20, fmt.Sprint("change ", i)))
		if i%5 == 4 {
			w.git("mv", "-f", fmt.Sprintf("f%d.txt", (i-1)%7), fmt.Sprintf("moved%d.txt", i))
		}
		w.commit(fmt.Sprint("change ", i))
		switch i % 10 {
		case 3:
			w.git("tag", fmt.Sprintf("v0.%d", i))
		case 6:
			w.git("checkout", "-q", "-b", fmt.Sprint("side", i))
			w.write(fmt.Sprintf("side%d.txt", i), lines(5))
			w.commit("on the side")
			w.git("checkout", "-q", "main")
			w.at = w.at.Add(time.Minute)
			w.git("merge", "-q", "--no-ff", "-m", "merge", fmt.Sprint("side", i))
		}
	}
	return w
}

// A sync that stops anywhere, with several transactions under way of which any
// may have succeeded, goes on to the very graph that an undisturbed sync makes.
func TestAnInterruptedSyncEndsWhereAnUndisturbedOneDoes(t *testing.T) {
	w := busy(t, 25)
	whole := connecttest.Open(t, nil, git.New())
	whole.Add("git", "code", w.dir)
	want := whole.Graph(true)
	seeded(t, 6, func(rt *testing.T, dice *rand.Rand) {
		keep := dice.IntN(10)
		st := storetest.NewModel(nil)
		gappy := &connecttest.Gappy{Store: st, Fail: func(int) bool { return dice.IntN(10) >= keep }}
		b := connecttest.Open(t, gappy, git.New())
		if _, err := b.Service.Add(t.Context(), guardtest.Admin(), graph.Source{Name: "code", Kind: "git", Path: w.dir}); err != nil {
			rt.Fatal(err)
		}
		if p, err := b.Wait(t.Context(), guardtest.Admin(), "code"); err != nil || p.Error == "" && keep < 5 {
			rt.Logf("the sync was not cut: %v", err)
		}
		if err := b.Close(); err != nil {
			rt.Fatal(err)
		}
		again := connecttest.OpenOver(t, st, b.Blobs, git.New())
		again.Sync("code")
		connecttest.Same(rt, again.Graph(true), want)
	})
}

// What a cut sync had read and a force-push then made unreachable goes as well.
func TestAForcePushAfterACutLeavesNothing(t *testing.T) {
	w := busy(t, 20)
	first := w.git("rev-list", "--max-parents=0", "HEAD")
	seeded(t, 4, func(rt *testing.T, dice *rand.Rand) {
		r := &work{t: t, dir: t.TempDir() + "/copy", at: w.at, who: w.who}
		w.git("clone", "-q", "--mirror", w.dir, r.dir)
		st := storetest.NewModel(nil)
		gappy := &connecttest.Gappy{Store: st, Fail: func(int) bool { return dice.IntN(10) < 3 }}
		b := connecttest.Open(t, gappy, git.New())
		if _, err := b.Service.Add(t.Context(), guardtest.Admin(), graph.Source{Name: "code", Kind: "git", Path: r.dir}); err != nil {
			rt.Fatal(err)
		}
		if _, err := b.Wait(t.Context(), guardtest.Admin(), "code"); err != nil {
			rt.Fatal(err)
		}
		if err := b.Close(); err != nil {
			rt.Fatal(err)
		}
		for ref := range strings.SplitSeq(r.git("for-each-ref", "--format=%(refname)"), "\n") {
			r.git("update-ref", ref, first)
			if ref != "refs/heads/main" {
				r.git("update-ref", "-d", ref)
			}
		}
		again := connecttest.OpenOver(t, st, b.Blobs, git.New())
		again.Sync("code")
		fresh := connecttest.Open(t, nil, git.New())
		fresh.Add("git", "code", r.dir)
		got, want := again.Graph(true), fresh.Graph(true)
		for k := range got {
			if p, ok := graph.SpaceCursor.Parts(k); ok && p[1] == "refs" {
				delete(got, k)
			}
		}
		for k := range want {
			if p, ok := graph.SpaceCursor.Parts(k); ok && p[1] == "refs" {
				delete(want, k)
			}
		}
		// The record's payload names the folder in its URI, which is the same.
		connecttest.Same(rt, got, want)
	})
}

// Following a repository commit by commit ends where reading it at once does.
func TestFollowingEqualsReadingAtOnce(t *testing.T) {
	// A tag that is first to contain nothing, on a commit that leaves the branch.
	const found = 12819114984463574740
	seeded(t, 4, func(rt *testing.T, dice *rand.Rand) {
		w := newWork(rt)
		w.write("a.txt", lines(10))
		w.commit("begin")
		b := connecttest.Open(rt, nil, git.New())
		b.Add("git", "code", w.dir)
		for i := range 8 {
			step(w, dice, i)
			if dice.IntN(2) == 0 {
				b.Sync("code")
			}
		}
		b.Sync("code")
		fresh := connecttest.Open(rt, nil, git.New())
		fresh.Add("git", "code", w.dir)
		connecttest.Same(rt, b.Graph(false), fresh.Graph(false))
	}, found)
}

// seeded runs f n times with dice whose seed is the name of the run, and with
// the seeds that once found something.
func seeded(t *testing.T, n int, f func(t *testing.T, dice *rand.Rand), seeds ...uint64) {
	for range n {
		seeds = append(seeds, rand.Uint64())
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { f(t, rand.New(rand.NewPCG(seed, 1))) })
	}
}

func step(w *work, dice *rand.Rand, i int) {
	name := fmt.Sprint("n", i)
	w.who = fmt.Sprintf("Author %d <a%d@example.org>", dice.IntN(4), dice.IntN(2))
	switch dice.IntN(7) {
	case 0:
		w.write(fmt.Sprintf("f%d.txt", i%3), lines(10, name))
		w.commit(name)
	case 1:
		w.git("mv", "-f", strings.Split(w.git("ls-files"), "\n")[0], name+".txt")
		w.commit("rename " + name)
	case 2:
		w.write("x.txt", name)
		w.commit("x " + name)
		w.git("rm", "-q", "x.txt")
		w.commit("no x " + name)
	case 3:
		w.git("checkout", "-q", "-b", name)
		w.write(name+".txt", lines(3))
		w.commit("side " + name)
		w.git("checkout", "-q", "main")
		w.write("main.txt", name)
		w.commit("main " + name)
		w.at = w.at.Add(time.Minute)
		w.git("merge", "-q", "--no-ff", "-m", "merge "+name, name)
		w.git("branch", "-q", "-D", name)
	case 4:
		w.git("tag", "-f", "v"+fmt.Sprint(i%3))
	case 5:
		if tags := w.git("tag"); tags != "" {
			w.git("tag", "-d", strings.Split(tags, "\n")[0])
		}
	case 6:
		if w.git("rev-list", "--first-parent", "--count", "HEAD") != "1" {
			w.git("reset", "-q", "--hard", "HEAD^")
		}
	}
}
