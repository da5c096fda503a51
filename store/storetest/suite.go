package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/cloister-os/cloister/store"
)

// Run is the conformance suite: what every store.Store must do. open returns an
// empty store and sees to its end.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	cases := []struct {
		name string
		test func(*bench)
	}{
		{"a value is read as it was written, with its version", putGet},
		{"a deleted key does not exist", deleted},
		{"a check holds or the whole transaction fails", checks},
		{"a transaction's own writes do not satisfy its checks", ownWrites},
		{"a failed transaction leaves nothing", nothingByHalf},
		{"a log numbers its leaves and its tree is RFC 6962", merkle},
		{"a log is read as it stood", logPast},
		{"a counter stops at its limit", counter},
		{"a counter's window forgets", window},
		{"the past is read at its version", past},
		{"a view of the future waits", future},
		{"a view stands still", stillness},
		{"scans go both ways over a prefix", scans},
		{"update survives contention", contention},
		{"concurrent transactions are each applied once", once},
		{"watch yields every change once and resumes", watch},
		{"watch follows writers without gap or repeat", watchLive},
		{"a watch ends with its context", watchEnds},
		{"a submitted transaction's outcome can be waited for", submit},
		{"what is out of bounds is refused", bounds},
		{"time never goes back", clock},
		{"below the retention floor is compacted", floor},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			c.test(&bench{t, open(t)})
		})
	}
}

// bench is a store under test with short words for what tests do.
type bench struct {
	*testing.T
	store.Store
}

func (b *bench) tx(build ...func(*store.Tx)) *store.Tx {
	tx := store.NewTx()
	for _, f := range build {
		f(tx)
	}
	return tx
}

func put(k store.Key, v string) func(*store.Tx) { return func(t *store.Tx) { t.Put(k, []byte(v)) } }
func del(k store.Key) func(*store.Tx)           { return func(t *store.Tx) { t.Delete(k) } }
func check(k store.Key, v store.Version) func(*store.Tx) {
	return func(t *store.Tx) { t.Check(k, v) }
}
func leaf(log, data string) func(*store.Tx) {
	return func(t *store.Tx) { t.Append(log, []byte(data)) }
}
func add(k store.Key, delta, limit int64, w time.Duration) func(*store.Tx) {
	return func(t *store.Tx) { t.Add(k, delta, limit, w) }
}

// must applies a transaction that has to succeed.
func (b *bench) must(build ...func(*store.Tx)) store.Result {
	b.Helper()
	res, err := b.Apply(b.Context(), b.tx(build...))
	if err != nil {
		b.Fatal(err)
	}
	return res
}

// view runs f on a snapshot and fails the test with its error.
func (b *bench) view(at store.ReadAt, f func(store.Snapshot) error) {
	b.Helper()
	if err := b.View(b.Context(), at, f); err != nil {
		b.Fatal(err)
	}
}

// want checks a key's value; "" = does not exist.
func (b *bench) want(at store.ReadAt, k store.Key, value string) {
	b.Helper()
	b.view(at, func(s store.Snapshot) error {
		item, err := s.Get(k)
		switch {
		case value == "" && errors.Is(err, store.ErrNotFound):
		case err != nil:
			return fmt.Errorf("%q at %d: %w", k, s.Version(), err)
		case string(item.Value) != value:
			return fmt.Errorf("%q at %d is %q, want %q", k, s.Version(), item.Value, value)
		}
		return nil
	})
}

func (b *bench) sum(k store.Key, w time.Duration, want int64) {
	b.Helper()
	b.view(store.Fresh, func(s store.Snapshot) error {
		if got, err := s.Sum(k, w); err != nil || got != want {
			return fmt.Errorf("sum of %q is %d (%v), want %d", k, got, err, want)
		}
		return nil
	})
}

func putGet(b *bench) {
	for _, k := range []store.Key{"S/t/a", "H/t/a"} {
		first := b.must(put(k, "one"))
		second := b.must(put(k, "two"), put(k, "three"))
		if second.Version <= first.Version || b.Applied() < second.Version {
			b.Errorf("versions %d, %d, applied %d do not grow", first.Version, second.Version, b.Applied())
		}
		b.view(store.Local, func(s store.Snapshot) error {
			item, err := s.Get(k)
			if err != nil || item.Key != k || item.Version != second.Version || string(item.Value) != "three" {
				b.Errorf("got %+v, %v", item, err)
			}
			clear(item.Value) // it is the caller's
			return nil
		})
		b.want(store.Fresh, k, "three")
	}
	b.must(put("S/t/empty", ""))
	b.view(store.Fresh, func(s store.Snapshot) error {
		item, err := s.Get("S/t/empty")
		if len(item.Value) != 0 {
			b.Errorf("an empty value became %q", item.Value)
		}
		return err
	})
}

func deleted(b *bench) {
	b.must(put("H/t/a", "one"), put("H/t/b", "two"))
	b.must(del("H/t/a"), del("H/t/never"))
	b.want(store.Fresh, "H/t/a", "")
	b.must(put("H/t/a", "again"), del("H/t/b"), put("H/t/b", "kept"))
	b.want(store.Fresh, "H/t/a", "again")
	b.want(store.Fresh, "H/t/b", "kept")
}

func checks(b *bench) {
	v := b.must(check("S/t/a", 0), put("S/t/a", "one")).Version
	_, err := b.Apply(b.Context(), b.tx(check("S/t/a", 0), put("S/t/a", "other")))
	var conflict *store.ConflictError
	if !errors.As(err, &conflict) || conflict.Key != "S/t/a" || conflict.Version != v || !errors.Is(err, store.ErrConflict) {
		b.Errorf("got %v, want a conflict at %d", err, v)
	}
	b.want(store.Fresh, "S/t/a", "one")
	b.must(check("S/t/a", v), del("S/t/a"))
	_, err = b.Apply(b.Context(), b.tx(check("S/t/a", v), put("S/t/a", "other")))
	if !errors.As(err, &conflict) || conflict.Version != 0 {
		b.Errorf("got %v, want a conflict with a deleted key", err)
	}
	b.must(check("S/t/a", 0), put("S/t/a", "two"))
}

func ownWrites(b *bench) {
	v := b.must(put("H/t/a", "one")).Version
	b.must(put("H/t/a", "two"), check("H/t/a", v), put("H/t/new", "x"), check("H/t/new", 0))
	b.want(store.Fresh, "H/t/a", "two")
}

func nothingByHalf(b *bench) {
	b.must(put("S/t/taken", "x"), leaf("log", "first"), add("S/t/n", 1, 10, 0))
	before := b.Applied()
	for _, why := range []func(*store.Tx){check("S/t/taken", 0), add("S/t/n", 10, 10, 0)} {
		tx := b.tx(put("S/t/a", "x"), put("H/t/a", "x"), del("S/t/taken"), leaf("log", "second"), leaf("other", "x"), add("S/t/n", 1, 10, 0), why)
		if res, err := b.Apply(b.Context(), tx); err == nil {
			b.Fatalf("it succeeded: %+v", res)
		}
	}
	b.want(store.Fresh, "S/t/a", "")
	b.want(store.Fresh, "H/t/a", "")
	b.want(store.Fresh, "S/t/taken", "x")
	b.sum("S/t/n", 0, 1)
	b.view(store.Fresh, func(s store.Snapshot) error {
		if n := s.Log("log").Size(); n != 1 {
			b.Errorf("the log has %d leaves", n)
		}
		if n := s.Log("other").Size(); n != 0 {
			b.Errorf("the other log has %d leaves", n)
		}
		return nil
	})
	ctx, cancel := context.WithCancel(b.Context())
	cancel()
	for c := range b.Watch(ctx, "S/t/", before) {
		if len(c.Writes) > 0 {
			b.Errorf("a failed transaction is a change: %+v", c)
		}
	}
}

// logReader gives tlog a log's hashes.
type logReader struct{ store.Log }

// ReadHashes implements tlog.HashReader.
func (r logReader) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hs, err := r.Hashes(indexes)
	out := make([]tlog.Hash, len(hs))
	for i, h := range hs {
		out[i] = h
	}
	return out, err
}

func merkle(b *bench) {
	b.view(store.Fresh, func(s store.Snapshot) error {
		root, err := s.Log("l").Root()
		if want, _ := tlog.TreeHash(0, nil); root != want {
			b.Errorf("the empty tree has root %x", root)
		}
		return err
	})
	const size = 700 // more than two tiles and not a multiple
	var data []string
	for i := 0; len(data) < size; i++ {
		tx := store.NewTx()
		first := len(data)
		for range min(i%37+1, size-first) {
			data = append(data, fmt.Sprintf("leaf %d", len(data)))
			tx.Append("l", []byte(data[len(data)-1]))
		}
		tx.Append("other", []byte("x"))
		res, err := b.Apply(b.Context(), tx)
		if err != nil {
			b.Fatal(err)
		}
		for j, seq := range res.Seqs[:len(res.Seqs)-1] {
			if seq != uint64(first+j) {
				b.Fatalf("leaf %d got sequence %d", first+j, seq)
			}
		}
	}
	b.view(store.Fresh, func(s store.Snapshot) error { return checkLog(s.Log("l"), data) })
}

// checkLog compares a log with the leaves it should have: tree, proofs and data.
func checkLog(l store.Log, data []string) error {
	if l.Size() != uint64(len(data)) {
		return fmt.Errorf("the log has %d leaves, want %d", l.Size(), len(data))
	}
	var want hashReader
	i := 0
	for lf, err := range l.Leaves(0) {
		if err != nil {
			return err
		}
		if i >= len(data) || lf.Seq != uint64(i) || string(lf.Data) != data[i] || lf.Version == 0 || lf.Time.IsZero() {
			return fmt.Errorf("leaf %d is %+v", i, lf)
		}
		hs, err := tlog.StoredHashes(int64(i), lf.Data, want)
		if err != nil {
			return err
		}
		want = append(want, hs...)
		i++
	}
	root, err := l.Root()
	if err != nil {
		return err
	}
	n := int64(len(data))
	if h, err := tlog.TreeHash(n, want); err != nil || h != root {
		return fmt.Errorf("root %x, recomputed %v (%v)", root, h, err)
	}
	if h, err := tlog.TreeHash(n, logReader{l}); err != nil || h != root {
		return fmt.Errorf("root %x, from the stored hashes %v (%v)", root, h, err)
	}
	all := make([]int64, len(want))
	for i := range all {
		all[i] = int64(i)
	}
	got, err := logReader{l}.ReadHashes(all)
	if err != nil || !slices.Equal(got, []tlog.Hash(want)) {
		return fmt.Errorf("the stored hashes differ: %v", err)
	}
	if _, err := l.Hashes([]int64{int64(len(want))}); !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("a hash beyond the end: %v", err)
	}
	if _, err := l.Leaf(l.Size()); !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("a leaf beyond the end: %v", err)
	}
	lf, err := l.Leaf(l.Size() - 1)
	if err != nil || string(lf.Data) != data[n-1] {
		return fmt.Errorf("the last leaf is %+v, %v", lf, err)
	}
	return nil
}

func logPast(b *bench) {
	var at []store.Version
	var data []string
	for i := range 300 {
		data = append(data, fmt.Sprint(i))
		at = append(at, b.must(leaf("l", data[i])).Version)
	}
	for _, n := range []int{1, 2, 3, 255, 256, 257, 299} {
		b.view(store.At(at[n-1]), func(s store.Snapshot) error { return checkLog(s.Log("l"), data[:n]) })
	}
}

func counter(b *bench) {
	res := b.must(add("S/t/n", 3, 10, 0), add("S/t/n", 3, 10, 0), add("H/t/m", -5, 0, 0))
	if !slices.Equal(res.Sums, []int64{3, 6, -5}) {
		b.Errorf("sums %v", res.Sums)
	}
	_, err := b.Apply(b.Context(), b.tx(add("S/t/n", 5, 10, 0)))
	var limit *store.LimitError
	if !errors.As(err, &limit) || limit.Counter != "S/t/n" || limit.Sum != 6 || limit.Limit != 10 || !errors.Is(err, store.ErrLimit) {
		b.Errorf("got %v, want a limit error at 6 of 10", err)
	}
	b.must(add("S/t/n", 4, 10, 0))
	b.must(add("S/t/n", -10, 0, 0)) // going down needs no room
	b.must(add("S/t/n", store.NoLimit, store.NoLimit, 0))
	if _, err := b.Apply(b.Context(), b.tx(add("S/t/n", 1, store.NoLimit, 0))); !errors.Is(err, store.ErrLimit) {
		b.Errorf("a sum beyond 64 bits: %v", err)
	}
	b.sum("S/t/n", 0, store.NoLimit)
	b.sum("H/t/m", 0, -5)
	b.sum("S/t/unused", 0, 0)
	b.want(store.Fresh, "S/t/n", "") // a counter is not a value
}

func window(b *bench) {
	b.must(add("S/t/n", 1, 10, time.Second), add("S/t/n", 2, 10, 24*365*time.Hour))
	for deadline := time.Now().Add(20 * time.Second); ; {
		res := b.must(add("S/t/n", 0, 10, time.Second))
		if res.Sums[0] == 0 {
			break
		}
		if time.Now().After(deadline) {
			b.Fatal("the window never ended")
		}
	}
	b.sum("S/t/n", time.Second, 0)
	b.sum("S/t/n", 24*365*time.Hour, 2)
	b.sum("S/t/n", 0, 0)
}

func past(b *bench) {
	var at []store.Version
	for i := range 5 {
		at = append(at, b.must(put("H/t/a", fmt.Sprint(i)), add("H/t/n", 1, 100, 0)).Version)
	}
	gone := b.must(del("H/t/a")).Version
	for i, v := range at {
		b.want(store.At(v), "H/t/a", fmt.Sprint(i))
		b.view(store.At(v), func(s store.Snapshot) error {
			if n, err := s.Sum("H/t/n", 0); err != nil || n != int64(i+1) || s.Version() != v {
				b.Errorf("at %d: sum %d, %v, version %d", v, n, err, s.Version())
			}
			return nil
		})
	}
	b.want(store.At(gone), "H/t/a", "")
	if at[0] > 1 {
		b.want(store.At(at[0]-1), "H/t/a", "")
	}
}

func future(b *bench) {
	v := b.must(put("H/t/a", "one")).Version
	ctx, cancel := context.WithTimeout(b.Context(), 20*time.Millisecond)
	defer cancel()
	err := b.View(ctx, store.At(v+1000), func(store.Snapshot) error { return nil })
	if !errors.Is(err, context.DeadlineExceeded) {
		b.Errorf("got %v", err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		err := b.View(b.Context(), store.At(v+1), func(s store.Snapshot) error {
			if s.Version() != v+1 {
				return fmt.Errorf("version %d", s.Version())
			}
			return nil
		})
		if err != nil {
			b.Error(err)
		}
	})
	for b.must(put("H/t/a", "two")).Version < v+1 {
	}
	wg.Wait()
}

func stillness(b *bench) {
	b.must(put("S/t/a", "one"), leaf("l", "one"), add("S/t/n", 1, 10, 0))
	b.view(store.Fresh, func(s store.Snapshot) error {
		size := s.Log("l").Size()
		b.must(put("S/t/a", "two"), put("S/t/b", "new"), leaf("l", "two"), add("S/t/n", 1, 10, 0))
		item, err := s.Get("S/t/a")
		if err != nil || string(item.Value) != "one" {
			b.Errorf("got %q, %v", item.Value, err)
		}
		if _, err := s.Get("S/t/b"); !errors.Is(err, store.ErrNotFound) {
			b.Errorf("a later key appeared: %v", err)
		}
		if n, _ := s.Sum("S/t/n", 0); n != 1 || size != 1 || s.Log("l").Size() != 1 {
			b.Errorf("sum %d, log %d then %d", n, size, s.Log("l").Size())
		}
		return nil
	})
}

func scans(b *bench) {
	const space store.Space = "H/t/"
	var keys []store.Key
	for _, p := range [][]string{{"a"}, {"a", "1"}, {"a", "2"}, {"a\x00", "1"}, {"b"}, {"b", "\xff\xff"}, {"c"}} {
		keys = append(keys, space.Key(p...))
	}
	tx := store.NewTx()
	for _, k := range append(keys, "H/t", "H/u", "S/t/a", "H/t/\xff\xff") {
		tx.Put(k, []byte(k))
	}
	tx.Put(space.Key("a", "gone"), []byte("x"))
	if _, err := b.Apply(b.Context(), tx); err != nil {
		b.Fatal(err)
	}
	b.must(del(space.Key("a", "gone")))
	all := append(slices.Clone(keys), "H/t/\xff\xff")
	slices.Sort(all)
	cases := []struct {
		prefix, edge store.Key
		want         []store.Key
	}{
		{"H/t/", "", all},
		{space.Prefix("a"), "", []store.Key{keys[0], keys[1], keys[2]}},
		{space.Prefix("a"), keys[1], []store.Key{keys[2]}},
		{"H/t/", keys[4], all[slices.Index(all, keys[4])+1:]},
		{"H/t/", "H/z", nil},
		{"H/t/", "H/a", all},
		{"H/none/", "", nil},
		{"H/t/\xff", "", all[len(all)-1:]},
		{"S/t/", "", []store.Key{"S/t/a"}},
	}
	b.view(store.Fresh, func(s store.Snapshot) error {
		for _, c := range cases {
			if got := list(b, s.Scan(c.prefix, c.edge)); !slices.Equal(got, c.want) {
				b.Errorf("scan %q after %q: %q, want %q", c.prefix, c.edge, got, c.want)
			}
			var want []store.Key
			for _, k := range all {
				if strings.HasPrefix(string(k), string(c.prefix)) && (c.edge == "" || k < c.edge) {
					want = append(want, k)
				}
			}
			if c.prefix == "S/t/" {
				want = c.want
			}
			slices.Reverse(want)
			if got := list(b, s.ScanBack(c.prefix, c.edge)); !slices.Equal(got, want) {
				b.Errorf("scan back %q before %q: %q, want %q", c.prefix, c.edge, got, want)
			}
		}
		for range s.Scan("H/t/", "") { // may be left early
			break
		}
		return nil
	})
}

func list(b *bench, seq func(func(store.Item, error) bool)) []store.Key {
	var out []store.Key
	for item, err := range seq {
		if err != nil || string(item.Value) != string(item.Key) || item.Version == 0 {
			b.Errorf("item %+v, %v", item, err)
		}
		out = append(out, item.Key)
	}
	return out
}
