package proof

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
)

const (
	idA = "00000000000000aa"
	idB = "00000000000000bb"
)

func epochLeaf(n uint64, id string) string {
	return fmt.Sprintf(`{"action":"audit.epoch","actor":{"id":"op","kind":"User"},"detail":{"epoch":%d,"epoch_id":%q,"lost":12},"id":"E%d","kind":"event","resource":{"id":"audit","type":"Log"},"v":1}`, n, id, n)
}

// grow appends records that no other log has.
func (l *testLog) grow(n int, salt string) *testLog {
	for i := range n {
		l.append(testLeaf(int(l.size())+i, salt))
	}
	return l
}

// twice is a log that was restored twice: at 500 of 900, then at 300.
func restoredLog(t *testing.T, at int, number uint64, id string) *testLog {
	l := newLog(t, at)
	l.open(number, id)
	return l.grow(150, id)
}

func TestARestoredLogSaysWhatIsLost(t *testing.T) {
	l := newLog(t, 900)
	once := restoredLog(t, 500, 2, idA)
	again := restoredLog(t, 500, 2, idA)
	again.open(3, idB)
	again.grow(20, "third")
	earlier := restoredLog(t, 300, 3, idB) // a later restore, to before the second epoch
	sameNumber := restoredLog(t, 300, 2, idB)
	recovered := newLog(t, 500)
	e := recovered.next(2, idA)
	e.How, e.From, e.Lost = HowRecovered, "node-2", UnknownLost
	recovered.epochs, recovered.epoch, recovered.id = [][]byte{recovered.sign(e.Text())}, 2, idA
	recovered.append(epochLeaf(2, idA))
	forged := newLog(t, 400)
	forged.grow(100, "other")
	forged.open(2, idA)
	forged.grow(50, "x")
	bundleOf := func(l *testLog) []byte { return l.bundle(0, l.size()) }
	for _, c := range []struct {
		name string
		log  *testLog
		note []byte
		old  []byte // a bundle instead
		kind ProblemKind
		text string
	}{
		{name: "a checkpoint of what was lost", log: once, note: l.checkpoint(600), kind: Restored, text: "restored at 500, 100 records lost: those from 500 to 599"},
		{name: "larger than the log is now", log: once, note: l.checkpoint(900), kind: Restored, text: "restored at 500, 400 records lost"},
		{name: "a bundle of what was lost", log: once, old: bundleOf(l), kind: Restored, text: "restored at 500, 400 records lost"},
		{name: "exactly what was kept", log: once, note: l.checkpoint(500)},
		{name: "less than was kept", log: once, note: l.checkpoint(100)},
		{name: "of the new epoch", log: once, note: once.checkpoint(600)},
		{name: "restored twice, held before both", log: again, note: l.checkpoint(600), kind: Restored, text: "restored at 500, 100 records lost"},
		{name: "restored twice, held in between", log: again, note: once.checkpoint(651)},
		{name: "restored to before the held epoch", log: earlier, note: once.checkpoint(600), kind: Restored, text: "restored at 300, 300 records lost"},
		{name: "two epochs of one number", log: sameNumber, note: once.checkpoint(600), kind: Restored, text: "restored at 300, 300 records lost"},
		{name: "recovered", log: recovered, note: l.checkpoint(510), kind: Restored, text: "recovered at 500, 10 records lost"},
		{name: "a fork below what was kept", log: forged, note: l.checkpoint(450), kind: Forked, text: "this is a fork"},
		{name: "a fork below what was kept, held as a bundle", log: forged, old: bundleOf(l), kind: Forked, text: "this is a fork: the restore at record 500 keeps other records"},
		{name: "a fork in the same epoch", log: once, note: restoredLog(t, 499, 2, idA).checkpoint(600), kind: Forked, text: "this is a fork"},
		{name: "a bundle from before the restore", log: l, note: once.checkpoint(600), kind: Cut, text: "is of epoch 2 and this bundle of epoch 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, o := bundleOf(c.log), Options{LogKey: l.key.print, After: c.note}
			if c.old != nil {
				o.AfterBundle = io.NewSectionReader(bytes.NewReader(c.old), 0, int64(len(c.old)))
			}
			r, err := Verify(bytes.NewReader(b), int64(len(b)), o)
			var p *Problem
			if c.kind == "" && (err != nil || r.After == nil) || c.kind != "" && (!errors.As(err, &p) || p.Kind != c.kind || !strings.Contains(p.Text, c.text)) {
				t.Errorf("got %v, want %q %q", err, c.kind, c.text)
			}
		})
	}
}

// TestAnEpochIsTheLogKeysWord: whoever cannot sign opens none.
func TestAnEpochIsTheLogKeysWord(t *testing.T) {
	thief := newKey(t, "x")
	for _, c := range []struct {
		name  string
		spoil func(*testLog)
		text  string
	}{
		{"as it should be", func(*testLog) {}, ""},
		{"signed by another key", func(l *testLog) {
			e, err := ParseEpoch(l.epochs[0])
			if err != nil {
				t.Fatal(err)
			}
			l.epochs[0], _ = note.Sign(&note.Note{Text: e.Text()}, thief.signer)
		}, "epoch 2 was not opened by the log key"},
		{"not signed at all", func(l *testLog) { l.epochs[0], _, _ = bytes.Cut(l.epochs[0], []byte("— ")) }, "epoch 2 was not opened by the log key"},
		{"its text changed", func(l *testLog) { l.epochs[0] = bytes.Replace(l.epochs[0], []byte("lost 12"), []byte("lost 11"), 1) }, "epoch 2 was not opened by the log key"},
		{"no statement", func(l *testLog) { l.epochs = nil }, "holds no statement of the log key that opened it"},
		{"a statement of another id", func(l *testLog) { l.restate(func(e *Epoch) { e.ID = idB }) }, "holds no statement of the log key that opened it"},
		{"of another record", func(l *testLog) { l.restate(func(e *Epoch) { e.Size, e.Root = 40, root(l, 40) }) }, "record 40 should open epoch 2 and does not"},
		{"other records kept", func(l *testLog) { l.restate(func(e *Epoch) { e.Root[0] ^= 1 }) }, "epoch 2 does not keep what it says"},
		{"of another log", func(l *testLog) { l.restate(func(e *Epoch) { e.Origin = "cloister/other" }) }, "it is of another log"},
		{"continuing another", func(l *testLog) { l.restate(func(e *Epoch) { e.Continues, e.ContinueID = 5, idB }) }, "epoch 2 does not follow epoch 1"},
		{"beyond the checkpoint", func(l *testLog) { l.restate(func(e *Epoch) { e.Size = 500 }) }, "epoch 2 does not follow epoch 1"},
		{"opened by a record alone", func(l *testLog) { l.append(epochLeaf(3, idB)) }, "record 71 opens epoch 3, of which the log key made no statement"},
	} {
		l := newLog(t, 50)
		l.open(2, idA)
		l.grow(20, "a")
		c.spoil(l)
		_, err := l.verify(l.bundle(0, l.size()), nil)
		if c.text == "" && err != nil || c.text != "" && (err == nil || !strings.Contains(err.Error(), c.text)) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func root(l *testLog, size uint64) [32]byte {
	c, err := ParseCheckpoint(l.checkpoint(size))
	if err != nil {
		l.t.Fatal(err)
	}
	return c.Root
}

// restate signs the last epoch again, changed.
func (l *testLog) restate(change func(*Epoch)) {
	e, err := ParseEpoch(l.epochs[len(l.epochs)-1])
	if err != nil {
		l.t.Fatal(err)
	}
	change(&e)
	l.epochs[len(l.epochs)-1] = l.sign(e.Text())
}

// TestEveryByteOfAStatementCounts: those of epochs and cosignatures too.
func TestEveryByteOfAStatementCounts(t *testing.T) {
	l := newLog(t, 2)
	l.open(2, idA)
	l.cosigned("node-1", 1, l.checkpoint(3))
	bundle := l.bundle(0, 3)
	files, _ := readContainer(bytes.NewReader(bundle), int64(len(bundle)))
	seen := 0
	for _, f := range files {
		if !strings.HasPrefix(f.name, epochsPrefix) && !strings.HasPrefix(f.name, cosignedPrefix) {
			continue
		}
		seen++
		for at := f.offset; at < f.end(); at++ {
			bundle[at] ^= 1
			_, err := l.verify(bundle, nil)
			bundle[at] ^= 1
			var p *Problem
			if !errors.As(err, &p) || p.File != f.name {
				t.Fatalf("byte %d of %s: %v", at-f.offset, f.name, err)
			}
		}
	}
	if seen != 2 {
		t.Errorf("%d statements", seen)
	}
}

func TestAnEpochIsReadAsWritten(t *testing.T) {
	l := newLog(t, 3)
	e := l.next(4, idB)
	e.Continues, e.ContinueID, e.Lost = 2, idA, UnknownLost
	for _, text := range []string{e.Text(), string(l.sign(e.Text()))} {
		if got, err := ParseEpoch([]byte(text)); err != nil || got != e {
			t.Errorf("%+v became %+v (%v)", e, got, err)
		}
	}
	for _, bad := range []string{"", "epoch", strings.Replace(e.Text(), idB, "", 1), strings.Replace(e.Text(), "epoch 4", "epoch 04", 1), e.Text() + "more\n", strings.Replace(e.Text(), "restored", "invented", 1)} {
		if _, err := ParseEpoch([]byte(bad)); err == nil {
			t.Errorf("%q is an epoch", bad)
		}
	}
}

func FuzzParseEpoch(f *testing.F) {
	l := newLog(f, 3)
	f.Add([]byte(l.next(2, idA).Text()))
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, err := ParseEpoch(b); err == nil && !strings.HasPrefix(string(b)+"\n", e.Text()) {
			t.Errorf("%q was read as %q", b, e.Text())
		}
	})
}

func TestEpochsAreToldInTheReport(t *testing.T) {
	l := restoredLog(t, 50, 2, idA)
	r, err := l.verify(l.bundle(60, 80), nil)
	if err != nil || len(r.Epochs) != 1 || r.Epochs[0].Size != 50 || r.Epochs[0].Lost != 12 || !r.Epochs[0].Time.Equal(time.Date(2026, 11, 23, 14, 0, 0, 0, time.UTC)) {
		t.Errorf("%+v, %v", r.Epochs, err)
	}
}
