package audit

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"iter"
	"strings"
	"testing"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/audit/proof"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/machine"
	"github.com/cloister-os/cloister/store/storetest"
)

func opening(before []byte) EpochCause {
	return EpochCause{How: proof.HowRestored, From: "20261123T120000Z-v9", By: Actor{Kind: auth.User, ID: "op"}, Reason: "the disks burnt", Before: before}
}

func pend(t *testing.T, s store.Store, o EpochCause) {
	t.Helper()
	k, v, err := PendingEpoch(o)
	if err != nil {
		t.Fatal(err)
	}
	tx := store.NewTx()
	tx.Put(k, v)
	if _, err := s.Apply(t.Context(), tx); err != nil {
		t.Fatal(err)
	}
}

func refused(t *testing.T, l *Log, after []byte) *proof.Problem {
	t.Helper()
	b := export(t, l, Range{}, nil)
	_, err := proof.Verify(bytes.NewReader(b), int64(len(b)), proof.Options{LogKey: l.Fingerprint(), After: after})
	var p *proof.Problem
	if err != nil && !errors.As(err, &p) {
		t.Fatal(err)
	}
	return p
}

// TestARestoreOpensAnEpoch takes the whole road: a node is staged, goes on, and is
// restored; what an auditor took away in between says what was lost.
func TestARestoreOpensAnEpoch(t *testing.T) {
	n := openStore(t, t.TempDir())
	defer n.Close()
	l := openLog(t, n, newKey(t, "k"))
	fill(t, n, 0, 400)
	early, err := l.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var parts [2]bytes.Buffer
	head, staged, err := n.StageSince(t.Context(), 0, func(db store.Database) (io.Writer, error) {
		if db == store.State {
			return &parts[0], nil
		}
		return &parts[1], nil
	})
	if err != nil {
		t.Fatal(err)
	}
	fill(t, n, 400, 700)
	late, err := l.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	key, value, err := PendingEpoch(opening(late.Note))
	if err != nil {
		t.Fatal(err)
	}
	extra := []machine.Extra{{Key: key, Value: value}}
	var stage bytes.Buffer
	err = machine.Compose(&stage, head, []machine.PartReader{{Part: staged[0], Reader: &parts[0]}, {Part: staged[1], Reader: &parts[1]}}, extra)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Restore(t.Context(), &stage, int64(stage.Len())); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Lineage(t.Context()); !errors.Is(err, store.ErrBusy) {
		t.Errorf("the lineage before the epoch is open: %v", err)
	}
	fill(t, n, 700, 710)
	if p := refused(t, l, late.Note); p == nil || p.Kind != proof.Restored || !strings.Contains(p.Text, ", 290 records lost") {
		t.Errorf("held what was lost: %v", p)
	}
	if p := refused(t, l, early.Note); p != nil {
		t.Errorf("held what was kept: %v", p)
	}
	name, err := l.Lineage(t.Context())
	if err != nil || !strings.HasPrefix(name, "2 ") {
		t.Errorf("lineage %q, %v", name, err)
	}
	r := verify(t, l, Range{}, nil)
	if len(r.Epochs) != 1 || r.Epochs[0].Lost != 290 || r.Epochs[0].Size != 411 || r.Epoch != 2 {
		t.Errorf("epochs %+v", r.Epochs)
	}
	p, err := l.List(t.Context(), Filter{Action: EpochOpen})
	if err != nil || len(p.Entries) != 1 || p.Entries[0].Record.Actor.ID != "op" || p.Entries[0].Record.Detail["reason"] != "the disks burnt" {
		t.Errorf("recorded as %+v (%v)", p.Entries, err)
	}
}

// failing ends its store's writes after some.
type failing struct {
	store.Store
	left int
}

var errPower = errors.New("the power went")

func (f *failing) Apply(ctx context.Context, tx *store.Tx) (store.Result, error) {
	if f.left--; f.left < 0 {
		return store.Result{}, errPower
	}
	return f.Store.Apply(ctx, tx)
}

// TestAnEpochIsOpenedOnce whatever crashes in between.
func TestAnEpochIsOpenedOnce(t *testing.T) {
	for steps := range 4 {
		s, key := storetest.NewModel(nil), newKey(t, "k")
		fill(t, s, 0, 20)
		if _, err := openLog(t, s, key).Checkpoint(t.Context()); err != nil {
			t.Fatal(err)
		}
		pend(t, s, opening(nil))
		if _, err := openLog(t, &failing{s, steps}, key).Checkpoint(t.Context()); (steps < 3) != errors.Is(err, errPower) {
			t.Fatalf("after %d steps: %v", steps, err)
		}
		fill(t, s, 20, 30)
		l := openLog(t, s, key)
		c, err := l.Checkpoint(t.Context())
		if err != nil || c.Epoch != 2 || c.EpochID == "" {
			t.Fatalf("after %d steps: %+v, %v", steps, c, err)
		}
		if r := verify(t, l, Range{}, nil); len(r.Epochs) != 1 || r.Epochs[0].Lost != proof.UnknownLost {
			t.Errorf("after %d steps: %+v", steps, r.Epochs)
		}
		pend(t, s, opening(nil))
		if r := verify(t, l, Range{}, nil); len(r.Epochs) != 2 || r.Epochs[1].Number != 3 {
			t.Errorf("a second one: %+v", r.Epochs)
		}
	}
}

// TestAStaleDraftIsNotStored: what was drafted before a restore says nothing of
// the log after it.
func TestAStaleDraftIsNotStored(t *testing.T) {
	s, key := storetest.NewModel(nil), newKey(t, "k")
	l := openLog(t, s, key)
	fill(t, s, 0, 5)
	if _, err := l.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	fill(t, s, 5, 9)
	draft := func() *store.Tx {
		tx := store.NewTx()
		if err := s.View(t.Context(), store.Local, func(v store.Snapshot) error {
			_, err := l.draft(v, tx)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return tx
	}
	first, second := draft(), draft()
	pend(t, s, opening(nil))
	if _, err := s.Apply(t.Context(), first); !errors.Is(err, store.ErrConflict) {
		t.Errorf("while the epoch is pending: %v", err)
	}
	if err := l.settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Apply(t.Context(), second); !errors.Is(err, store.ErrConflict) {
		t.Errorf("once it is open: %v", err)
	}
}

func TestAnOpeningThatSaysNothingIsRefused(t *testing.T) {
	for _, o := range []EpochCause{{}, {How: "lost", From: "x"}, {How: proof.HowRestored, From: "a b"}, opening([]byte("nonsense"))} {
		if _, _, err := PendingEpoch(o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
}

func cosigner(l *Log, node string) *Cosigner {
	return NewCosigner(l, node, ed25519.NewKeyFromSeed(bytes.Repeat([]byte(node[:1]), ed25519.SeedSize)))
}

func TestEveryNodeCosigns(t *testing.T) {
	s, key := storetest.NewModel(nil), newKey(t, "k")
	l := openLog(t, s, key)
	a, b := cosigner(l, "a"), cosigner(l, "b")
	if err := a.Cosign(t.Context()); err != nil {
		t.Fatalf("before the first checkpoint: %v", err)
	}
	fill(t, s, 0, 300)
	for range 3 {
		if _, err := l.Checkpoint(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, c := range []*Cosigner{a, b, cosigner(l, "c")} {
			if err := c.Cosign(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		before := s.Applied()
		if err := a.Cosign(t.Context()); err != nil || s.Applied() != before {
			t.Fatalf("it cosigned the same again: %v", err)
		}
		fill(t, s, 300, 411)
	}
	r := verify(t, l, Range{From: 600}, nil)
	if len(r.Cosigned) != 3 || r.Cosigned[0].Size != 523 {
		t.Errorf("%+v", r.Cosigned)
	}
	pend(t, s, opening(nil))
	if err := a.Cosign(t.Context()); err != nil {
		t.Errorf("while an epoch is pending: %v", err)
	}
	if r := verify(t, l, Range{}, nil); len(r.Cosigned) != 3 || len(r.Epochs) != 1 {
		t.Errorf("after it: %+v, %+v", r.Cosigned, r.Epochs)
	}
}

// otherTree shows a node whose records differ in one byte.
type otherTree struct{ store.Store }

func (o otherTree) View(ctx context.Context, at store.ReadAt, f func(store.Snapshot) error) error {
	return o.Store.View(ctx, at, func(s store.Snapshot) error { return f(otherSnapshot{s}) })
}

type otherSnapshot struct{ store.Snapshot }

func (o otherSnapshot) Log(name string) store.Log { return otherLog{o.Snapshot.Log(name)} }

type otherLog struct{ store.Log }

func (o otherLog) Leaves(from uint64) iter.Seq2[store.Leaf, error] {
	return func(yield func(store.Leaf, error) bool) {
		for leaf, err := range o.Log.Leaves(from) {
			if leaf.Seq == 7 {
				leaf.Data = append([]byte(nil), leaf.Data...)
				leaf.Data[0] ^= 1
			}
			if !yield(leaf, err) {
				return
			}
		}
	}
}

func TestANodeWithOtherRecordsDoesNotCosign(t *testing.T) {
	s, key := storetest.NewModel(nil), newKey(t, "k")
	l := openLog(t, s, key)
	fill(t, s, 0, 20)
	if _, err := l.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := cosigner(openLog(t, otherTree{s}, key), "a").Cosign(t.Context()); !errors.Is(err, ErrForked) {
		t.Errorf("got %v", err)
	}
	if all, err := l.Cosignatures(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}
	if err := cosigner(openLog(t, s, newKey(t, "x")), "a").Cosign(t.Context()); !errors.Is(err, ErrKey) {
		t.Errorf("a checkpoint of another key: %v", err)
	}
}
