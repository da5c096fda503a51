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

// checkAfter tells a continued log from a cut, a restored and a forked one.
func (b *bundle) checkAfter(h held) *Problem {
	problem := func(k ProblemKind, format string, args ...any) *Problem {
		return &Problem{Kind: k, Record: none, Text: fmt.Sprintf(format, args...)}
	}
	cp, _, err := b.openCheckpoint(h.note)
	if err != nil {
		return problem(OtherKey, "the checkpoint you hold is not one of this log, or was changed: %v", err)
	}
	if cp.Size > b.cp.Size {
		return problem(Cut, "the log ends at %d records but the checkpoint you hold covers %d: it was cut, or this bundle is older than your checkpoint", b.cp.Size, cp.Size)
	}
	err = b.continues(cp)
	var missing *missingTile
	switch {
	case err == nil:
		b.report.After = &After{Size: cp.Size, Time: cp.Time}
		return nil
	case errors.As(err, &missing):
		return problem(Unproven, "the bundle cannot be compared with the checkpoint you hold (%d records): export it again and name that size", cp.Size)
	case !errors.Is(err, errOtherRoot):
		return problem(Changed, "the bundle's tiles cannot be read: %v", err)
	}
	p := problem(Forked, "this is a fork: its first %d records are not those of the checkpoint you hold", cp.Size)
	if cp.Epoch < b.cp.Epoch {
		p = problem(Restored, "the log was restored from a backup (epoch %d, yours is %d) and does not hold all %d records of the checkpoint you hold", b.cp.Epoch, cp.Epoch, cp.Size)
	}
	if seq, ok := b.partsFrom(h.bundle); ok {
		p.Record, p.Text = int64(seq), fmt.Sprintf("%s; record %d is the first that differs", p.Text, seq)
	}
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
