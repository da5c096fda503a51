package machine

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/storetest/memory"
)

// Each of these is a bug that was found once, most of them by storetest/sim.

// minutes is a machine in memory that lives a minute a group.
type minutes struct {
	*testing.T
	*Machine
	index uint64
}

func newMinutes(t *testing.T) *minutes {
	m, err := Open(Config{Volume: memory.New(rand.New(rand.NewPCG(1, 1))).Volume(), StateKeep: 5 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return &minutes{T: t, Machine: m}
}

func (m *minutes) put(ops ...store.Op) {
	m.Helper()
	m.index++
	g := Group{
		Time: time.Unix(int64(m.index)*60, 0), Origins: []Origin{{Node: "n1", Boot: 1, Lowest: m.index}},
		Entries: []Entry{{Seq: m.index, Ops: ops}},
	}
	apply(m.T, m.Machine, m.index, g.AppendTo(nil))
}

func floorAt(v uint64) []store.Op { return put1(store.RetentionFloor, store.Number(v)) }

// The sequences of a group were taken to grow. Two nodes' retries can bring them
// in any order, and then the second of a pair was applied again.
func TestASequenceTwiceInAGroupOutOfOrderIsAppliedOnce(t *testing.T) {
	m := testMachine(t, t.TempDir())
	tx := store.NewTx()
	tx.Append("l", []byte("leaf"))
	out := apply(t, m, 1, group(1, 1, Entry{Seq: 5, Ops: tx.Ops()}, Entry{Seq: 3}, Entry{Seq: 5, Ops: tx.Ops()}))
	if out[2].Code != Refused {
		t.Errorf("the second is %+v", out[2])
	}
	m.View(0, func(s store.Snapshot) error {
		if n := s.Log("l").Size(); n != 1 {
			t.Errorf("applied %d times", n)
		}
		return nil
	})
}

// The time of a version of state stands in history, which was let go of up to the
// retention floor even where state was still kept.
func TestChangesOfStateKeepTheirTimeBelowTheRetentionFloor(t *testing.T) {
	m := newMinutes(t)
	for range 20 {
		m.put(put1("S/k", "v")...)
	}
	m.put(floorAt(20)...)
	if err := m.Sync(); err != nil {
		t.Fatal(err)
	}
	m.timed(m.Machine, 17)
	// Nor may a snapshot claim less of the past than it carries.
	var b bytes.Buffer
	v, err := m.Stage(t.Context(), &b)
	if err != nil {
		t.Fatal(err)
	}
	other := newMinutes(t)
	if err := other.Restore(&b, v); err != nil {
		t.Fatal(err)
	}
	m.timed(other.Machine, 17)
}

// timed checks the first change of state after a version as the databases show it.
func (m *minutes) timed(on *Machine, from store.Version) {
	m.Helper()
	on.mu.Lock()
	on.ring = ring{limit: 1, after: on.head.version}
	on.mu.Unlock()
	for c, err := range on.Watch(m.Context(), "S/", from) {
		if err != nil || c.Version != from+1 || c.Time.Unix() != int64(from+1)*60 {
			m.Errorf("change %d at %v, %v", c.Version, c.Time, err)
		}
		break
	}
}

// A stage holds what is kept when it begins; only its newest version was
// protected from being let go of while it was written, so it could lack versions
// that it claims to have.
func TestNothingIsDiscardedUnderAStage(t *testing.T) {
	m := newMinutes(t)
	for i := range 10 {
		m.put(put1("H/k", string(rune('a'+i)))...)
	}
	f, err := m.Freeze()
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		m.put(put1("S/k", "v")...)
	}
	m.put(floorAt(9)...)
	if err := m.Sync(); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := f.Stage(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	f.Close()
	other := newMinutes(t)
	if err := other.Restore(&b, f.Version()); err != nil {
		t.Fatal(err)
	}
	for v := store.Version(1); v <= 10; v++ {
		if got := get(t, other.Machine, v, "H/k"); got != string(rune('a'+v-1)) {
			t.Errorf("at %d: %q", v, got)
		}
	}
}
