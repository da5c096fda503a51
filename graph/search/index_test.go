package search_test

import (
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/answer/measure"
	"github.com/cloister-os/cloister/graph/search"
	"github.com/cloister-os/cloister/graph/search/lex"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/blob"
	"github.com/cloister-os/cloister/store/sealed"
	"github.com/cloister-os/cloister/store/storetest"
)

// house is a store with an index that follows it.
type house struct {
	t     testing.TB
	st    store.Store
	blobs *blob.Store
	dir   string
	load  measure.Loader
	embed graph.Embedder
	ring  sealed.Ring
	*search.Index
	stop func()
}

func open(t testing.TB, embed graph.Embedder) *house {
	t.Helper()
	h := &house{t: t, st: storetest.NewModel(nil), dir: t.TempDir(), embed: embed, ring: fixedRing(1)}
	var err error
	if h.blobs, err = blob.Open(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	h.load = measure.Loader{Store: h.st, Blobs: h.blobs}
	h.start()
	t.Cleanup(func() { h.stop() })
	return h
}

func (h *house) start() {
	h.t.Helper()
	ix, err := search.Open(search.Config{Dir: h.dir, Store: h.st, Blobs: h.blobs, Embedder: h.embed, Ring: h.ring, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { ix.Run(ctx); close(done) }()
	h.Index = ix
	h.stop = func() {
		cancel()
		<-done
		if err := ix.Close(); err != nil {
			h.t.Error(err)
		}
	}
}

func (h *house) restart() {
	h.stop()
	h.start()
}

func (h *house) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) docs(source string, files ...measure.File) {
	h.t.Helper()
	h.must(h.load.Source(context.Background(), source, "files"))
	h.must(h.load.Documents(context.Background(), source, measure.AsOf(), files...))
}

func query(words string) search.Query {
	q := search.Query{Text: words}
	for _, s := range lex.Stems(words) {
		q.Terms = append(q.Terms, search.Term{Stem: s, Boost: 1})
	}
	return q
}

// read runs f on a reader at a version (0 = what is applied), once that is indexed.
func (h *house) read(at store.Version, sources []string, f func(*graph.Reader)) {
	h.t.Helper()
	if at == 0 {
		at = h.st.Applied()
	}
	h.must(h.WaitFor(h.t.Context(), at))
	h.must(h.st.View(h.t.Context(), store.At(at), func(s store.Snapshot) error {
		f(graph.NewReader(s, graph.AccessTo(sources...), h.blobs))
		return nil
	}))
}

// found lists the texts that a query finds, best first.
func (h *house) found(at store.Version, words string, sources ...string) (out []string) {
	h.t.Helper()
	h.read(at, sources, func(r *graph.Reader) {
		list, err := h.Passages(h.t.Context(), r, query(words), 10)
		h.must(err)
		for _, p := range list {
			var text []string
			for _, s := range p.Sentences {
				text = append(text, s.Text)
			}
			out = append(out, strings.Join(text, " "))
		}
	})
	return out
}

func (h *house) names(at store.Version, phrase string, sources ...string) (out []search.Named) {
	h.t.Helper()
	h.read(at, sources, func(r *graph.Reader) {
		var err error
		out, err = h.Names(h.t.Context(), r, []string{lex.Normalize(phrase)}, func(string) bool { return true })
		h.must(err)
	})
	return out
}

func TestADocumentIsFoundByTextAndName(t *testing.T) {
	h := open(t, nil)
	h.docs("a", measure.File{Path: "ops/backups.md", Body: "# Backups\n\nThe vault is copied every night.\n"})
	if got := h.found(0, "vault copied", "a"); len(got) != 1 || !strings.Contains(got[0], "every night") {
		t.Errorf("found %q", got)
	}
	for _, phrase := range []string{"ops/backups.md", "backups.md", "Backups", "backps.md"} {
		if got := h.names(0, phrase, "a"); len(got) == 0 || got[0].Value != "ops/backups.md" && got[0].Value != "Backups" {
			t.Errorf("%q means %+v", phrase, got)
		}
	}
	if got := h.names(0, "ops/restore.md", "a"); len(got) != 0 {
		t.Errorf("a name that nothing has means %+v", got)
	}
}

func TestADeletedDocumentLeavesAtOneVersionAndStaysBelowIt(t *testing.T) {
	h := open(t, nil)
	h.docs("a", measure.File{Path: "x.md", Body: "The heron sleeps at noon."}, measure.File{Path: "y.md", Body: "The stork sleeps at night."})
	before := h.st.Applied()
	h.must(h.load.Delete(context.Background(), "a", measure.AsOf(), "x.md"))
	h.docs("a", measure.File{Path: "y.md", Body: "The stork sleeps at dawn."})
	if got := h.found(0, "heron sleeps noon", "a"); len(got) != 1 || !strings.Contains(got[0], "dawn") {
		t.Errorf("after the deletion: %q", got)
	}
	if got := h.names(0, "x.md", "a"); len(got) != 0 {
		t.Errorf("the deleted file still has a name: %+v", got)
	}
	h.checkPast(t, before)
	h.restart() // what was replaced is remembered no longer, and read from the store
	h.checkPast(t, before)
}

func (h *house) checkPast(t *testing.T, before store.Version) {
	t.Helper()
	got := strings.Join(h.found(before, "heron stork sleeps noon night dawn", "a"), "|")
	if !strings.Contains(got, "noon") || !strings.Contains(got, "night") || strings.Contains(got, "dawn") {
		t.Errorf("at the version before: %q", got)
	}
}

// What may not be read changes nothing: not what is found, not its order, not a
// count, not a score.
func TestASourceThatMayNotBeReadChangesNothing(t *testing.T) {
	one, both := open(t, newHashEmbedder()), open(t, newHashEmbedder())
	mine := []measure.File{
		{Path: "a.md", Body: "# Limits\n\nThe limit is ten. The limit of the heron is twelve.\n\nOther limits apply to storks."},
		{Path: "b.md", Body: "# Herons\n\nA heron stands still. The limit is not known."},
	}
	theirs := measure.File{Path: "a.md", Body: "# Limits\n\nThe heron limit limit limit is 99, a secret heron limit. Heron heron heron."}
	one.docs("mine", mine...)
	both.docs("theirs", theirs)
	both.docs("mine", mine...)
	type seen struct {
		Passages []search.Passage
		Counts   search.Counts
		Names    []search.Named
	}
	look := func(h *house) (out seen) {
		h.awaitVectors("mine", 5)
		h.read(0, []string{"mine"}, func(r *graph.Reader) {
			var err error
			out.Passages, err = h.Passages(t.Context(), r, query("heron limit"), 10)
			h.must(err)
			out.Counts, err = h.Count(t.Context(), r, lex.Stems("heron limit secret"))
			h.must(err)
			out.Names, err = h.Names(t.Context(), r, []string{"a md", "limits", "herons"}, nil)
			h.must(err)
		})
		for i := range out.Passages {
			out.Passages[i].Record.Version = 0
		}
		return out
	}
	a, b := look(one), look(both)
	if len(a.Passages) < 2 || !reflect.DeepEqual(a, b) {
		t.Errorf("with the other source\n%+v\nwithout\n%+v", b, a)
	}
	if got := strings.Join(both.found(0, "secret", "mine"), "|"); strings.Contains(got, "secret") {
		t.Errorf("found %q", got)
	}
}

func TestTheIndexGoesOnWhereItStood(t *testing.T) {
	h := open(t, nil)
	h.docs("a", measure.File{Path: "x.md", Body: "The heron sleeps."})
	h.found(0, "heron", "a")
	h.stop()
	h.docs("a", measure.File{Path: "y.md", Body: "The stork sleeps."})
	h.docs("b", measure.File{Path: "z.md", Body: "The crane sleeps."})
	h.start()
	if got := h.found(0, "heron stork crane", "a", "b"); len(got) != 3 {
		t.Errorf("after opening again: %q", got)
	}
}

// Whatever is lost or damaged, the index comes back by itself.
func TestALostOrDamagedIndexIsRebuilt(t *testing.T) {
	for name, damage := range map[string]func(dir string) error{
		"all":      os.RemoveAll,
		"the keys": func(dir string) error { return os.Remove(filepath.Join(dir, "KEYS")) },
		"a key": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "KEYS"), []byte("nonsense"), 0o600)
		},
		"the mark": func(dir string) error { return os.Remove(filepath.Join(dir, "text", "MARK")) },
		"one partition": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "text", "a", "index_meta.json"), []byte("nonsense"), 0o600)
		},
		"an old layout": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "text", "MARK"), []byte("0 7\n"), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := open(t, nil)
			h.docs("a", measure.File{Path: "x.md", Body: "The heron sleeps."})
			h.docs("b", measure.File{Path: "y.md", Body: "The heron wakes."})
			h.found(0, "heron", "a")
			h.stop()
			h.must(damage(h.dir))
			h.start()
			if got := h.found(0, "heron", "a", "b"); len(got) != 2 {
				t.Errorf("found %q", got)
			}
			if got := h.names(0, "x.md", "a"); len(got) == 0 {
				t.Error("the name is lost")
			}
		})
	}
}

func TestARemovedSourceLeavesNothing(t *testing.T) {
	h := open(t, newHashEmbedder())
	h.docs("a", measure.File{Path: "x.md", Body: "The heron sleeps."})
	h.docs("b", measure.File{Path: "y.md", Body: "The heron wakes."})
	h.awaitVectors("a", 1)
	h.must(graph.NewWriter(h.st, h.blobs, "a").RemoveAll(t.Context()))
	tx := store.NewTx()
	tx.Delete(graph.SpaceSource.Key("a"))
	_, err := h.st.Apply(t.Context(), tx)
	h.must(err)
	h.docs("b", measure.File{Path: "z.md", Body: "The heron eats."})
	if got := h.found(0, "heron", "a", "b"); len(got) != 2 {
		t.Errorf("found %q", got)
	}
	left, err := filepath.Glob(filepath.Join(h.dir, "*", "a*"))
	if err != nil || len(left) != 0 {
		t.Errorf("files are left: %v %v", left, err)
	}
}

// hashEmbedder makes a vector of the words of a text: near texts share words.
type hashEmbedder struct{ calls atomic.Int64 }

func newHashEmbedder() *hashEmbedder { return &hashEmbedder{} }

func (e *hashEmbedder) Embed(_ context.Context, texts []string) ([][]float32, error) {
	e.calls.Add(1)
	out := make([][]float32, len(texts))
	for i, text := range texts {
		out[i] = make([]float32, 64)
		for _, s := range lex.Stems(text) {
			h := fnv.New32a()
			fmt.Fprint(h, s)
			out[i][h.Sum32()%64]++
		}
	}
	return out, nil
}

func (e *hashEmbedder) Model() string   { return "words" }
func (e *hashEmbedder) Dimensions() int { return 64 }

// awaitVectors waits until a source has so many vectors.
func (h *house) awaitVectors(source string, n int) {
	h.t.Helper()
	h.must(h.WaitFor(h.t.Context(), h.st.Applied()))
	h.must(h.WaitForVectors(h.t.Context()))
	if got := h.Vectors(graph.AccessTo(source)); got != n {
		h.t.Fatalf("source %s has %d vectors, want %d", source, got, n)
	}
}

func TestVectorsFollowTheText(t *testing.T) {
	e := newHashEmbedder()
	h := open(t, e)
	h.docs("a", measure.File{Path: "x.md", Body: "The heron sleeps. It wakes at noon."}, measure.File{Path: "y.md", Body: "Storks fly."})
	h.awaitVectors("a", 3)
	h.read(0, []string{"a"}, func(r *graph.Reader) {
		list, err := h.Passages(t.Context(), r, search.Query{Text: "storks fly"}, 3)
		h.must(err)
		if len(list) == 0 || list[0].Record.ID.Native != "y.md" || !list[0].Sentences[0].Embedded || list[0].Sentences[0].Cosine < 0.5 {
			t.Errorf("by vectors alone: %+v", list)
		}
	})
	calls := e.calls.Load()
	h.restart()
	h.awaitVectors("a", 3)
	if e.calls.Load() != calls {
		t.Error("vectors were made twice")
	}
	h.must(h.load.Delete(t.Context(), "a", measure.AsOf(), "x.md"))
	h.awaitVectors("a", 1)
	h.SetEmbedder(nil)
	if got := h.found(0, "storks", "a"); len(got) != 1 {
		t.Errorf("without an embedder: %q", got)
	}
}
