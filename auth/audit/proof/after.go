package proof

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"golang.org/x/mod/sumdb/tlog"
)

// held is what the auditor took away earlier: a checkpoint, or a whole bundle.
type held struct {
	note   []byte
	bundle *bundle // nil for a checkpoint
}

// readHeld takes the checkpoint out of an earlier bundle, once that verified.
func readHeld(o Options, fingerprint string) (held, *Problem) {
	if o.AfterBundle == nil {
		return held{note: o.After}, nil
	}
	old := &bundle{r: o.AfterBundle, byName: map[string]file{}}
	old.verify(o.AfterBundle.Size(), fingerprint, held{})
	if found := old.found(); len(found) > 0 {
		p := *found[0]
		p.Text = "the earlier bundle is no measure, for it does not verify itself: " + p.Text
		return held{}, &p
	}
	note, _, _ := old.named(checkpointName, maxCheckpointBytes)
	return held{note: note, bundle: old}, nil
}

// IsBundle reports whether a file begins as a bundle does.
func IsBundle(r io.ReaderAt) bool {
	block := make([]byte, tarBlock)
	_, err := r.ReadAt(block, 0)
	return err == nil && bytes.HasPrefix(block, []byte(checkpointName+"\x00"))
}

// CheckpointIn is the checkpoint in what an auditor took away, a note or a bundle,
// unverified.
func CheckpointIn(r io.ReaderAt) ([]byte, error) {
	at, size := int64(0), int64(maxCheckpointBytes+1)
	if IsBundle(r) {
		block := make([]byte, tarBlock)
		if _, err := r.ReadAt(block, 0); err != nil {
			return nil, err
		}
		f, p := readHeader(block, 0)
		if p != nil {
			return nil, p
		}
		at, size = f.offset, min(f.size, size)
	}
	note, err := io.ReadAll(io.NewSectionReader(r, at, size))
	if err != nil {
		return nil, err
	}
	_, err = ParseCheckpoint(note)
	return note, err
}

// checkAfter tells a continued log from a cut, a restored and a forked one.
func (b *bundle) checkAfter(h held) *Problem {
	cp, _, err := b.openCheckpoint(h.note)
	if err != nil {
		return afterProblem(OtherKey, "the checkpoint you hold is not one of this log, or was changed: %v", err)
	}
	e, old := b.epochAfter(cp)
	switch {
	case old:
		return afterProblem(Cut, "the checkpoint you hold is of epoch %d and this bundle of epoch %d: it is older than your checkpoint, or shows the log as it was before a restore", cp.Epoch, b.cp.Epoch)
	case e != nil && cp.Size > e.Size:
		return b.lost(h, cp, e)
	case cp.Size > b.cp.Size:
		return afterProblem(Cut, "the log ends at %d records but the checkpoint you hold covers %d: it was cut, or this bundle is older than your checkpoint", b.cp.Size, cp.Size)
	}
	err = b.continues(cp)
	var missing *missingTile
	switch {
	case err == nil:
		b.report.After = &After{Size: cp.Size, Time: cp.Time}
		return nil
	case errors.As(err, &missing):
		return afterProblem(Unproven, "the bundle cannot be compared with the checkpoint you hold (%d records): export it again and name that size", cp.Size)
	case !errors.Is(err, errOtherRoot):
		return afterProblem(Changed, "the bundle's tiles cannot be read: %v", err)
	}
	return b.forked(h, "this is a fork: its first %d records are not those of the checkpoint you hold", cp.Size)
}

func afterProblem(k ProblemKind, format string, args ...any) *Problem {
	return &Problem{Kind: k, Record: none, Text: fmt.Sprintf(format, args...)}
}

func (b *bundle) forked(h held, format string, args ...any) *Problem {
	p := afterProblem(Forked, format, args...)
	if seq, ok := b.partsFrom(h.bundle); ok {
		p.Record, p.Text = int64(seq), fmt.Sprintf("%s; record %d is the first that differs", p.Text, seq)
	}
	return p
}

// epochAfter is the first epoch of the bundle in which the log is no longer the
// one of a checkpoint; nil when it still is, old when the bundle does not reach
// the checkpoint's epoch. An epoch that a later restore has lost is not in the
// bundle: the restore that lost it is then the one that is looked for.
func (b *bundle) epochAfter(cp Checkpoint) (e *Epoch, old bool) {
	if cp.Epoch == b.cp.Epoch && cp.EpochID == b.cp.EpochID {
		return nil, false
	}
	for i := range b.epochs {
		e := &b.epochs[i]
		if e.Number > cp.Epoch || e.Number == cp.Epoch && e.ID != cp.EpochID {
			return e, false
		}
	}
	return nil, true
}

// lost says what a restore cost, once nothing speaks against its being one: what
// both logs share must be the same.
func (b *bundle) lost(h held, cp Checkpoint, e *Epoch) *Problem {
	if h.bundle != nil && h.bundle.man.from <= e.Size {
		root, err := tlog.TreeHash(int64(e.Size), h.bundle.tree)
		if err == nil && root != e.Root {
			return b.forked(h, "this is a fork: the restore at record %d keeps other records than those of the bundle you hold", e.Size)
		}
	}
	p := afterProblem(Restored, "%s at %d, %d records lost: those from %d to %d of the checkpoint you hold are no longer in the log (epoch %d, opened %s, from %s)",
		e.How, e.Size, cp.Size-e.Size, e.Size, cp.Size-1, e.Number, stamp(e.Time), e.From)
	p.Record = int64(e.Size)
	return p
}

// partsFrom finds the first record that is not the one in an earlier bundle, as
// far as both hold it.
func (b *bundle) partsFrom(old *bundle) (uint64, bool) {
	if old == nil {
		return 0, false
	}
	from, until := max(b.man.from, old.man.from), min(b.man.to, old.man.to)
	for n := from; n < until; {
		ours, err1 := leafHashes(b.tree, n, until)
		theirs, err2 := leafHashes(old.tree, n, until)
		if err1 != nil || err2 != nil {
			return 0, false
		}
		for i := range ours {
			if ours[i] != theirs[i] {
				return n + uint64(i), true
			}
		}
		n += uint64(len(ours))
	}
	return 0, false
}

var errOtherRoot = errors.New("its records have another root")

// continues recomputes the root that the log had at an earlier checkpoint.
func (b *bundle) continues(cp Checkpoint) error {
	if cp.Size > b.cp.Size {
		return fmt.Errorf("it covers %d records, the bundle's checkpoint %d", cp.Size, b.cp.Size)
	}
	root, err := tlog.TreeHash(int64(cp.Size), b.tree)
	if err == nil && root != cp.Root {
		err = errOtherRoot
	}
	return err
}
