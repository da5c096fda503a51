package consensus_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/consensus"
)

func apply(t *testing.T, n *consensus.Node, k store.Key, v string) store.Version {
	t.Helper()
	tx := store.NewTx()
	tx.Put(k, []byte(v))
	tx.Append("l", []byte(v))
	res, err := n.Apply(t.Context(), tx)
	if err != nil {
		t.Fatal(err)
	}
	return res.Version
}

// follow reads changes of H/ from a version on until it has seen the last one.
func follow(t *testing.T, n *consensus.Node, from, last store.Version) (seen []string) {
	t.Helper()
	for c, err := range n.Watch(t.Context(), "H/", from) {
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range c.Writes {
			seen = append(seen, string(w.Value))
		}
		if c.Version >= last {
			break
		}
	}
	return seen
}

// Watch goes on over restarts, snapshots and a restore without gap or repeat.
func TestWatchResumes(t *testing.T) {
	dir := t.TempDir()
	cfg := consensus.Config{Dir: dir, SyncEvery: 10 * time.Millisecond, SnapshotEntries: 5}
	n := open(t, cfg)
	var last, seen store.Version
	var got []string
	next := 0
	write := func(many int) {
		for range many {
			last = apply(t, n, store.Key(fmt.Sprint("H/", next%10)), fmt.Sprint(next))
			next++
		}
	}
	read := func() {
		got = append(got, follow(t, n, seen, last)...)
		seen = last
	}
	write(20)
	read()
	write(20)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n = open(t, cfg)
	read()
	write(20)
	var backup bytes.Buffer
	if v, err := n.Stage(t.Context(), &backup); err != nil || v != last {
		t.Fatal(v, last, err)
	}
	if err := n.Restore(t.Context(), bytes.NewReader(backup.Bytes()), int64(backup.Len())); err != nil {
		t.Fatal(err)
	}
	read()
	write(20)
	read()
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n = open(t, cfg)
	write(1)
	read()
	for i, v := range got {
		if v != fmt.Sprint(i) {
			t.Fatalf("change %d is %s: %v", i, v, got)
		}
	}
	if len(got) != next {
		t.Errorf("%d changes of %d", len(got), next)
	}
}

// What was restored elsewhere keeps its versions; what follows gets higher ones.
func TestRestoreElsewhere(t *testing.T) {
	n := open(t, consensus.Config{Dir: t.TempDir()})
	var versions []store.Version
	for i := range 10 {
		versions = append(versions, apply(t, n, "H/k", fmt.Sprint(i)))
	}
	var backup bytes.Buffer
	if _, err := n.Stage(t.Context(), &backup); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	other := open(t, consensus.Config{Dir: dir})
	apply(t, other, "H/other", "x")
	if err := other.Restore(t.Context(), &backup, int64(backup.Len())); err != nil {
		t.Fatal(err)
	}
	check := func(n *consensus.Node, at store.ReadAt, want string) {
		t.Helper()
		err := n.View(t.Context(), at, func(s store.Snapshot) error {
			item, err := s.Get("H/k")
			if string(item.Value) != want {
				t.Errorf("at %d: %q, want %q", at, item.Value, want)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	check(other, store.At(versions[3]), "3")
	check(other, store.Fresh, "9")
	if v := apply(t, other, "H/k", "after"); v <= versions[9] {
		t.Errorf("version %d after the restored %d", v, versions[9])
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	other = open(t, consensus.Config{Dir: dir})
	check(other, store.Fresh, "after")
	check(other, store.At(versions[3]), "3")
	apply(t, other, "H/k", "later")
}

func TestRetainMovesTheFloor(t *testing.T) {
	n := open(t, consensus.Config{Dir: t.TempDir(), Retention: time.Nanosecond})
	old := apply(t, n, "H/k", "old")
	for range 3 {
		apply(t, n, "H/k", "new")
	}
	if err := n.Retain(t.Context()); err != nil {
		t.Fatal(err)
	}
	err := n.View(t.Context(), store.At(old), func(store.Snapshot) error { return nil })
	if !errors.Is(err, store.ErrCompacted) {
		t.Errorf("below the floor: %v", err)
	}
	if err := n.Retain(t.Context()); err != nil {
		t.Errorf("again: %v", err)
	}
}
