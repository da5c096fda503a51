package graph

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/blob"
	"github.com/cloister-os/cloister/store/storetest"
)

func openBlobs(t testing.TB) *blob.Store {
	t.Helper()
	b, err := blob.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// cutting is a store that fails every transaction after the first n, as a node
// that is killed does.
type cutting struct {
	store.Store
	left int
}

var errCut = errors.New("cut")

type failed struct{ err error }

func (f failed) Wait(context.Context) (store.Result, error) { return store.Result{}, f.err }

func (c *cutting) Submit(ctx context.Context, tx *store.Tx, class store.Class) store.Future {
	if c.left == 0 {
		return failed{errCut}
	}
	c.left--
	return c.Store.Submit(ctx, tx, class)
}

func assertion(source, native string, edges ...int) Assertion {
	a := Assertion{Record: Record{ID: RecordID{source, "s", native}, Entity: NewEntityID("t", native), Type: "Thing", Rule: "test/1"}}
	a.Properties = []PropertyClaim{{Property: Name, Value: fmt.Sprint(native, edges)}}
	a.Identifiers = []IdentifierClaim{{Identifier: Identifier{"t", native}}}
	for _, e := range edges {
		a.Relations = append(a.Relations, RelationClaim{Relation: "TO", Object: NewEntityID("n", fmt.Sprint(e)), Rank: uint64(e)})
	}
	return a
}

func span(n int) (out []int) {
	for i := range n {
		out = append(out, i)
	}
	return out
}

func read(t testing.TB, st store.Store, at store.ReadAt, f func(r *Reader) error, sources ...string) {
	t.Helper()
	err := st.View(context.Background(), at, func(s store.Snapshot) error {
		return f(NewReader(s, AccessTo(sources...), nil))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// objects lists the ranks of what a thing points to, and checks that the
// reverse edges say the same.
func objects(t testing.TB, st store.Store, native string, sources ...string) (out []int) {
	t.Helper()
	read(t, st, store.Local, func(r *Reader) error {
		id := NewEntityID("t", native)
		for c, err := range r.Out(id, "TO", Ascending) {
			if err != nil {
				return err
			}
			out = append(out, int(c.Rank))
			back := 0
			for in, err := range r.In(c.Object, "TO", Descending) {
				if err != nil {
					return err
				}
				if in.Subject == id && in.Record == c.Record {
					back++
				}
			}
			if back != 1 {
				t.Errorf("%s TO %d: %d reverse edges", native, c.Rank, back)
			}
		}
		return nil
	}, sources...)
	return out
}

func keysOf(t testing.TB, st store.Store) (n int) {
	t.Helper()
	err := st.View(context.Background(), store.Local, func(s store.Snapshot) error {
		for _, prefix := range []store.Key{"H/", "S/"} {
			for item, err := range s.Scan(prefix, "") {
				if err != nil {
					return err
				}
				if item.Key != KeyMoved {
					n++
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestReplacingARecordReplacesWhatItAsserts(t *testing.T) {
	ctx := context.Background()
	st := storetest.NewModel(nil)
	for _, sizes := range [][2]int{{3, 2}, {2, 0}, {3, 2000}, {2000, 3}, {2000, 1990}, {1500, 1500}, {2000, 0}} {
		t.Run(fmt.Sprint(sizes), func(t *testing.T) {
			w := NewWriter(st, openBlobs(t), "a")
			for _, n := range sizes {
				if err := w.Put(ctx, assertion("a", "x", span(n)...)); err != nil {
					t.Fatal(err)
				}
				if err := w.Flush(ctx); err != nil {
					t.Fatal(err)
				}
				if got := objects(t, st, "x", "a"); !slices.Equal(got, span(n)) {
					t.Fatalf("got %d edges, want %d", len(got), n)
				}
			}
			if err := w.Delete(ctx, RecordID{"a", "s", "x"}); err != nil {
				t.Fatal(err)
			}
			if err := w.Flush(ctx); err != nil {
				t.Fatal(err)
			}
			if n := keysOf(t, st); n != 0 {
				t.Errorf("%d keys are left after the record is gone", n)
			}
		})
	}
}

func TestUnchangedClaimsAreNotWritten(t *testing.T) {
	ctx := context.Background()
	w := NewWriter(storetest.NewModel(nil), openBlobs(t), "a")
	for i, want := range []int64{3, 3, 4} {
		edges := span(2 + i/2)
		if err := w.Put(ctx, assertion("a", "x", edges...)); err != nil {
			t.Fatal(err)
		}
		if i == 2 {
			want++ // the name says how many there are
		}
		if w.Claims() != want {
			t.Errorf("after put %d: %d claims written, want %d", i, w.Claims(), want)
		}
	}
}

// A write that is cut anywhere leaves a state from which writing the same again,
// or removing it, ends where it would have ended without the cut.
func TestACutLeavesNothingBehind(t *testing.T) {
	ctx := context.Background()
	rapid.Check(t, func(rt *rapid.T) {
		st := storetest.NewModel(nil)
		blobs := openBlobs(t)
		cursor := CursorWrite{Parts: []string{"x"}, Value: []byte("read")}
		first := rapid.SampledFrom([]int{0, 5, 600}).Draw(rt, "first")
		second := rapid.SampledFrom([]int{0, 7, 800}).Draw(rt, "second")
		w := NewWriter(st, blobs, "a")
		if err := errors.Join(w.Put(ctx, assertion("a", "x", span(first)...), cursor), w.Flush(ctx)); err != nil {
			rt.Fatal(err)
		}
		cut := &cutting{st, rapid.IntRange(0, 12).Draw(rt, "cut")}
		w = NewWriter(cut, blobs, "a")
		err := errors.Join(w.Put(ctx, assertion("a", "x", span(second)...), cursor), w.Flush(ctx))
		known := false
		if verr := st.View(ctx, store.Local, func(s store.Snapshot) error {
			_, err := s.Get(SpaceCursor.Key("a", "x"))
			known = err == nil
			return nil
		}); verr != nil {
			rt.Fatal(verr)
		}
		if err != nil && known && !slices.Equal(objects(t, st, "x", "a"), span(first)) {
			rt.Fatal("the cursor says that the record was read, but it is not what was read")
		}
		w = NewWriter(st, blobs, "a")
		if rapid.Bool().Draw(rt, "again") {
			if err := errors.Join(w.Put(ctx, assertion("a", "x", span(second)...), cursor), w.Finish(ctx, Watermark{})); err != nil {
				rt.Fatal(err)
			}
			if got := objects(t, st, "x", "a"); !slices.Equal(got, span(second)) {
				rt.Fatalf("after writing again: %d edges, want %d", len(got), second)
			}
		}
		if err := w.RemoveAll(ctx); err != nil {
			rt.Fatal(err)
		}
		if n := keysOf(t, st); n != 0 {
			rt.Fatalf("%d keys are left after everything is removed", n)
		}
	})
}

func TestWhatMayNotBeReadLooksAbsent(t *testing.T) {
	ctx := context.Background()
	st := storetest.NewModel(nil)
	shared := NewEntityID(NamespaceMail, "ada@example.org")
	for _, source := range []string{"a", "b"} {
		w := NewWriter(st, openBlobs(t), source)
		a := assertion(source, "ada", 1)
		a.Record.Entity = shared
		a.Properties[0].Value = "Ada of " + source
		if err := errors.Join(w.Put(ctx, a), w.Finish(ctx, Watermark{AsOfNs: 1})); err != nil {
			t.Fatal(err)
		}
	}
	read(t, st, store.Local, func(r *Reader) error {
		e, err := r.Entity(shared)
		if err != nil || len(e.Claims) != 1 || e.Value(Name) != "Ada of a" || len(e.Records) != 1 {
			t.Errorf("entity = %+v, %v: want what source a says and no more", e, err)
		}
		n := 0
		for c, err := range r.In(NewEntityID("n", "1"), "TO", Ascending) {
			if n++; err != nil || c.Record.Source != "a" {
				t.Errorf("relation of %v, %v", c.Record, err)
			}
		}
		if n != 1 {
			t.Errorf("%d relations, want 1", n)
		}
		if _, err := r.Record(RecordID{"b", "s", "ada"}); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("record of b: %v", err)
		}
		if _, err := r.Watermark("b"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("watermark of b: %v", err)
		}
		for range r.Records("b", "") {
			t.Error("records of b can be listed")
		}
		return nil
	}, "a")
	read(t, st, store.Local, func(r *Reader) error {
		if _, err := r.Entity(shared); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("with no access: %v", err)
		}
		ids, err := r.ByIdentifier("t", "ada")
		if err != nil || len(ids) != 0 {
			t.Errorf("with no access: %v, %v", ids, err)
		}
		return nil
	})
}

// Against a plain oracle: a map of what each record last asserted.
func TestReaderAgreesWithAPlainModelAtEveryVersion(t *testing.T) {
	ctx := context.Background()
	rapid.Check(t, func(rt *rapid.T) {
		st := storetest.NewModel(nil)
		blobs := openBlobs(t)
		type world map[RecordID][]int
		now := world{}
		worlds := map[store.Version]world{}
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			source := rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "source")
			native := rapid.SampledFrom([]string{"x", "y"}).Draw(rt, "native")
			id := RecordID{source, "s", native}
			w := NewWriter(st, blobs, source)
			next := world{}
			for k, v := range now {
				next[k] = v
			}
			if rapid.Bool().Draw(rt, "delete") {
				delete(next, id)
				if err := w.Delete(ctx, id); err != nil {
					rt.Fatal(err)
				}
			} else {
				next[id] = rapid.SliceOfNDistinct(rapid.IntRange(1, 6), 0, 4, rapid.ID[int]).Draw(rt, "edges")
				slices.Sort(next[id])
				if err := w.Put(ctx, assertion(source, native, next[id]...)); err != nil {
					rt.Fatal(err)
				}
			}
			if err := w.Flush(ctx); err != nil {
				rt.Fatal(err)
			}
			now = next
			worlds[st.Applied()] = now
		}
		access := rapid.SampledFrom([][]string{{"a"}, {"b"}, {"a", "b"}, {}}).Draw(rt, "access")
		for v, w := range worlds {
			if v == 0 {
				continue
			}
			read(t, st, store.At(v), func(r *Reader) error {
				for _, native := range []string{"x", "y"} {
					var want, got []int
					records := 0
					for _, source := range access {
						if edges, ok := w[RecordID{source, "s", native}]; ok {
							records++
							want = append(want, edges...)
						}
					}
					for c, err := range r.Out(NewEntityID("t", native), "TO", Ascending) {
						if err != nil {
							return err
						}
						got = append(got, int(c.Rank))
					}
					slices.Sort(want)
					if !slices.Equal(got, want) {
						rt.Fatalf("at %d %s: edges %v, want %v", v, native, got, want)
					}
					e, err := r.Entity(NewEntityID("t", native))
					if len(e.Records) != records || (records == 0) != errors.Is(err, store.ErrNotFound) {
						rt.Fatalf("at %d %s: %d records (%v), want %d", v, native, len(e.Records), err, records)
					}
				}
				return nil
			}, access...)
		}
	})
}

func TestNativeKeysAreShortAndDistinct(t *testing.T) {
	long := func(end string) string { return string(make([]byte, 4000)) + "ä" + end }
	if a, b := NativeKey(long("1")), NativeKey(long("2")); a == b || len(a) > MaxNativeBytes {
		t.Errorf("two long keys: %d and %d bytes, equal: %v", len(a), len(b), a == b)
	}
}

func TestWatermarkIsOfThePastToo(t *testing.T) {
	ctx := context.Background()
	st := storetest.NewModel(nil)
	w := NewWriter(st, openBlobs(t), "a")
	var versions []store.Version
	for i := range 2 {
		if err := w.Finish(ctx, Watermark{AsOfNs: time.Unix(int64(i+1), 0).UnixNano()}); err != nil {
			t.Fatal(err)
		}
		versions = append(versions, st.Applied())
	}
	for i, v := range versions {
		read(t, st, store.At(v), func(r *Reader) error {
			m, err := r.Watermark("a")
			if err != nil || m.AsOf().Unix() != int64(i+1) {
				t.Errorf("at %d: %v, %v", v, m.AsOf(), err)
			}
			return nil
		}, "a")
	}
}
