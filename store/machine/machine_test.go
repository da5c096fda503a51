package machine

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/machine/disk"
	"github.com/cloister-os/cloister/store/machine/kv"
)

func testMachine(t *testing.T, dir string) *Machine {
	t.Helper()
	m, err := Open(Config{Dir: dir, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func put1(k store.Key, v string) []store.Op {
	tx := store.NewTx()
	tx.Put(k, []byte(v))
	return tx.Ops()
}

// group encodes a group of one origin.
func group(boot, lowest uint64, entries ...Entry) []byte {
	g := Group{Time: time.Unix(1000, 0), Origins: []Origin{{Node: "n1", Boot: boot, Lowest: lowest}}, Entries: entries}
	return g.AppendTo(nil)
}

func apply(t *testing.T, m *Machine, index uint64, data []byte) []Outcome {
	t.Helper()
	a, err := m.Apply(index, data)
	if err != nil {
		t.Fatal(err)
	}
	return a.Outcomes
}

func get(t *testing.T, m *Machine, v store.Version, k store.Key) string {
	t.Helper()
	var out string
	err := m.View(v, func(s store.Snapshot) error {
		item, err := s.Get(k)
		out = string(item.Value)
		return err
	})
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		t.Fatal(err)
	}
	return out
}

func TestRepeatedSequenceGetsItsOutcome(t *testing.T) {
	dir := t.TempDir()
	m := testMachine(t, dir)
	tx := store.NewTx()
	tx.Append("l", []byte("leaf"))
	tx.Add("S/n", 5, 7, 0)
	entry := Entry{Seq: 1, Ops: tx.Ops()}
	first := apply(t, m, 10, group(1, 1, entry, Entry{Seq: 2, Ops: tx.Ops()}))
	if first[0].Code != Done || first[1].Code != Limit {
		t.Fatalf("outcomes %+v", first)
	}
	for life := range 2 { // also after it was closed and opened
		index := uint64(20 + life)
		again := apply(t, m, index, group(1, 1, entry, Entry{Seq: 2, Ops: tx.Ops()}))
		if fmt.Sprint(again) != fmt.Sprint(first) {
			t.Errorf("again %+v, first %+v", again, first)
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		m = testMachine(t, dir)
	}
	m.View(0, func(s store.Snapshot) error {
		if n, _ := s.Sum("S/n", 0); n != 5 || s.Log("l").Size() != 1 {
			t.Errorf("sum %d, log %d: it was applied twice", n, s.Log("l").Size())
		}
		return nil
	})
	// Once nobody may ask for it, it is refused, not applied.
	apply(t, m, 30, group(1, 3, Entry{Seq: 3}))
	if out := apply(t, m, 31, group(1, 3, entry)); out[0].Code != Refused {
		t.Errorf("an old sequence: %+v", out[0])
	}
	// So is everything of an earlier life, once there was a later one.
	apply(t, m, 32, group(2, 1, Entry{Seq: 1}))
	if out := apply(t, m, 33, group(1, 1, Entry{Seq: 99, Ops: put1("S/x", "x")})); out[0].Code != Refused {
		t.Errorf("an earlier life: %+v", out[0])
	}
	if v := get(t, m, 0, "S/x"); v != "" {
		t.Errorf("a refused transaction wrote %q", v)
	}
}

func TestOutcomesDoNotPileUp(t *testing.T) {
	m := testMachine(t, t.TempDir())
	for i := uint64(1); i <= 100; i++ {
		apply(t, m, i, group(1, i, Entry{Seq: i, Ops: put1("S/k", "v")}))
	}
	if n := len(m.sessions["n1"].records); n > 2 {
		t.Errorf("%d outcome records are kept where one may be asked for", n)
	}
}

func TestSequenceOutOfOrderIsNew(t *testing.T) {
	m := testMachine(t, t.TempDir())
	apply(t, m, 1, group(1, 1, Entry{Seq: 5, Ops: put1("S/five", "5")}))
	if out := apply(t, m, 2, group(1, 1, Entry{Seq: 3, Ops: put1("S/three", "3")})); out[0].Code != Done {
		t.Errorf("got %+v", out[0])
	}
	if get(t, m, 0, "S/three") != "3" {
		t.Error("it was not applied")
	}
}

// A replay from the mark writes the same bytes at the same version, over what a
// crash left above the mark.
func TestReplayIsTheSame(t *testing.T) {
	dir := t.TempDir()
	m := testMachine(t, dir)
	var entries [][]byte
	for i := uint64(1); i <= 50; i++ {
		tx := store.NewTx()
		tx.Put(store.Key(fmt.Sprintf("H/k/%d", i%7)), []byte(fmt.Sprint(i)))
		tx.Add("S/n", 1, store.NoLimit, 0)
		tx.Append("l", []byte(fmt.Sprint(i)))
		entries = append(entries, group(1, i, Entry{Seq: i, Ops: tx.Ops()}))
		apply(t, m, i, entries[i-1])
		if i == 20 {
			if err := m.Sync(); err != nil {
				t.Fatal(err)
			}
		}
	}
	version, _, chain := m.Head()
	old := m.cur.pair.Mark() // the sync's, not yet that of Close
	copied := t.TempDir()
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	setMark(t, copied, old) // as if the later sync had not been
	m = testMachine(t, copied)
	if m.Applied() != 20 {
		t.Fatalf("opened at %d", m.Applied())
	}
	if a, err := m.Apply(20, entries[19]); a != nil || err != nil {
		t.Errorf("what the mark covers was applied again: %v, %v", a, err)
	}
	for i := uint64(21); i <= 50; i++ {
		apply(t, m, i, entries[i-1])
	}
	if v, _, c := m.Head(); v != version || c != chain {
		t.Errorf("at %d the chain is %x, was %x at %d", v, c, chain, version)
	}
	m.View(0, func(s store.Snapshot) error {
		if n, _ := s.Sum("S/n", 0); n != 50 || s.Log("l").Size() != 50 {
			t.Errorf("sum %d, log %d", n, s.Log("l").Size())
		}
		return nil
	})
}

func setMark(t *testing.T, dir string, to kv.Mark) {
	t.Helper()
	v := disk.New(disk.Config{Dir: dir, MemtableBytes: 16 << 20, Logger: slog.New(slog.DiscardHandler)})
	p, err := v.Open(1)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.SetMark(to), p.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestChainDiffersWithWhatWasDecided(t *testing.T) {
	a, b := testMachine(t, t.TempDir()), testMachine(t, t.TempDir())
	same := group(1, 1, Entry{Seq: 1, Ops: put1("S/a", "a")})
	apply(t, a, 1, same)
	apply(t, b, 1, same)
	_, _, ca := a.Head()
	if _, _, cb := b.Head(); ca != cb {
		t.Error("equal groups give different chains")
	}
	tx := store.NewTx()
	tx.Add("S/n", 1, 10, 0)
	apply(t, a, 2, group(1, 2, Entry{Seq: 2, Ops: tx.Ops()}))
	tx = store.NewTx()
	tx.Add("S/n", 2, 10, 0)
	apply(t, b, 2, group(1, 2, Entry{Seq: 2, Ops: tx.Ops()}))
	_, _, ca = a.Head()
	if _, _, cb := b.Head(); ca == cb {
		t.Error("different sums give the same chain")
	}
}

func TestTimeNeverGoesBack(t *testing.T) {
	m := testMachine(t, t.TempDir())
	late := Group{Time: time.Unix(2000, 0)}
	early := Group{Time: time.Unix(1000, 0)}
	if _, err := m.Apply(1, late.AppendTo(nil)); err != nil {
		t.Fatal(err)
	}
	a, err := m.Apply(2, early.AppendTo(nil))
	if err != nil || !a.Time.Equal(late.Time) {
		t.Errorf("time %v, %v", a.Time, err)
	}
}

func TestUnknownOperationStops(t *testing.T) {
	m := testMachine(t, t.TempDir())
	bad := group(1, 1, Entry{Seq: 1, Ops: []store.Op{{Kind: 9, Key: "S/a"}}})
	if _, err := m.Apply(1, bad); err == nil {
		t.Fatal("an unknown operation was skipped")
	}
	if _, err := m.Apply(2, group(1, 1, Entry{Seq: 1, Ops: put1("S/a", "a")})); err == nil {
		t.Error("it went on after an error")
	}
	if m.Applied() != 0 {
		t.Errorf("applied %d", m.Applied())
	}
}

// The widest group that the former can make fits into a Badger transaction.
func TestWidestGroupFits(t *testing.T) {
	m := testMachine(t, t.TempDir())
	for i := range uint64(3) { // later ones find full frontiers
		var entries []Entry
		size := 0
		for n := 0; size < MaxGroupBytes-store.MaxTxOps*20; n++ {
			tx := store.NewTx()
			for j := range store.MaxTxOps / 2 {
				tx.Append(fmt.Sprint("log", j%MaxGroupLogs), nil)
				tx.Put(store.Key(fmt.Sprintf("S/%d", n*1000+j)), nil)
			}
			size += tx.Bytes()
			entries = append(entries, Entry{Seq: i*1000 + uint64(n) + 1, Ops: tx.Ops()})
		}
		for _, o := range apply(t, m, i+1, group(1, 1, entries...)) {
			if o.Code != Done {
				t.Fatalf("outcome %+v", o)
			}
		}
	}
	big := store.NewTx()
	for i := range 4 {
		big.Put(store.Key(fmt.Sprint("H/", i)), []byte(strings.Repeat("x", 60000)))
	}
	apply(t, m, 9, group(1, 1, Entry{Seq: 9999, Ops: big.Ops()}))
}

// staged returns a machine with some past and what Stage wrote of it.
func staged(t *testing.T) (*Machine, []byte) {
	m := testMachine(t, t.TempDir())
	for i := uint64(1); i <= 300; i++ {
		tx := store.NewTx()
		tx.Put(store.Key(fmt.Sprintf("H/k/%d", i%7)), []byte(fmt.Sprint(i)))
		if i%10 == 0 {
			tx.Delete("H/k/3")
		}
		tx.Put("S/s", []byte(fmt.Sprint(i)))
		tx.Add("S/n", 1, store.NoLimit, 0)
		tx.Append("l", []byte(fmt.Sprint(i)))
		apply(t, m, i, group(1, i, Entry{Seq: i, Ops: tx.Ops()}))
	}
	var b bytes.Buffer
	if v, err := m.Stage(t.Context(), &b); err != nil || v != 300 {
		t.Fatal(v, err)
	}
	return m, b.Bytes()
}

// dump spells what a machine holds at some versions.
func dump(t *testing.T, m *Machine) string {
	t.Helper()
	var out strings.Builder
	for _, at := range []store.Version{100, 101, 300} {
		err := m.View(at, func(s store.Snapshot) error {
			for item, err := range s.Scan("", "") {
				fmt.Fprintln(&out, item, err)
			}
			root, err := s.Log("l").Root()
			n, _ := s.Sum("S/n", 0)
			fmt.Fprintln(&out, at, s.Time(), s.Log("l").Size(), root, n)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out.String()
}

func TestRestoredIsWhatWasStaged(t *testing.T) {
	m, snapshot := staged(t)
	want := dump(t, m)
	dir := t.TempDir()
	other := testMachine(t, dir)
	apply(t, other, 5, group(1, 1, Entry{Seq: 1, Ops: put1("H/other", "x")}))
	if err := other.Restore(bytes.NewReader(snapshot), 400); err != nil {
		t.Fatal(err)
	}
	check := func(m *Machine) {
		t.Helper()
		if got := dump(t, m); got != want {
			t.Errorf("restored:\n%s\nstaged:\n%s", got, want)
		}
		if v := get(t, m, 0, "H/other"); v != "" {
			t.Errorf("what was there before is still there: %q", v)
		}
		var versions []store.Version
		for c, err := range m.Watch(t.Context(), "H/k/", 290) {
			if err != nil {
				t.Fatal(err)
			}
			if versions = append(versions, c.Version); len(versions) == 10 {
				break
			}
		}
		if versions[0] != 291 || versions[9] != 300 {
			t.Errorf("watch gave %v", versions)
		}
	}
	if other.Applied() != 400 {
		t.Errorf("applied %d", other.Applied())
	}
	check(other)
	// It remembers whom it answered.
	if out := apply(t, other, 401, group(1, 300, Entry{Seq: 300, Ops: put1("H/k/1", "twice")})); out[0].Version != 300 {
		t.Errorf("a repeated sequence after the restore: %+v", out[0])
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	check(testMachine(t, dir))
}

func TestAnOpenViewOutlivesARestore(t *testing.T) {
	_, snapshot := staged(t)
	m := testMachine(t, t.TempDir())
	apply(t, m, 5, group(1, 1, Entry{Seq: 1, Ops: put1("H/other", "x")}))
	err := m.View(0, func(s store.Snapshot) error {
		if err := m.Restore(bytes.NewReader(snapshot), 400); err != nil {
			return err
		}
		item, err := s.Get("H/other")
		if string(item.Value) != "x" {
			t.Errorf("an open view lost its data: %q", item.Value)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestADamagedSnapshotIsRefused(t *testing.T) {
	_, snapshot := staged(t)
	for name, b := range map[string][]byte{
		"cut short": snapshot[:len(snapshot)-40],
		"changed":   bytes.Replace(snapshot, []byte("H/k/5"), []byte("H/k/6"), 1),
		"empty":     nil,
	} {
		bad := testMachine(t, t.TempDir())
		if err := bad.Restore(bytes.NewReader(b), 400); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
		if bad.Applied() != 0 {
			t.Errorf("%s: it was taken over", name)
		}
	}
	var meta bytes.Buffer
	if err := WriteMetadata(&meta); err != nil {
		t.Fatal(err)
	}
	if err := testMachine(t, t.TempDir()).Restore(&meta, 1); !errors.Is(err, ErrNoData) {
		t.Errorf("metadata: %v", err)
	}
}

func TestRetentionKeepsWhatIsRead(t *testing.T) {
	r := newRetention(time.Minute, kv.Mark{}, 0)
	at := func(v store.Version, s int) header { return header{version: v, time: time.Unix(int64(s), 0)} }
	for i := 1; i <= 200; i++ {
		r.note(at(store.Version(i), i))
	}
	r.floor = 130
	m := r.next(kv.Mark{Index: 180}, at(200, 200))
	if m.State < 135 || m.State > 140 || m.History != 130 {
		t.Errorf("nobody reads: %+v", m)
	}
	r.floor = 150
	if m = r.next(m, at(200, 200)); m.History != m.State {
		t.Errorf("the headers of what state keeps may be gone: %+v", m)
	}
	if r.low(store.State) != store.Version(m.State) || r.low(store.History) != 150 {
		t.Errorf("low %d, %d", r.low(store.State), r.low(store.History))
	}
	r = newRetention(time.Minute, kv.Mark{}, 0)
	for i := 1; i <= 200; i++ {
		r.note(at(store.Version(i), i))
	}
	r.floor, r.readers[42] = 150, 1
	if m := r.next(kv.Mark{Index: 180}, at(200, 200)); m.State != 42 || m.History != 42 {
		t.Errorf("passed an open view at 42: %+v", m)
	}
	r.readers, r.granted = map[store.Version]int{}, kv.Mark{}
	if m := r.next(kv.Mark{Index: 30}, at(200, 200)); m.State != 30 || m.History != 30 {
		t.Errorf("passed the durable mark: %+v", m)
	}
}

func TestStateForgetsAndSaysSo(t *testing.T) {
	m := testMachine(t, t.TempDir())
	for i := uint64(1); i <= 20; i++ {
		g := Group{
			Time: time.Unix(int64(i)*60, 0), Origins: []Origin{{Node: "n1", Boot: 1, Lowest: i}},
			Entries: []Entry{{Seq: i, Ops: append(put1("S/k", fmt.Sprint(i)), put1("H/k", fmt.Sprint(i))...)}},
		}
		apply(t, m, i, g.AppendTo(nil))
	}
	if err := m.Sync(); err != nil {
		t.Fatal(err)
	}
	if v := get(t, m, 2, "H/k"); v != "2" {
		t.Errorf("history at 2: %q", v)
	}
	if v := get(t, m, 18, "S/k"); v != "18" {
		t.Errorf("state at 18: %q", v)
	}
	err := m.View(2, func(s store.Snapshot) error { _, err := s.Get("S/k"); return err })
	if !errors.Is(err, store.ErrCompacted) {
		t.Errorf("state at 2: %v", err)
	}
	m.mu.Lock()
	m.ring = ring{limit: 1, after: m.head.version}
	m.mu.Unlock()
	for _, err := range m.Watch(t.Context(), "S/", 2) {
		if !errors.Is(err, store.ErrCompacted) {
			t.Errorf("watch of state from 2: %v", err)
		}
		break
	}
}

func TestWatchCatchesUpInPasses(t *testing.T) {
	m := testMachine(t, t.TempDir())
	const groups = 60
	for i := uint64(1); i <= groups; i++ {
		tx := store.NewTx()
		for j := range 3 {
			tx.Put(store.Key(fmt.Sprintf("H/k/%d/%d", (i*37)%11, j)), bytes.Repeat([]byte{byte(i)}, 60000))
		}
		apply(t, m, i, group(1, i, Entry{Seq: i, Ops: tx.Ops()}))
	}
	m.mu.Lock()
	m.ring = ring{limit: 1, after: m.head.version}
	m.mu.Unlock()
	if _, reached, err := m.collect("H/k/", 0, groups); err != nil || reached == groups {
		t.Fatalf("one pass reached %d, %v: the test does not test", reached, err)
	}
	next := store.Version(1)
	for c, err := range m.Watch(t.Context(), "H/k/", 0) {
		if err != nil || c.Version != next || len(c.Writes) != 3 || c.Writes[0].Value[0] != byte(next) {
			t.Fatalf("change %d with %d writes, %v; want %d", c.Version, len(c.Writes), err, next)
		}
		if next++; next > groups {
			break
		}
	}
}

func TestVersionAt(t *testing.T) {
	m := testMachine(t, t.TempDir())
	for i := uint64(1); i <= 20; i++ {
		g := Group{Time: time.Unix(int64(i)*60, 0)}
		if _, err := m.Apply(i*10, g.AppendTo(nil)); err != nil {
			t.Fatal(err)
		}
	}
	for at, want := range map[int64]store.Version{0: 0, 59: 0, 60: 10, 61: 10, 599: 90, 600: 100, 1200: 200, 9999: 200} {
		if v, err := m.VersionAt(time.Unix(at, 0)); v != want || err != nil {
			t.Errorf("at second %d: version %d, %v; want %d", at, v, err, want)
		}
	}
}
