package machine

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cloister-os/cloister/store"
)

func raise(format uint64) []store.Op { return put1(store.ClusterFormat, store.Number(format)) }

// TestAProgramThatIsLeftBehindStops before it keeps anything of the group, so that
// the newer program goes on where it stopped.
func TestAProgramThatIsLeftBehindStops(t *testing.T) {
	dir := t.TempDir()
	m := testMachine(t, dir)
	if m.Format() != 1 {
		t.Errorf("a new cluster works at format %d", m.Format())
	}
	apply(t, m, 1, group(1, 1, Entry{Seq: 1, Ops: raise(store.Format)}))
	if m.Format() != store.Format {
		t.Errorf("format %d", m.Format())
	}
	if err := m.Sync(); err != nil {
		t.Fatal(err)
	}
	_, err := m.Apply(2, group(1, 2, Entry{Seq: 2, Ops: raise(store.Format + 1)}))
	if !errors.Is(err, store.ErrFormat) || !strings.Contains(err.Error(), "install the newer program") {
		t.Fatalf("got %v", err)
	}
	if _, err := m.Apply(3, group(1, 3, Entry{Seq: 3, Ops: put1("H/a", "1")})); err == nil {
		t.Error("it goes on")
	}
	if m.Applied() != 1 {
		t.Errorf("it kept version %d", m.Applied())
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if m = testMachine(t, dir); m.Format() != store.Format || m.Applied() != 1 {
		t.Errorf("opened again: format %d, version %d", m.Format(), m.Applied())
	}
}

// TestGroupsSayWhoLed from the format on that has it; what came before says nothing.
func TestGroupsSayWhoLed(t *testing.T) {
	dir := t.TempDir()
	m := testMachine(t, dir)
	apply(t, m, 1, group(1, 1, Entry{Seq: 1, Ops: raise(store.FormatLeader)}))
	g := Group{Time: time.Unix(5, 0), Leader: "n7", Origins: []Origin{{Node: "n1", Boot: 1, Lowest: 2}}, Entries: []Entry{{Seq: 2, Ops: put1("H/a", "1")}}}
	apply(t, m, 2, g.AppendTo(nil))
	again, err := DecodeGroup(g.AppendTo(nil))
	if err != nil || again.Leader != "n7" || len(again.Entries) != 1 {
		t.Errorf("%+v, %v", again, err)
	}
	for v, want := range map[store.Version]string{1: "", 2: "n7"} {
		if led, err := m.Led(v); err != nil || led != want {
			t.Errorf("version %d was led by %q, %v", v, led, err)
		}
	}
	b := g.AppendTo(nil)
	if _, err := DecodeGroup(b[:len(b)-1]); err == nil {
		t.Error("a cut group is read")
	}
	g.Leader = ""
	short := append(appendUint(appendArray(nil, 4), groupLed), g.AppendTo(nil)[2:]...)
	if _, err := DecodeGroup(short); err == nil {
		t.Error("a group of the second version without its leader is read")
	}
}

func TestAFormatIsNeitherTakenBackNorNonsense(t *testing.T) {
	gone := store.NewTx()
	gone.Delete(store.ClusterFormat)
	for name, ops := range map[string][]store.Op{"deleted": gone.Ops(), "nonsense": put1(store.ClusterFormat, "two"), "0": raise(0)} {
		m := testMachine(t, t.TempDir())
		if _, err := m.Apply(1, group(1, 1, Entry{Seq: 1, Ops: ops})); err == nil {
			t.Errorf("%s is applied", name)
		}
	}
}

// TestDataOfANewerFormatIsNotOpened: the folder of a cluster that was finalised,
// given to the old program.
func TestDataOfANewerFormatIsNotOpened(t *testing.T) {
	if _, err := decodeFormat([]byte(store.Number(store.Format + 1))); err != nil {
		t.Fatal(err)
	}
	if err := store.CheckFormat(store.Format + 1); !errors.Is(err, store.ErrFormat) {
		t.Errorf("got %v", err)
	}
}

func TestAGroupOfANewerVersionIsRefusedWithASentence(t *testing.T) {
	b := group(1, 1, Entry{Seq: 1, Ops: put1("H/a", "1")})
	newer := append(appendUint(appendArray(nil, 9), groupLed+1), b[2:]...)
	if _, err := DecodeGroup(newer); !errors.Is(err, store.ErrFormat) || !strings.Contains(err.Error(), "install the newer program") {
		t.Errorf("got %v", err)
	}
}
