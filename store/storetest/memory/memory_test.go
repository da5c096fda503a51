package memory_test

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"

	"github.com/cloister-os/cloister/store/machine/disk"
	"github.com/cloister-os/cloister/store/machine/kv"
	"github.com/cloister-os/cloister/store/storetest/memory"
)

// both is a Badger pair and one in memory that are told the same.
type both struct {
	*testing.T
	rnd     *rand.Rand
	real    kv.Volume
	disk    *memory.Disk
	pairs   [2]kv.Pair
	version uint64
	bound   uint64
}

// TestMemoryIsWhatBadgerIs: commits, deletes, repeated commits, discards and
// reopening leave the same in both, at every version that both still keep.
func TestMemoryIsWhatBadgerIs(t *testing.T) {
	for seed := range uint64(2) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		b := &both{T: t, rnd: rnd, disk: memory.New(rnd)}
		b.real = disk.New(disk.Config{
			Dir: t.TempDir(), MemtableBytes: 1 << 20, Logger: slog.New(slog.DiscardHandler), Failed: func(err error) { t.Error(err) },
		})
		b.open()
		for range 200 {
			switch n := rnd.IntN(20); {
			case n < 14:
				b.commit()
			case n < 16:
				b.mark()
			case n == 16:
				b.each(kv.Pair.Close)
				b.open()
			default:
				b.compare(b.bound + rnd.Uint64N(b.version-b.bound+1))
			}
		}
		b.each(kv.Pair.Close)
	}
}

func (b *both) each(f func(kv.Pair) error) {
	b.Helper()
	for i, p := range b.pairs {
		if err := f(p); err != nil {
			b.Fatalf("pair %d: %v", i, err)
		}
	}
}

func (b *both) open() {
	b.Helper()
	for i, v := range []kv.Volume{b.real, b.disk.Volume()} {
		n, err := v.Current()
		if err != nil {
			b.Fatal(err)
		}
		if b.pairs[i], err = v.Open(n); err != nil {
			b.Fatal(err)
		}
	}
	if b.pairs[0].Mark() != b.pairs[1].Mark() {
		b.Fatalf("marks %+v, %+v", b.pairs[0].Mark(), b.pairs[1].Mark())
	}
	m := b.pairs[0].Mark()
	b.each(func(p kv.Pair) error { p.Discard(m.State, m.History); return nil })
}

func (b *both) commit() {
	b.Helper()
	b.version += 1 + b.rnd.Uint64N(3)
	var w [2][]kv.Write
	for db := range w {
		for k := range b.rnd.IntN(5) {
			if b.rnd.IntN(2) == 0 {
				continue
			}
			one := kv.Write{Key: fmt.Appendf(nil, "%d/%d", k%2, k), Value: make([]byte, b.rnd.IntN(2000)), Deleted: b.rnd.IntN(4) == 0}
			if one.Deleted {
				one.Value = nil
			}
			w[db] = append(w[db], one)
		}
	}
	for range 1 + b.rnd.IntN(6)/5 { // now and then a replay
		b.each(func(p kv.Pair) error { return p.Commit(b.version, w) })
	}
}

func (b *both) mark() {
	b.Helper()
	b.bound = max(b.bound, b.rnd.Uint64N(b.version+1))
	m := kv.Mark{Index: b.version, State: b.bound, History: b.bound}
	b.each(func(p kv.Pair) error {
		err := errors.Join(p.Sync(), p.SetMark(m))
		p.Discard(m.State, m.History)
		return err
	})
}

func (b *both) compare(at uint64) {
	b.Helper()
	since := b.rnd.Uint64N(at + 1)
	for db := range 2 {
		ranges := []kv.Range{{}, {Prefix: []byte("1/")}, {Reverse: true}, {AllVersions: true, Since: max(since, b.bound)}}
		for i, in := range ranges {
			real, mem := spell(b.pairs[0].At(db, at), in, b.bound), spell(b.pairs[1].At(db, at), in, b.bound)
			if real != mem {
				b.Fatalf("database %d at %d, range %d\nBadger:\n%s\nmemory:\n%s", db, at, i, real, mem)
			}
		}
	}
}

// spell lists a range, repetitions once, and what Get says of each key.
func spell(r kv.Reader, in kv.Range, bound uint64) string {
	defer r.Close()
	c := r.Scan(in)
	defer c.Close()
	out, last := "", ""
	for c.Seek(nil); c.Valid(); c.Next() {
		if in.AllVersions && c.Version() <= max(bound, in.Since) {
			continue
		}
		v, err := c.Value()
		line := fmt.Sprintf("%s %d %v %d %v\n", c.Key(), c.Version(), c.Deleted(), len(v), err)
		if line != last {
			out += line
		}
		last = line
		got, version, err := r.Get(c.Key())
		again, err2 := r.Version(c.Key())
		if !in.AllVersions && (len(got) != len(v) || version != c.Version() || again != version || err != nil || err2 != nil) {
			out += fmt.Sprintln("Get differs:", len(got), version, again, err, err2)
		}
	}
	return out
}

func one(k, v string) [2][]kv.Write {
	w := []kv.Write{{Key: []byte(k), Value: []byte(v)}}
	return [2][]kv.Write{w, w}
}

func TestACrashKeepsWhatWasSyncedAndEndsHandles(t *testing.T) {
	kept, lost := 0, 0
	for seed := range uint64(50) {
		d := memory.New(rand.New(rand.NewPCG(seed, 2)))
		p, err := d.Volume().Open(1)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(p.Commit(1, one("a", "1")), p.Sync(), p.Commit(2, one("a", "2")), p.Commit(3, one("b", "3"))); err != nil {
			t.Fatal(err)
		}
		d.Crash()
		if err := p.Commit(4, one("c", "4")); !errors.Is(err, memory.ErrPower) {
			t.Errorf("a handle from before the crash writes: %v", err)
		}
		if p, err = d.Volume().Open(1); err != nil {
			t.Fatal(err)
		}
		for db := range 2 {
			r := p.At(db, 9)
			if v, err := r.Version([]byte("a")); v != 1 && v != 2 || err != nil {
				t.Errorf("a is at %d, %v", v, err)
			}
			if v, _ := r.Version([]byte("b")); v == 3 {
				kept++
			} else {
				lost++
			}
		}
	}
	if kept == 0 || lost == 0 {
		t.Errorf("of what was not synced %d were kept and %d lost: nothing is left to chance", kept, lost)
	}
}

func TestTheDiskFailsOnCommand(t *testing.T) {
	d := memory.New(rand.New(rand.NewPCG(1, 3)))
	p, err := d.Volume().Open(1)
	if err != nil {
		t.Fatal(err)
	}
	full := errors.New("no space left on device")
	d.Fail = func(op memory.Op) error {
		if op == memory.OpSync {
			return full
		}
		return nil
	}
	if err := p.Commit(1, one("a", "1")); err != nil {
		t.Fatal(err)
	}
	if err := p.Sync(); !errors.Is(err, full) {
		t.Errorf("sync: %v", err)
	}
	d.Fail = nil
	d.CutAfter(2)
	if err := p.Commit(2, one("a", "2")); err != nil {
		t.Fatal(err)
	}
	if err := p.Commit(3, one("a", "3")); !errors.Is(err, memory.ErrPower) {
		t.Errorf("the power was to go at the second step: %v", err)
	}
	if err := p.Sync(); !errors.Is(err, memory.ErrPower) {
		t.Errorf("after it: %v", err)
	}
}

// A replay that writes other bytes than before is what no simulation may miss.
func TestAReplayThatDiffersIsNoticed(t *testing.T) {
	d := memory.New(rand.New(rand.NewPCG(1, 4)))
	p, err := d.Volume().Open(1)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.Commit(1, one("a", "1")), p.Commit(1, one("a", "1"))); err != nil || d.Differs() != "" {
		t.Fatalf("%v, %s", err, d.Differs())
	}
	if err := p.Commit(1, one("a", "2")); err != nil || d.Differs() == "" {
		t.Errorf("%v, nothing noticed", err)
	}
}
