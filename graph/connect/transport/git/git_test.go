package git_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard/guardtest"
	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/connect/connecttest"
	"github.com/cloister-os/cloister/graph/connect/transport/git"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/storetest"
)

// work is a repository with a work tree.
type work struct {
	t   testing.TB
	dir string
	at  time.Time
	who string
}

func newWork(t testing.TB) *work {
	t.Helper()
	w := &work{t: t, dir: filepath.Join(t.TempDir(), "repo"), at: time.Date(2026, 5, 3, 10, 0, 0, 0, time.UTC), who: "Ada Lovelace <ada@example.org>"}
	if err := os.Mkdir(w.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	w.git("init", "-q", "-b", "main")
	return w
}

func (w *work) git(args ...string) string {
	w.t.Helper()
	name, mail, _ := strings.Cut(strings.TrimSuffix(w.who, ">"), " <")
	cmd := exec.Command("git", args...)
	cmd.Dir = w.dir
	date := w.at.Format(time.RFC3339)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_AUTHOR_NAME="+name, "GIT_AUTHOR_EMAIL="+mail,
		"GIT_COMMITTER_NAME="+name, "GIT_COMMITTER_EMAIL="+mail, "GIT_AUTHOR_DATE="+date, "GIT_COMMITTER_DATE="+date)
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (w *work) write(name, text string) {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// commit commits everything, an hour after the last one, and returns the sha.
func (w *work) commit(message string) string {
	w.t.Helper()
	w.at = w.at.Add(time.Hour)
	w.git("add", "-A")
	w.git("commit", "-q", "--allow-empty", "-m", message)
	return w.git("rev-parse", "HEAD")
}

func lines(n int, more ...string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "this is line %d of the file\n", i)
	}
	return b.String() + strings.Join(more, "\n")
}

func file(source, path string) graph.EntityID {
	return graph.NewEntityID(graph.NamespacePath, source, path)
}

func commitID(source, sha string) graph.EntityID {
	return graph.NewEntityID(graph.NamespaceSHA, source, sha)
}

// shas lists the commits with a relation to a file, the latest first.
func shas(t testing.TB, r *graph.Reader, f graph.EntityID, rel graph.Relation) (out []string) {
	t.Helper()
	for _, c := range connecttest.All(t, r.In(f, rel, graph.Descending)) {
		out = append(out, c.Record.Native)
	}
	return out
}

func equal(t testing.TB, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %q\nwant %q", what, got, want)
	}
}

func TestAHistoryBecomesClaims(t *testing.T) {
	w := newWork(t)
	w.write("a.go", lines(20))
	w.write("dir/b.go", "package b\n")
	c1 := w.commit("Begin\n\nWith a body\nof two lines.")
	w.who = "Grace Hopper <Grace@Example.org>"
	w.write("a.go", lines(20, "one more"))
	c2 := w.commit("Change a")
	w.git("tag", "v1.0")
	w.git("mv", "a.go", "c.go")
	w.write("c.go", lines(20, "another"))
	c3 := w.commit("Move a to c")
	w.git("rm", "-q", "dir/b.go")
	c4 := w.commit("Drop b")
	w.git("tag", "-a", "v1.1", "-m", "Second release\n\nWith notes.")

	b := connecttest.Open(t, nil, git.New())
	p := b.Add("git", "code", w.dir)
	if p.Claims == 0 || p.Error != "" {
		t.Errorf("progress: %+v", p)
	}
	b.Read(store.Local, func(r *graph.Reader) {
		e, err := r.Entity(commitID("code", c1))
		if err != nil {
			t.Fatal(err)
		}
		for prop, want := range map[graph.Property]string{graph.SHA: c1, graph.Subject: "Begin", graph.Body: "With a body\nof two lines.",
			graph.Author: "Ada Lovelace <ada@example.org>", graph.Time: "2026-05-03T11:00:00Z", graph.Position: "1"} {
			if got := e.Value(prop); got != want {
				t.Errorf("%s = %q, want %q", prop, got, want)
			}
		}
		equal(t, "adds a.go", shas(t, r, file("code", "a.go"), graph.Adds), []string{c1})
		equal(t, "modifies a.go", shas(t, r, file("code", "a.go"), graph.Modifies), []string{c2})
		equal(t, "renames to c.go", shas(t, r, file("code", "c.go"), graph.Renames), []string{c3})
		equal(t, "modifies c.go", shas(t, r, file("code", "c.go"), graph.Modifies), []string{c3})
		equal(t, "adds c.go", shas(t, r, file("code", "c.go"), graph.Adds), nil)
		equal(t, "deletes b.go", shas(t, r, file("code", "dir/b.go"), graph.Deletes), []string{c4})
		was := connecttest.All(t, r.Out(file("code", "c.go"), graph.RenamedFrom, graph.Descending))
		if len(was) != 1 || was[0].Object != file("code", "a.go") || was[0].Value != "a.go" {
			t.Errorf("c.go was %+v", was)
		}
		grace := graph.NewEntityID(graph.NamespaceMail, "grace@example.org")
		authored := connecttest.All(t, r.Out(grace, graph.Authored, graph.Ascending))
		if len(authored) != 3 || authored[0].Object != commitID("code", c2) {
			t.Errorf("grace authored %+v", authored)
		}
		who, err := r.Entity(grace)
		if err != nil || who.Value(graph.Name) != "Grace Hopper" || who.Value(graph.Mail) != "grace@example.org" {
			t.Errorf("grace is %+v, %v", who, err)
		}
		for sha, want := range map[string]string{c1: "v1.0", c2: "v1.0", c3: "v1.1", c4: "v1.1"} {
			in := connecttest.All(t, r.In(commitID("code", sha), graph.Contains, graph.Ascending))
			if len(in) != 1 || in[0].Record.Native != want {
				t.Errorf("%s is contained by %+v, want %s", sha, in, want)
			}
		}
		spans(t, r, "code")
	}, "code")
}

// spans checks that each claim's place in its record's payload holds its value.
func spans(t testing.TB, r *graph.Reader, source string) {
	t.Helper()
	n := 0
	for _, rec := range connecttest.All(t, r.Records(source, "")) {
		text, err := r.Bytes(rec.Payload)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range connecttest.All(t, r.Claims(rec.Entity)) {
			if c.Record != rec.ID || c.Span == (graph.Span{}) {
				continue
			}
			if n++; string(text[c.Span.Start:c.Span.End]) != c.Value {
				t.Errorf("%s: %s is %q, but the payload says %q", rec.ID, c.Property, c.Value, text[c.Span.Start:c.Span.End])
			}
		}
		for _, rel := range []graph.Relation{graph.Adds, graph.Modifies, graph.Renames, graph.Deletes} {
			for _, c := range connecttest.All(t, r.Out(rec.Entity, rel, graph.Ascending)) {
				if n++; c.Span.End <= c.Span.Start || c.Span.End > len(text) {
					t.Errorf("%s: %s has no place in the payload", rec.ID, rel)
				}
			}
		}
	}
	if n == 0 {
		t.Error("no claim has a place")
	}
}

func TestASecondSyncReadsReferencesOnly(t *testing.T) {
	w := newWork(t)
	for i := range 5 {
		w.write("a.go", lines(i+1))
		w.commit(fmt.Sprint("change ", i))
	}
	b := connecttest.Open(t, nil, git.New())
	b.Add("git", "code", w.dir)
	if p := b.Sync("code"); p.Bodies != 0 || p.Claims != 0 || p.Records != 0 {
		t.Errorf("second sync: %+v", p)
	}
	w.write("a.go", lines(30))
	w.commit("one more")
	if p := b.Sync("code"); p.Bodies != 1 {
		t.Errorf("after one commit: %+v", p)
	}
	w.git("gc", "-q")
	w.git("pack-refs", "--all")
	if p := b.Sync("code"); p.Bodies != 0 || p.Claims != 0 {
		t.Errorf("after gc: %+v", p)
	}
}

func TestAForcePushRemovesWhatVanished(t *testing.T) {
	w := newWork(t)
	w.write("a.go", "1")
	c1 := w.commit("keep")
	w.who = "Mallory <mallory@example.org>"
	w.write("leak.txt", "secret")
	w.write("a.go", "2")
	c2 := w.commit("leak a secret")
	w.git("tag", "bad")
	b := connecttest.Open(t, nil, git.New())
	b.Add("git", "code", w.dir)
	was := b.Store.Applied()

	w.who = "Ada Lovelace <ada@example.org>"
	w.git("tag", "-d", "bad")
	w.git("reset", "-q", "--hard", c1)
	w.write("a.go", "3")
	c3 := w.commit("the right way")
	b.Sync("code")

	look := func(r *graph.Reader, sha string) error {
		_, err := r.Entity(commitID("code", sha))
		return err
	}
	b.Read(store.Local, func(r *graph.Reader) {
		if err := errors.Join(look(r, c1), look(r, c3)); err != nil {
			t.Error(err)
		}
		if err := look(r, c2); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("the vanished commit: %v", err)
		}
		if _, err := r.Entity(file("code", "leak.txt")); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("its file: %v", err)
		}
		if _, err := r.Entity(graph.NewEntityID(graph.NamespaceMail, "mallory@example.org")); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("its author: %v", err)
		}
		equal(t, "modifies a.go", shas(t, r, file("code", "a.go"), graph.Modifies), []string{c3})
	}, "code")
	equal(t, "tags", b.Natives(store.Local, "code", graph.StreamTag), nil)
	b.Read(store.At(was), func(r *graph.Reader) {
		if err := look(r, c2); err != nil {
			t.Errorf("as of then: %v", err)
		}
		if len(connecttest.All(t, r.In(commitID("code", c2), graph.Contains, graph.Ascending))) != 1 {
			t.Error("as of then, the tag contained the commit")
		}
	}, "code")
}

func TestRenameChains(t *testing.T) {
	w := newWork(t)
	w.write("one.txt", lines(40))
	c1 := w.commit("add one")
	w.git("mv", "one.txt", "two.txt")
	c2 := w.commit("one to two")
	w.write("deep/keep", "")
	w.git("mv", "two.txt", "deep/three.txt")
	c3 := w.commit("two to three")
	w.write("deep/three.txt", lines(40, "end"))
	c4 := w.commit("change three")
	w.write("one.txt", "a new file under the first name\n")
	c5 := w.commit("one again")
	b := connecttest.Open(t, nil, git.New())
	b.Add("git", "code", w.dir)
	b.Read(store.Local, func(r *graph.Reader) {
		events, err := r.History(file("code", "deep/three.txt"), 100)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range events {
			got = append(got, string(e.Relation)+" "+e.Record.Native)
		}
		equal(t, "history", got, []string{"MODIFIES " + c4, "RENAMES " + c3, "RENAMES " + c2, "ADDS " + c1})
		if events, err = r.History(file("code", "one.txt"), 100); err != nil || len(events) == 0 || events[0].Record.Native != c5 {
			t.Errorf("history of one.txt: %+v, %v", events, err)
		}
	}, "code")
}

func TestMergesClaimOnlyWhatTheyChanged(t *testing.T) {
	w := newWork(t)
	w.write("a.txt", lines(10))
	w.write("b.txt", lines(10))
	base := w.commit("base")
	w.git("checkout", "-q", "-b", "side")
	w.write("b.txt", lines(10, "side"))
	side := w.commit("change b on the side")
	w.git("checkout", "-q", "main")
	w.write("a.txt", lines(10, "main"))
	main := w.commit("change a on main")
	w.at = w.at.Add(time.Hour)
	w.git("merge", "-q", "--no-ff", "--no-commit", "side")
	w.write("evil.txt", "made by the merge")
	merge := w.commit("Merge side")
	b := connecttest.Open(t, nil, git.New())
	b.Add("git", "code", w.dir)
	b.Read(store.Local, func(r *graph.Reader) {
		equal(t, "modifies a.txt", shas(t, r, file("code", "a.txt"), graph.Modifies), []string{main})
		equal(t, "modifies b.txt", shas(t, r, file("code", "b.txt"), graph.Modifies), []string{side})
		equal(t, "adds evil.txt", shas(t, r, file("code", "evil.txt"), graph.Adds), []string{merge})
		e, err := r.Entity(commitID("code", merge))
		if err != nil || !strings.Contains(e.Value(graph.Merge), side[:12]) {
			t.Errorf("merge: %+v, %v", e, err)
		}
		for sha, want := range map[string]string{base: "1", main: "2", side: "3", merge: "4"} {
			e, err := r.Entity(commitID("code", sha))
			if err != nil || e.Value(graph.Position) != want {
				t.Errorf("%s: position %q, want %s (%v)", e.Value(graph.Subject), e.Value(graph.Position), want, err)
			}
		}
	}, "code")
}

// A branch is read before it is merged; merging gives its commits places without
// moving anybody else's.
func TestPlacesStayWhenBranchesAreMergedLater(t *testing.T) {
	w := newWork(t)
	w.write("a.txt", "1")
	c1 := w.commit("one")
	w.git("checkout", "-q", "-b", "side")
	w.write("b.txt", "1")
	side := w.commit("side")
	w.git("checkout", "-q", "main")
	w.write("a.txt", "2")
	c2 := w.commit("two")
	b := connecttest.Open(t, nil, git.New())
	b.Add("git", "code", w.dir)
	position := func(sha string) (out string) {
		b.Read(store.Local, func(r *graph.Reader) {
			e, err := r.Entity(commitID("code", sha))
			if err != nil {
				t.Fatal(err)
			}
			out = e.Value(graph.Position)
		}, "code")
		return out
	}
	equal(t, "before", []string{position(c1), position(side), position(c2)}, []string{"1", "", "2"})
	w.at = w.at.Add(time.Hour)
	w.git("merge", "-q", "--no-ff", "-m", "merge", "side")
	merge := w.git("rev-parse", "HEAD")
	w.git("branch", "-D", "-q", "side")
	b.Sync("code")
	equal(t, "after", []string{position(c1), position(c2), position(side), position(merge)}, []string{"1", "2", "3", "4"})
	b.Read(store.Local, func(r *graph.Reader) {
		in := connecttest.All(t, r.In(file("code", "b.txt"), graph.Adds, graph.Descending))
		if len(in) != 1 || in[0].Rank != 3 {
			t.Errorf("adds b.txt: %+v", in)
		}
	}, "code")
}

func TestBareAndLinkedRepositories(t *testing.T) {
	w := newWork(t)
	w.write("a.txt", "1")
	c1 := w.commit("one")
	bare := filepath.Join(t.TempDir(), "bare.git")
	w.git("clone", "-q", "--bare", w.dir, bare)
	linked := filepath.Join(t.TempDir(), "linked")
	w.git("worktree", "add", "-q", "-b", "other", linked)
	b := connecttest.Open(t, nil, git.New())
	for name, dir := range map[string]string{"bare": bare, "linked": linked} {
		b.Add("git", name, dir)
		equal(t, name, b.Natives(store.Local, name, graph.StreamCommit), []string{c1})
	}
}

func TestAShallowCloneBeginsWhereItWasCut(t *testing.T) {
	w := newWork(t)
	w.write("a.txt", "1")
	w.commit("one")
	w.write("b.txt", "1")
	c2 := w.commit("two")
	w.write("b.txt", "2")
	c3 := w.commit("three")
	dir := filepath.Join(t.TempDir(), "shallow")
	w.git("clone", "-q", "--depth", "2", "file://"+w.dir, dir)
	b := connecttest.Open(t, nil, git.New())
	b.Add("git", "code", dir)
	b.Read(store.Local, func(r *graph.Reader) {
		equal(t, "adds a.txt", shas(t, r, file("code", "a.txt"), graph.Adds), []string{c2})
		equal(t, "modifies b.txt", shas(t, r, file("code", "b.txt"), graph.Modifies), []string{c3})
	}, "code")
	if p := b.Sync("code"); p.Bodies != 0 {
		t.Errorf("second sync: %+v", p)
	}
	shallow := &work{t: t, dir: dir, at: w.at, who: w.who}
	shallow.git("fetch", "-q", "--unshallow")
	w.write("c.txt", "1")
	w.commit("four")
	shallow.git("pull", "-q", "--ff-only")
	b.Sync("code")
	whole := connecttest.Open(t, nil, git.New())
	whole.Add("git", "code", dir)
	connecttest.Same(t, b.Graph(false), whole.Graph(false))
}

func TestOddTags(t *testing.T) {
	w := newWork(t)
	w.write("a.txt", "1")
	c1 := w.commit("one")
	w.git("tag", "-a", "inner", "-m", "inner")
	w.git("tag", "-a", "outer", "-m", "outer", "inner")
	w.git("tag", "blob", "HEAD:a.txt")
	for _, name := range []string{"v1.10", "v1.9", "v1.9-rc1"} {
		w.git("tag", name)
	}
	b := connecttest.Open(t, nil, git.New())
	p := b.Add("git", "code", w.dir)
	if len(p.Skips) != 1 || p.Skips[0].What != "tag blob" {
		t.Errorf("left out: %+v", p.Skips)
	}
	equal(t, "tags", b.Natives(store.Local, "code", graph.StreamTag), []string{"inner", "outer", "v1.10", "v1.9", "v1.9-rc1"})
	w.git("tag", "-d", "inner")
	w.git("tag", "-d", "outer")
	b.Sync("code")
	b.Read(store.Local, func(r *graph.Reader) {
		in := connecttest.All(t, r.In(commitID("code", c1), graph.Contains, graph.Ascending))
		if len(in) != 1 || in[0].Record.Native != "v1.9-rc1" {
			t.Errorf("the first of several tags on one commit: %+v", in)
		}
		if n := len(connecttest.All(t, r.In(commitID("code", c1), graph.Points, graph.Ascending))); n != 3 {
			t.Errorf("%d tags point to it, want 3", n)
		}
	}, "code")
}

func TestAFullDiskIsSaidAndHealed(t *testing.T) {
	w := newWork(t)
	w.write("a.txt", "1")
	c1 := w.commit("one")
	full := &fullDisk{Store: storetest.NewModel(nil)}
	b := connecttest.Open(t, full, git.New())
	full.full.Store(true)
	if _, err := b.Service.Add(t.Context(), guardtest.Admin(), graph.Source{Name: "code", Kind: "git", Path: w.dir}); err != nil {
		t.Fatal(err)
	}
	p, err := b.Wait(t.Context(), guardtest.Admin(), "code")
	if err != nil || !strings.Contains(p.Error, store.ErrReadOnly.Error()) || strings.Contains(p.Error, "\n") {
		t.Errorf("full: %+v, %v", p, err)
	}
	full.full.Store(false)
	b.Sync("code")
	equal(t, "commits", b.Natives(store.Local, "code", graph.StreamCommit), []string{c1})
}

// fullDisk refuses bulk work while it is full.
type fullDisk struct {
	store.Store
	full atomic.Bool
}

type readOnly struct{}

func (readOnly) Wait(context.Context) (store.Result, error) { return store.Result{}, store.ErrReadOnly }

func (f *fullDisk) Submit(ctx context.Context, tx *store.Tx, class store.Class) store.Future {
	if f.full.Load() {
		return readOnly{}
	}
	return f.Store.Submit(ctx, tx, class)
}

func TestOnePersonInTwoRepositories(t *testing.T) {
	b := connecttest.Open(t, nil, git.New())
	for i, name := range []string{"one", "two"} {
		w := newWork(t)
		w.who = []string{"Ada Lovelace <ada@example.org>", "A. Lovelace <ADA@example.org>"}[i]
		w.write("a.txt", name)
		w.commit("in " + name)
		b.Add("git", name, w.dir)
	}
	ada := graph.NewEntityID(graph.NamespaceMail, "ada@example.org")
	for _, c := range []struct {
		access  []string
		commits int
		name    string
	}{{[]string{"one"}, 1, "Ada Lovelace"}, {[]string{"two"}, 1, "A. Lovelace"}, {[]string{"one", "two"}, 2, "Ada Lovelace"}, {nil, 0, ""}} {
		b.Read(store.Local, func(r *graph.Reader) {
			e, err := r.Entity(ada)
			if (err != nil) != (c.commits == 0) || e.Value(graph.Name) != c.name || len(e.Records) != c.commits {
				t.Errorf("with access to %v: %+v, %v", c.access, e, err)
			}
			if n := len(connecttest.All(t, r.Out(ada, graph.Authored, graph.Ascending))); n != c.commits {
				t.Errorf("with access to %v: %d commits", c.access, n)
			}
		}, c.access...)
	}
}

func TestWhatIsNoRepositoryIsOneClearError(t *testing.T) {
	b := connecttest.Open(t, nil, git.New())
	empty := t.TempDir()
	fake := t.TempDir()
	for _, name := range []string{"HEAD", "objects", "refs"} {
		if err := os.WriteFile(filepath.Join(fake, name), []byte("junk"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{empty, filepath.Join(empty, "missing"), fake} {
		_, err := b.Service.Add(t.Context(), guardtest.Admin(), graph.Source{Name: "code", Kind: "git", Path: dir})
		if err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", dir, err)
		}
	}
	if list, err := b.List(t.Context(), guardtest.Admin()); err != nil || len(list) != 0 {
		t.Errorf("sources: %v, %v", list, err)
	}
}

func TestADamagedRepositoryDeletesNothing(t *testing.T) {
	w := newWork(t)
	w.write("a.txt", "1")
	c1 := w.commit("one")
	b := connecttest.Open(t, nil, git.New())
	b.Add("git", "code", w.dir)
	w.write("a.txt", "2")
	c2 := w.commit("two")
	object := filepath.Join(w.dir, ".git", "objects", c2[:2], c2[2:])
	if err := errors.Join(os.Chmod(object, 0o644), os.WriteFile(object, []byte("damage"), 0o644)); err != nil {
		t.Fatal(err)
	}
	if p := b.Try("code"); !strings.Contains(p.Error, "damaged") || strings.Contains(p.Error, "\n") {
		t.Errorf("error = %q", p.Error)
	}
	equal(t, "commits", b.Natives(store.Local, "code", graph.StreamCommit), []string{c1})
	if err := os.Remove(object); err != nil {
		t.Fatal(err)
	}
	if p := b.Try("code"); !strings.Contains(p.Error, "damaged or incomplete") {
		t.Errorf("error = %q", p.Error)
	}
}

func TestAnEmptyRepository(t *testing.T) {
	w := newWork(t)
	b := connecttest.Open(t, nil, git.New())
	b.Add("git", "code", w.dir)
	w.write("a.txt", "1")
	c1 := w.commit("one")
	b.Sync("code")
	equal(t, "commits", b.Natives(store.Local, "code", graph.StreamCommit), []string{c1})
}

func TestOddNamesAndMessages(t *testing.T) {
	w := newWork(t)
	w.write("tab\there \x01.txt", "1")
	w.write("umlaut-ä.txt", "1")
	w.git("config", "i18n.commitEncoding", "ISO-8859-1")
	c1 := w.commit("Gr\xfc\xdfe\x02 aus K\xf6ln")
	b := connecttest.Open(t, nil, git.New())
	b.Add("git", "code", w.dir)
	b.Read(store.Local, func(r *graph.Reader) {
		e, err := r.Entity(commitID("code", c1))
		if err != nil || e.Value(graph.Subject) != "Grüße aus Köln" {
			t.Errorf("subject %q, %v", e.Value(graph.Subject), err)
		}
		equal(t, "adds", shas(t, r, file("code", `tab\u{9}here \u{1}.txt`), graph.Adds), []string{c1})
		equal(t, "adds", shas(t, r, file("code", "umlaut-ä.txt"), graph.Adds), []string{c1})
	}, "code")
}

func TestALargeCommitIsOneRecord(t *testing.T) {
	w := newWork(t)
	const n = 1500
	for i := range n {
		w.write(fmt.Sprintf("d%d/f%d.txt", i%10, i), fmt.Sprint(i))
	}
	c1 := w.commit("import")
	b := connecttest.Open(t, nil, git.New())
	b.Add("git", "code", w.dir)
	b.Read(store.Local, func(r *graph.Reader) {
		if got := len(connecttest.All(t, r.Out(commitID("code", c1), graph.Adds, graph.Ascending))); got != n {
			t.Errorf("%d files added, want %d", got, n)
		}
	}, "code")
}

func TestNothingIsReachedWithoutAPermit(t *testing.T) {
	c, src := git.New(), graph.Source{Name: "code", Kind: "git", Path: t.TempDir()}
	if err := c.Scan(t.Context(), nil, src, nil); !errors.Is(err, auth.ErrDenied) {
		t.Errorf("scan: %v", err)
	}
	if err := c.Check(t.Context(), nil, src); !errors.Is(err, auth.ErrDenied) {
		t.Errorf("check: %v", err)
	}
}
