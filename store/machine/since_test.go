package machine

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cloister-os/cloister/store"
)

// link is one stage of a chain.
type link struct {
	head  Head
	parts [2]Part
	bytes [2]bytes.Buffer
}

func stageSince(t *testing.T, m *Machine, since store.Version) *link {
	t.Helper()
	l := &link{}
	var err error
	l.head, l.parts, err = m.StageSince(t.Context(), since, func(db store.Database) (io.Writer, error) {
		if db == store.State {
			return &l.bytes[0], nil
		}
		return &l.bytes[1], nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// composed joins a chain, leaving out what a later whole part replaces.
func composed(t *testing.T, chain []*link, extra ...Extra) []byte {
	t.Helper()
	var parts []PartReader
	var sizes []Part
	for db := range 2 {
		first := 0
		for i, l := range chain {
			if l.parts[db].Whole {
				first = i
			}
		}
		for _, l := range chain[first:] {
			if err := CheckPart(Databases()[db], PartReader{l.parts[db], bytes.NewReader(l.bytes[db].Bytes())}); err != nil {
				t.Fatal(err)
			}
			parts = append(parts, PartReader{l.parts[db], bytes.NewReader(l.bytes[db].Bytes())})
			sizes = append(sizes, l.parts[db])
		}
	}
	var b bytes.Buffer
	head := chain[len(chain)-1].head
	if err := Compose(&b, head, parts, extra); err != nil {
		t.Fatal(err)
	}
	if want := ComposedSize(head, sizes, extra); int64(b.Len()) != want {
		t.Fatalf("%d bytes, expected %d", b.Len(), want)
	}
	return b.Bytes()
}

// TestAChainOfStagesIsTheWhole changes and deletes keys of both databases at
// random, stages in between, and restores each chain.
func TestAChainOfStagesIsTheWhole(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			m := testMachine(t, t.TempDir())
			var chain []*link
			since := store.Version(0)
			index := uint64(10)
			for range 4 {
				for range 60 {
					tx := store.NewTx()
					k := store.Key(fmt.Sprintf("%c/k%d", "SH"[random.IntN(2)], random.IntN(25)))
					if random.IntN(3) == 0 {
						tx.Delete(k)
					} else {
						tx.Put(k, fmt.Appendf(nil, "%d", index))
					}
					tx.Append("l", fmt.Appendf(nil, "leaf %d", index))
					index += 1 + random.Uint64N(3)
					apply(t, m, index, group(1, index, Entry{Seq: index, Ops: tx.Ops()}))
				}
				if random.IntN(2) == 0 {
					if err := m.Sync(); err != nil {
						t.Fatal(err)
					}
				}
				l := stageSince(t, m, since)
				chain, since = append(chain, l), l.head.Version
				other := testMachine(t, t.TempDir())
				if err := other.Restore(bytes.NewReader(composed(t, chain)), since+7); err != nil {
					t.Fatal(err)
				}
				if got, want := dump(t, other), dump(t, m); got != want {
					t.Fatalf("after %d links:\n got %s\nwant %s", len(chain), got, want)
				}
			}
			if chain[2].parts[1].Whole || chain[2].bytes[1].Len() >= chain[0].bytes[1].Len()*3 {
				t.Errorf("the history of the third link: %+v, of the first %+v", chain[2].parts[1], chain[0].parts[1])
			}
		})
	}
}

// TestWhatForgotDeletesIsStagedWhole: a delete that a database has let go of
// would come back from a chain that has only what is newer.
func TestWhatForgotDeletesIsStagedWhole(t *testing.T) {
	m := testMachine(t, t.TempDir())
	at := func(index uint64, minute int, ops []store.Op) {
		g := Group{Time: time.Unix(int64(60*minute), 0), Origins: []Origin{{Node: "n", Boot: 1, Lowest: index}}, Entries: []Entry{{Seq: index, Ops: ops}}}
		apply(t, m, index, g.AppendTo(nil))
	}
	at(1, 0, put1("S/a", "1"))
	at(2, 0, put1("S/b", "1"))
	first := stageSince(t, m, 0)
	gone := store.NewTx()
	gone.Delete("S/a")
	at(3, 1, gone.Ops())
	at(4, 20, put1("S/c", "1"))
	at(5, 40, put1("S/d", "1"))
	if err := m.Sync(); err != nil {
		t.Fatal(err)
	}
	second := stageSince(t, m, first.head.Version)
	if !second.parts[0].Whole || second.parts[1].Whole {
		t.Fatalf("parts %+v", second.parts)
	}
	other := testMachine(t, t.TempDir())
	if err := other.Restore(bytes.NewReader(composed(t, []*link{first, second}, Extra{"H/x", []byte("extra")})), 5); err != nil {
		t.Fatal(err)
	}
	if got := get(t, other, 0, "S/a") + get(t, other, 0, "S/b") + get(t, other, 0, "H/x"); got != "1extra" {
		t.Errorf("got %q", got)
	}
}

func TestAStageSinceTheFutureIsRefused(t *testing.T) {
	m := testMachine(t, t.TempDir())
	apply(t, m, 1, group(1, 1, Entry{Seq: 1, Ops: put1("S/a", "1")}))
	_, _, err := m.StageSince(t.Context(), 9, func(store.Database) (io.Writer, error) { return io.Discard, nil })
	if !errors.Is(err, store.ErrInvalid) {
		t.Errorf("got %v", err)
	}
	l := stageSince(t, m, 0)
	for _, b := range [][]byte{l.bytes[1].Bytes()[:l.bytes[1].Len()-1], append(bytes.Clone(l.bytes[1].Bytes()), 0), nil} {
		if err := CheckPart(store.History, PartReader{l.parts[1], bytes.NewReader(b)}); !errors.Is(err, ErrDamaged) {
			t.Errorf("a part of %d bytes instead of %d: %v", len(b), l.bytes[1].Len(), err)
		}
	}
}
