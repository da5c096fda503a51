package sim

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cloister-os/cloister/store"
)

// look compares what a member shows of some version with the model.
func (w *machines) look(m *member) {
	top := m.machine.Applied()
	v := store.Version(0)
	if top > 0 && w.Rand.IntN(2) == 0 {
		v = 1 + store.Version(w.Rand.Uint64N(uint64(top)))
	}
	err := m.machine.View(v, func(s store.Snapshot) error { return w.compare(m, s, top) })
	w.excused(m, v, top, err)
}

// lookLong is look with other things done while the view is open, and again
// after them.
func (w *machines) lookLong(m *member) {
	top := m.machine.Applied()
	machine := m.machine
	m.open++
	err := machine.View(0, func(s store.Snapshot) error {
		if err := w.compare(m, s, top); err != nil {
			return err
		}
		for range w.Rand.IntN(12) {
			w.act(w.members[w.Rand.IntN(len(w.members))])
		}
		if m.machine != machine {
			return nil // its process ended meanwhile
		}
		return w.compare(m, s, top)
	})
	m.open--
	w.excused(m, top, top, err)
}

// excused fails the run unless the error is one that a view of v may have when
// top is the newest.
func (w *machines) excused(m *member, v, top store.Version, err error) {
	if err == nil {
		return
	}
	if errors.Is(err, store.ErrCompacted) && v != 0 && v < w.lowest(top) {
		return
	}
	w.Fatalf("%s: view of %d at %d: %v", m.name, v, top, err)
}

// lowest is the lowest version that history must be readable at.
func (w *machines) lowest(top store.Version) store.Version {
	item, err := w.model.Snapshot(top).Get(store.RetentionFloor)
	if err != nil {
		return 0
	}
	n, _ := store.ParseNumber(string(item.Value))
	return store.Version(n)
}

var errDiffers = errors.New("it differs from the model")

// compare spells a snapshot and its version in the model.
func (w *machines) compare(m *member, s store.Snapshot, top store.Version) error {
	model := w.model.Snapshot(s.Version())
	recent := w.model.Snapshot(top).Time().Sub(model.Time()) < stateKeep
	got, err := spell(s, true)
	state := true
	if errors.Is(err, store.ErrCompacted) && s.Version() < top && !recent {
		state = false
		got, err = spell(s, false)
	}
	if err != nil {
		return err
	}
	want, err := spell(model, state)
	if err != nil {
		return err
	}
	if got != want {
		w.Logf("%s shows at %d:\n%s\nthe model:\n%s", m.name, s.Version(), got, want)
		w.Logf("%s", differ(got, want))
		return errDiffers
	}
	return nil
}

// watch follows a member's changes for a while, from where it had come.
func (w *machines) watch(m *member) {
	top := m.machine.Applied()
	if m.watched >= top {
		return
	}
	prefix := []store.Key{"", "H/", "S/", "H/k/1"}[w.Rand.IntN(4)]
	want := w.model.Changes(prefix, m.watched, top)
	if len(want) == 0 {
		m.watched = top
		return
	}
	for c, err := range m.machine.Watch(context.Background(), prefix, m.watched) {
		if errors.Is(err, store.ErrCompacted) {
			w.compacted(m, prefix, top)
			return
		}
		if err != nil {
			w.Fatalf("%s: watch %q from %d: %v", m.name, prefix, m.watched, err)
		}
		if got, want := change(c), change(want[0]); got != want {
			w.Fatalf("%s: watch %q from %d of %d gives %s, the model %s", m.name, prefix, m.watched, top, got, want)
		}
		m.watched = c.Version
		if want = want[1:]; len(want) == 0 {
			break
		}
	}
	m.watched = top
}

// compacted checks that a watch could not begin where it was asked to, and goes
// on from the newest version, as one does after a scan.
func (w *machines) compacted(m *member, prefix store.Key, top store.Version) {
	history := strings.HasPrefix(string(prefix), "H")
	recent := w.model.Snapshot(top).Time().Sub(w.model.Snapshot(m.watched).Time()) < stateKeep
	if m.watched >= w.lowest(top) && (history || recent) {
		w.Fatalf("%s: watch %q from %d of %d says that it is compacted", m.name, prefix, m.watched, top)
	}
	m.watched = top
}

func change(c store.Change) string {
	return fmt.Sprintf("%d at %d: %v", c.Version, c.Time.UnixNano(), c.Writes)
}

// end lets every member reach the end of the log on a disk that works, and
// compares everything.
func (w *machines) end() {
	for _, m := range w.members {
		m.disk.Fail = nil
		m.disk.CutAfter(0)
		w.apply(m, len(w.log))
		w.sync(m)
		w.whole(m)
	}
	v, _, chain := w.members[0].machine.Head()
	want := w.members[0].disk.Spell(uint64(v))
	for _, m := range w.members {
		if got, _, c := m.machine.Head(); got != v || c != chain {
			w.Failf("%s ends at %d with chain %x, %s at %d with %x", m.name, got, c, w.members[0].name, v, chain)
		}
		if got := m.disk.Spell(uint64(v)); got != want {
			w.Failf("%s holds other bytes than %s: %s", m.name, w.members[0].name, differ(got, want))
		}
		if s := m.disk.Differs(); s != "" {
			w.Failf("%s: a replay wrote other bytes: %s", m.name, s)
		}
		w.must(m.machine.Close(), "close")
	}
}

// whole compares a member with the model at many versions, and proves that its
// logs only grew.
func (w *machines) whole(m *member) {
	top := m.machine.Applied()
	if top != w.model.Applied() {
		w.Fatalf("%s ends at %d, the model at %d", m.name, top, w.model.Applied())
	}
	var size [logNames]uint64
	var root [logNames][32]byte
	for v := store.Version(1); v <= top; v += 1 + store.Version(w.Rand.Uint64N(uint64(top)/4+1)) {
		err := m.machine.View(v, func(s store.Snapshot) error {
			for i := range logNames {
				l := s.Log(logName(i))
				if err := consistent(l, size[i], root[i]); err != nil {
					return fmt.Errorf("log %d is no continuation of what it was: %w", i, err)
				}
				size[i] = l.Size()
				var err error
				if root[i], err = l.Root(); err != nil {
					return err
				}
			}
			return w.compare(m, s, top)
		})
		w.excused(m, v, top, err)
	}
	err := m.machine.View(0, func(s store.Snapshot) error { return w.compare(m, s, top) })
	w.excused(m, 0, top, err)
	w.times(m, top)
}

// times compares VersionAt with the model.
func (w *machines) times(m *member, top store.Version) {
	for range 5 {
		v := 1 + store.Version(w.Rand.Uint64N(uint64(top)+1))
		at := w.model.Snapshot(min(v, top)).Time().Add(time.Duration(w.Rand.IntN(3)-1) * time.Second)
		got, err := m.machine.VersionAt(at)
		if err != nil {
			w.Fatalf("%s: the version at %v: %v", m.name, at, err)
		}
		want := top
		for want > 0 && (w.log[want-1] == nil || w.model.Snapshot(want).Time().After(at)) {
			want--
		}
		if want < w.lowest(top) {
			want = got // it is no longer kept
		}
		if got != want {
			w.Fatalf("%s: version %d was made at or before %v, it says %d", m.name, want, at, got)
		}
	}
}
