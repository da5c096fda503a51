package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/cloister-os/cloister/store"
)

func contention(b *bench) {
	const writers, each = 8, 25
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				_, err := b.Update(b.Context(), func(u *store.Update) error {
					item, err := u.Get("S/t/n")
					if err != nil && !errors.Is(err, store.ErrNotFound) {
						return err
					}
					u.Put("S/t/n", append(item.Value, 'x'))
					return nil
				})
				if err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	b.want(store.Fresh, "S/t/n", strings.Repeat("x", writers*each))
	own := errors.New("mine")
	if _, err := b.Update(b.Context(), func(*store.Update) error { return own }); !errors.Is(err, own) {
		b.Errorf("got %v", err)
	}
}

func once(b *bench) {
	const writers, each = 32, 20
	var mu sync.Mutex
	seqs := map[uint64]bool{}
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				k := store.Key(fmt.Sprintf("H/t/%d/%d", w, i))
				res, err := b.Apply(b.Context(), b.tx(check(k, 0), put(k, "x"), leaf("l", string(k)), add("S/t/n", 1, store.NoLimit, 0)))
				if err != nil {
					b.Error(err)
					return
				}
				mu.Lock()
				if seqs[res.Seqs[0]] {
					b.Errorf("sequence %d was given twice", res.Seqs[0])
				}
				seqs[res.Seqs[0]] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	b.sum("S/t/n", 0, writers*each)
	b.view(store.Fresh, func(s store.Snapshot) error {
		seen := map[string]bool{}
		for lf, err := range s.Log("l").Leaves(0) {
			if err != nil || seen[string(lf.Data)] {
				b.Errorf("leaf %d %q: %v, seen before: %v", lf.Seq, lf.Data, err, seen[string(lf.Data)])
			}
			seen[string(lf.Data)] = true
			item, err := s.Get(store.Key(lf.Data))
			if err != nil || item.Version != lf.Version {
				b.Errorf("leaf %d is of version %d, its key of %d (%v)", lf.Seq, lf.Version, item.Version, err)
			}
		}
		if len(seen) != writers*each {
			b.Errorf("%d leaves", len(seen))
		}
		return nil
	})
}

// follow collects n changes.
func (b *bench) follow(prefix store.Key, from store.Version, n int) []store.Change {
	b.Helper()
	var out []store.Change
	for c, err := range b.Watch(b.Context(), prefix, from) {
		if err != nil {
			b.Fatal(err)
		}
		if out = append(out, c); len(out) == n {
			break
		}
	}
	return out
}

func watch(b *bench) {
	first := b.must(put("H/t/a", "1"), put("H/t/b", "1"), put("H/u/a", "1"), put("H/t/a", "2"))
	b.must(put("H/u/a", "2"))
	third := b.must(del("H/t/b"), put("S/t/a", "x"))
	got := b.follow("H/t/", 0, 2)
	want := fmt.Sprintf("[{%d H/t/a=2 H/t/b=1} {%d -H/t/b}]", first.Version, third.Version)
	if s := spell(got); s != want {
		b.Errorf("got %s, want %s", s, want)
	}
	if !got[0].Time.Equal(first.Time) || !got[1].Time.Equal(third.Time) {
		b.Errorf("times %v, %v", got[0].Time, got[1].Time)
	}
	if s := spell(b.follow("H/t/", first.Version, 1)); s != fmt.Sprintf("[{%d -H/t/b}]", third.Version) {
		b.Errorf("resumed with %s", s)
	}
	if s := spell(b.follow("S/t/", 0, 1)); s != fmt.Sprintf("[{%d S/t/a=x}]", third.Version) {
		b.Errorf("the other database gave %s", s)
	}
}

func spell(cs []store.Change) string {
	var out []string
	for _, c := range cs {
		parts := []string{fmt.Sprint(c.Version)}
		for _, w := range c.Writes {
			if w.Deleted {
				parts = append(parts, "-"+string(w.Key))
			} else {
				parts = append(parts, fmt.Sprintf("%s=%s", w.Key, w.Value))
			}
		}
		out = append(out, "{"+strings.Join(parts, " ")+"}")
	}
	return fmt.Sprint(out)
}

func watchLive(b *bench) {
	const writers, each = 8, 40
	var wg sync.WaitGroup
	for watcher := range 3 { // some of whom leave and begin again and again
		wg.Go(func() {
			seen, last := map[store.Key]bool{}, store.Version(0)
			for len(seen) < writers*each {
				n := 0
				for c, err := range b.Watch(b.Context(), "H/t/", last) {
					if err != nil || c.Version <= last {
						b.Errorf("version %d after %d: %v", c.Version, last, err)
						return
					}
					last = c.Version
					for _, w := range c.Writes {
						if seen[w.Key] {
							b.Errorf("%q came twice", w.Key)
						}
						seen[w.Key] = true
					}
					if n++; n > watcher*7 || len(seen) == writers*each {
						break
					}
				}
			}
		})
	}
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				tx := b.tx(put(store.Key(fmt.Sprintf("H/t/%d/%d", w, i)), "x"), put("S/t/other", "x"))
				if _, err := b.Apply(b.Context(), tx); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func watchEnds(b *bench) {
	v := b.must(put("S/t/a", "x")).Version
	ctx, cancel := context.WithTimeout(b.Context(), 20*time.Millisecond)
	defer cancel()
	var last error
	for _, err := range b.Watch(ctx, "S/t/", v) {
		last = err
	}
	if !errors.Is(last, context.DeadlineExceeded) {
		b.Errorf("ended with %v", last)
	}
}

func submit(b *bench) {
	var futures []store.Future
	var calls sync.Map
	for i := range 50 {
		tx := b.tx(put(store.Key(fmt.Sprintf("S/t/%d", i)), "x"), check("S/t/never", store.Version(i%2)))
		tx.After(func(_ store.Result, err error) {
			if _, again := calls.LoadOrStore(i, err); again {
				b.Errorf("After of %d was called twice", i)
			}
		})
		futures = append(futures, b.Submit(b.Context(), tx, store.Class(i%2)))
	}
	for i, f := range futures {
		res, err := f.Wait(b.Context())
		told, called := calls.Load(i)
		if !called {
			b.Errorf("After of %d was not called before Wait returned", i)
		}
		if i%2 == 0 && (err != nil || told != nil || res.Version == 0) || i%2 == 1 && !errors.Is(err, store.ErrConflict) {
			b.Errorf("%d: %+v, %v, %v", i, res, err, told)
		}
		if again, err2 := f.Wait(b.Context()); again.Version != res.Version || !errors.Is(err2, err) && err2 != err {
			b.Errorf("%d: waiting again gave %+v, %v", i, again, err2)
		}
	}
}

func bounds(b *bench) {
	big := strings.Repeat("x", store.MaxValueBytes+1)
	cases := []struct {
		build func(*store.Tx)
		want  error
	}{
		{put("S/t/a", big), store.ErrTooLarge},
		{put("T/a", "x"), store.ErrInvalid},
		{put("", "x"), store.ErrInvalid},
		{put(store.Key("S/"+strings.Repeat("k", store.MaxKeyBytes)), "x"), store.ErrTooLarge},
		{leaf("", "x"), store.ErrInvalid},
		{leaf("l", big), store.ErrTooLarge},
		{add("S/t/a", 1, 1, time.Millisecond), store.ErrInvalid},
		{func(t *store.Tx) {
			for range store.MaxTxOps + 1 {
				t.Delete("S/t/a")
			}
		}, store.ErrTooLarge},
		{func(t *store.Tx) {
			for range 5 {
				t.Put("S/t/a", []byte(big[:store.MaxValueBytes]))
			}
		}, store.ErrTooLarge},
	}
	for i, c := range cases {
		if _, err := b.Apply(b.Context(), b.tx(put("S/t/ok", "x"), c.build)); !errors.Is(err, c.want) {
			b.Errorf("case %d: got %v, want %v", i, err, c.want)
		}
	}
	b.want(store.Fresh, "S/t/ok", "")
	tx := store.NewTx()
	for i := 0; tx.Fits(1, 10+60000); i++ {
		tx.Put(store.Key(fmt.Sprintf("H/t/%06d", i)), []byte(big[:60000]))
	}
	if _, err := b.Apply(b.Context(), tx); err != nil {
		b.Errorf("the largest transaction: %v", err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	cancel()
	if _, err := b.Apply(ctx, b.tx(put("S/t/ok", "x"))); !errors.Is(err, context.Canceled) {
		b.Errorf("with an ended context: %v", err)
	}
	b.want(store.Fresh, "S/t/ok", "")
}

func clock(b *bench) {
	var last time.Time
	for range 20 {
		res := b.must(leaf("l", "x"), put("H/t/a", "x"))
		if res.Time.Before(last) || res.Time.Location() != time.UTC {
			b.Errorf("%v after %v", res.Time, last)
		}
		last = res.Time
		b.view(store.At(res.Version), func(s store.Snapshot) error {
			lf, err := s.Log("l").Leaf(res.Seqs[0])
			if !s.Time().Equal(res.Time) || !lf.Time.Equal(res.Time) || lf.Version != res.Version {
				b.Errorf("result %v, snapshot %v, leaf %v at %d", res.Time, s.Time(), lf.Time, lf.Version)
			}
			return err
		})
	}
}

func floor(b *bench) {
	old := b.must(put("H/t/a", "old")).Version
	kept := b.must(put("H/t/a", "new")).Version
	b.must(put(store.RetentionFloor, store.Number(uint64(kept))))
	err := b.View(b.Context(), store.At(old), func(store.Snapshot) error { return nil })
	if !errors.Is(err, store.ErrCompacted) {
		b.Errorf("below the floor: %v", err)
	}
	b.want(store.At(kept), "H/t/a", "new")
}
