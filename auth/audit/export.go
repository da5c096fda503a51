package audit

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"iter"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/cloister-os/cloister/auth/audit/proof"
	"github.com/cloister-os/cloister/store"
)

// Range is what an export holds: the records [From, To) that also lie in the
// time given.
type Range struct {
	From     uint64
	To       uint64    // 0 = up to the newest
	Since    time.Time // leader time, inclusive
	Until    time.Time // leader time, exclusive
	Held     []uint64  // sizes of checkpoints that the auditor holds, for --after; those inside the range need not be named
	Openings bool      // include the openings of personal fields that were not forgotten
}

// Bounds of an export.
const (
	chunkLeaves = 4096
	chunkBytes  = 4 << 20
	maxHistory  = 256 // earlier checkpoints proven in one bundle, spread evenly
	maxHeld     = 1024
)

// Export writes a bundle (see auth/audit/proof) with the policies' texts by id.
// It streams: beside the chunk at hand, memory grows by 8 bytes a record. No
// view is held open while w is slow. After an error what was written is no
// bundle. The bundle's checkpoint covers every record acknowledged before the
// call.
func (l *Log) Export(ctx context.Context, r Range, w io.Writer, policies map[string]string) error {
	if len(r.Held) > maxHeld {
		return fmt.Errorf("export the audit log: %w: at most %d checkpoint sizes can be named", store.ErrInvalid, maxHeld)
	}
	cp, key, err := l.sign(ctx, store.Fresh)
	if err != nil {
		return fmt.Errorf("export the audit log: %w", err)
	}
	src := proof.Source{
		Checkpoint: cp.Note, Held: r.Held, Policies: policies,
		Hashes: tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) { return l.readHashes(ctx, indexes) }),
		Sign:   func(text string) ([]byte, error) { return note.Sign(&note.Note{Text: text}, key.signer) },
	}
	if src.From, src.To, err = l.rangeOf(ctx, r, cp.Size); err == nil {
		src.Keys, err = l.Keys(ctx)
		src.Keys = slices.DeleteFunc(src.Keys, func(k proof.Key) bool { return k.FromSize > cp.Size }) // came into force since
	}
	if err == nil {
		src.Epochs, err = l.Epochs(ctx, cp.Size)
	}
	if err == nil {
		src.Cosigned, err = l.Cosignatures(ctx)
	}
	if err == nil {
		src.History, err = l.history(ctx, src.From, cp.Size)
	}
	if err != nil {
		return fmt.Errorf("export the audit log: %w", err)
	}
	src.Records = func() iter.Seq2[proof.Line, error] { return l.lines(ctx, src.From, src.To) }
	if r.Openings {
		src.Openings = func(id string) ([]proof.Open, error) { return l.exportOpenings(ctx, id) }
	}
	return proof.Write(w, src)
}

// rangeOf turns a range into sequences within the first size records.
func (l *Log) rangeOf(ctx context.Context, r Range, size uint64) (from, to uint64, err error) {
	before := size
	if r.To > 0 {
		before = min(r.To, size)
	}
	err = l.store.View(ctx, store.Local, func(s store.Snapshot) error {
		from, to, err = bounds(s.Log(LogName), r.From, before, r.Since, r.Until)
		return err
	})
	return from, to, err
}

func (l *Log) readHashes(ctx context.Context, indexes []int64) ([]tlog.Hash, error) {
	var out []tlog.Hash
	err := l.store.View(ctx, store.Local, func(s store.Snapshot) (err error) {
		out, err = hashes(s.Log(LogName)).ReadHashes(indexes)
		return err
	})
	return out, err
}

// history chooses the hourly checkpoints to prove: the last one at or before
// the range, and those up to the newest.
func (l *Log) history(ctx context.Context, from, size uint64) ([][]byte, error) {
	var notes [][]byte
	err := l.store.View(ctx, store.Local, func(s store.Snapshot) error {
		notes = notes[:0]
		for item, err := range s.ScanBack(store.Key(hourlySpace), hourlySpace.Key(store.Number(size))) {
			if err != nil {
				return err
			}
			c, err := readCheckpoint(item)
			if err != nil {
				return err
			}
			notes = append(notes, c.Note)
			if c.Size <= from {
				break
			}
		}
		return nil
	})
	out := make([][]byte, 0, maxHistory)
	step := (len(notes) + maxHistory - 1) / maxHistory
	for i := len(notes) - 1; i >= 0; i -= step { // oldest first
		out = append(out, notes[i])
	}
	return out, err
}

// lines yields records in chunks, each read in a view of its own: leaves never
// change, so the views agree, and none is open while a chunk is written.
func (l *Log) lines(ctx context.Context, from, to uint64) iter.Seq2[proof.Line, error] {
	return func(yield func(proof.Line, error) bool) {
		chunk := make([]proof.Line, 0, min(chunkLeaves, to-from))
		for from < to {
			var err error
			if chunk, err = l.chunk(ctx, chunk[:0], from, to); err != nil {
				yield(proof.Line{}, err)
				return
			}
			for _, line := range chunk {
				if !yield(line, nil) {
					return
				}
			}
			from += uint64(len(chunk))
		}
	}
}

func (l *Log) chunk(ctx context.Context, chunk []proof.Line, from, to uint64) ([]proof.Line, error) {
	bytes := 0
	err := l.store.View(ctx, store.Local, func(s store.Snapshot) error {
		for leaf, err := range s.Log(LogName).Leaves(from) {
			if err != nil {
				return err
			}
			if leaf.Seq >= to || len(chunk) == chunkLeaves || bytes > chunkBytes {
				return nil
			}
			chunk = append(chunk, proof.Line{Seq: leaf.Seq, Version: uint64(leaf.Version), Time: leaf.Time, Leaf: leaf.Data})
			bytes += len(leaf.Data)
		}
		return nil
	})
	if err == nil && len(chunk) == 0 {
		err = fmt.Errorf("record %d: %w", from, store.ErrNotFound)
	}
	return chunk, err
}

func (l *Log) exportOpenings(ctx context.Context, id string) ([]proof.Open, error) {
	opens, err := l.Openings(ctx, id)
	if err != nil {
		return nil, err
	}
	out := make([]proof.Open, len(opens))
	for i, o := range opens {
		out[i] = proof.Open{Field: o.Field, Salt: hex.EncodeToString(o.Salt), Value: o.Value}
	}
	return out, nil
}
