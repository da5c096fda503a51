package audit

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/cloister-os/cloister/auth/audit/proof"
	"github.com/cloister-os/cloister/store"
)

// Checkpoints are kept by size. Every one of the last hour stands in recent (in
// the state database, where what is deleted does not linger); the first of each
// hour stands in hourly for ever (8,760 a year, about 350 bytes each). Nothing
// is lost by thinning: a consistency proof from any size, kept or not, can be
// made from the tree, and an export proves the hourly ones that lie in its
// range. lastKey makes the checkpoints one chain: each is stored on the
// condition that the one it continues is still the last.
const (
	recentSpace store.Space = "S/audit/checkpoint/recent/"
	hourlySpace store.Space = "H/audit/checkpoint/hourly/"
	lastKey     store.Key   = "S/audit/checkpoint/last"
	recentFor               = time.Hour
	dropAtOnce              = 8 // so that a signing's transaction stays small
)

// ErrForked means that the log does not continue the last checkpoint that was
// signed for it: records were lost or changed beneath. Nothing more is signed.
var ErrForked = errors.New("the audit log does not continue its last checkpoint")

// checkpointRow is a checkpoint as kept in the store.
type checkpointRow struct {
	V    uint   `cbor:"v"`
	Note []byte `cbor:"note"`
}

func hexOf(b []byte) string { return hex.EncodeToString(b) }

// hashes lets tlog's functions read a log's stored hashes.
func hashes(log store.Log) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		hs, err := log.Hashes(indexes)
		if err != nil {
			return nil, err
		}
		out := make([]tlog.Hash, len(hs))
		for i, h := range hs {
			out[i] = h
		}
		return out, nil
	})
}

// Checkpoint returns a signed checkpoint that covers every record acknowledged
// before the call, signing a new one when the log grew.
func (l *Log) Checkpoint(ctx context.Context) (Checkpoint, error) {
	c, _, err := l.sign(ctx, store.Fresh)
	return c, err
}

// Last returns the newest checkpoint that was signed, without signing one;
// store.ErrNotFound before the first.
func (l *Log) Last(ctx context.Context) (Checkpoint, error) {
	var c Checkpoint
	err := l.store.View(ctx, store.Local, func(s store.Snapshot) (err error) {
		c, _, err = lastCheckpoint(s)
		return err
	})
	return c, err
}

// sign signs the log as it stands unless its last checkpoint covers it already.
// It also returns the key in force then.
func (l *Log) sign(ctx context.Context, at store.ReadAt) (Checkpoint, *signingKey, error) {
	if err := l.take(ctx); err != nil {
		return Checkpoint{}, nil, err
	}
	defer l.give()
	if err := l.begin(ctx); err != nil {
		return Checkpoint{}, nil, err
	}
	for range 8 { // a conflict means that another node signed in the meantime
		var next Checkpoint
		tx := store.NewTx()
		err := l.store.View(ctx, at, func(s store.Snapshot) (err error) {
			next, err = l.draft(s, tx)
			return err
		})
		if errors.Is(err, errPending) {
			if err = l.settle(ctx); err == nil {
				continue
			}
		}
		if err != nil {
			return Checkpoint{}, nil, err
		}
		if tx.Len() == 0 {
			return next, l.key.Load(), nil
		}
		if _, err = l.store.Apply(ctx, tx); err == nil {
			return next, l.key.Load(), nil
		}
		if !errors.Is(err, store.ErrConflict) {
			return Checkpoint{}, nil, fmt.Errorf("keep checkpoint %d: %w", next.Size, err)
		}
	}
	return Checkpoint{}, nil, fmt.Errorf("sign a checkpoint: %w", store.ErrBusy)
}

// draft returns the snapshot's last checkpoint when it covers the whole log;
// otherwise a newly signed one, and fills tx with what stores it. It refuses to
// sign what does not continue the last, and with a key that is not in force.
func (l *Log) draft(s store.Snapshot, tx *store.Tx) (Checkpoint, error) {
	row, item, _, err := newestKey(s)
	if err != nil {
		return Checkpoint{}, err
	}
	if err := l.agree(row); err != nil {
		return Checkpoint{}, err
	}
	if waiting, err := pendingEpoch(s); err != nil || waiting {
		return Checkpoint{}, errors.Join(err, errPending)
	}
	log := s.Log(LogName)
	last, version, err := lastCheckpoint(s)
	switch {
	case errors.Is(err, store.ErrNotFound):
	case err != nil:
		return Checkpoint{}, err
	default:
		if err := continues(log, last); err != nil || log.Size() == last.Size {
			return last, err
		}
	}
	next, err := l.signed(s, log)
	if err != nil {
		return Checkpoint{}, err
	}
	tx.Check(item.Key, item.Version)
	tx.Check(lastKey, version)
	tx.Check(pendingKey, 0)
	tx.Check(openKey, 0)
	return next, next.keep(s, tx)
}

func (l *Log) signed(s store.Snapshot, log store.Log) (Checkpoint, error) {
	root, err := log.Root()
	if err != nil {
		return Checkpoint{}, err
	}
	epoch, err := newestEpoch(s)
	if err != nil {
		return Checkpoint{}, err
	}
	key := l.key.Load()
	c := proof.Checkpoint{Origin: key.signer.Name(), Size: log.Size(), Root: root, Epoch: epoch.Number, EpochID: epoch.ID, Time: s.Time().UTC()}
	msg, err := note.Sign(&note.Note{Text: c.Text()}, key.signer)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("sign checkpoint %d: %w", c.Size, err)
	}
	return Checkpoint{Origin: c.Origin, Size: c.Size, Root: root, Epoch: c.Epoch, EpochID: c.EpochID, Time: c.Time, Note: msg}, nil
}

// continues recomputes the root at the checkpoint's size.
func continues(log store.Log, c Checkpoint) error {
	if log.Size() < c.Size {
		return fmt.Errorf("%w: it ends at record %d, the checkpoint covers %d", ErrForked, log.Size(), c.Size)
	}
	root, err := tlog.TreeHash(int64(c.Size), hashes(log))
	if err != nil {
		return err
	}
	if root != c.Root {
		return fmt.Errorf("%w: its first %d records have another root", ErrForked, c.Size)
	}
	return nil
}

// keep adds to tx what stores the checkpoint and thins out the old ones.
func (c Checkpoint) keep(s store.Snapshot, tx *store.Tx) error {
	value, err := encoding.Marshal(checkpointRow{V: 1, Note: c.Note})
	if err != nil {
		return err
	}
	tx.Put(lastKey, value)
	tx.Put(recentSpace.Key(store.Number(c.Size)), value)
	if err := keepHourly(s, tx, c, value); err != nil {
		return err
	}
	n := 0
	for item, err := range s.Scan(store.Key(recentSpace), "") {
		if err != nil {
			return err
		}
		old, err := readCheckpoint(item)
		if err != nil {
			return err
		}
		if n++; n > dropAtOnce || c.Time.Sub(old.Time) < recentFor {
			break
		}
		tx.Delete(item.Key)
	}
	return tx.Err()
}

func keepHourly(s store.Snapshot, tx *store.Tx, c Checkpoint, value []byte) error {
	for item, err := range s.ScanBack(store.Key(hourlySpace), "") {
		if err != nil {
			return err
		}
		last, err := readCheckpoint(item)
		if err != nil {
			return err
		}
		if c.Time.Truncate(time.Hour).Equal(last.Time.Truncate(time.Hour)) {
			return nil
		}
		break
	}
	tx.Put(hourlySpace.Key(store.Number(c.Size)), value)
	return nil
}

// lastCheckpoint also returns the version of lastKey, 0 with store.ErrNotFound.
func lastCheckpoint(s store.Snapshot) (Checkpoint, store.Version, error) {
	item, err := s.Get(lastKey)
	if err != nil {
		return Checkpoint{}, 0, err
	}
	c, err := readCheckpoint(item)
	return c, item.Version, err
}

func readCheckpoint(item store.Item) (Checkpoint, error) {
	var row checkpointRow
	if err := cbor.Unmarshal(item.Value, &row); err != nil {
		return Checkpoint{}, fmt.Errorf("checkpoint at %q: %w", item.Key, err)
	}
	c, err := proof.ParseCheckpoint(row.Note)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("checkpoint at %q: %w", item.Key, err)
	}
	return Checkpoint{Origin: c.Origin, Size: c.Size, Root: c.Root, Epoch: c.Epoch, EpochID: c.EpochID, Time: c.Time, Note: row.Note}, nil
}

// run is Run. Of a row of failures the first is logged; each is tried again.
func (l *Log) run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var lastSize uint64
	var lastSign time.Time
	failing := false
	for {
		size, err := l.size(ctx)
		if err == nil && l.leads() && (size >= lastSize+signRecords || size > lastSize && time.Since(lastSign) >= signEvery) {
			var c Checkpoint
			if c, _, err = l.sign(ctx, store.Local); err == nil {
				lastSize, lastSign = c.Size, time.Now()
			}
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, ErrForked) || errors.Is(err, ErrKey):
			return err
		case err != nil && !failing:
			failing = true
			l.logger.Warn("no checkpoint could be signed; trying again", "error", err)
		case err == nil:
			failing = false
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (l *Log) size(ctx context.Context) (n uint64, err error) {
	err = l.store.View(ctx, store.Local, func(s store.Snapshot) error {
		n = s.Log(LogName).Size()
		return nil
	})
	return n, err
}
