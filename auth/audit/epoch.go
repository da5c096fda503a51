package audit

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"sort"
	"strconv"

	"github.com/fxamacker/cbor/v2"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/audit/proof"
	"github.com/cloister-os/cloister/store"
)

// A restore or a recovery puts pendingKey into what it brings back, in the same
// step, so nothing can be signed as if the log had simply gone on. Whoever signs
// next opens the epoch: a record enters the log (openKey says that it did), then
// the log key states at which record and over which root (epochSpace). Each step
// happens once, whatever crashes in between.
const (
	epochSpace store.Space = "H/audit/epoch/"
	pendingKey store.Key   = "S/audit/epoch-pending"
	openKey    store.Key   = "S/audit/epoch-open"
)

// EpochCause is why an epoch has to be opened.
type EpochCause struct {
	How    string // proof.HowRestored or proof.HowRecovered
	From   string // the backup's or the node's name
	By     Actor  // who ordered it
	Reason string // in their words, at most 500 bytes
	// Before is the newest checkpoint known of the log that is replaced; nil when
	// none is.
	Before []byte
}

type pendingRow struct {
	V      uint     `cbor:"v"`
	How    string   `cbor:"how"`
	From   string   `cbor:"from"`
	By     actorRow `cbor:"by"`
	Reason string   `cbor:"reason,omitempty"`
	Before []byte   `cbor:"before,omitempty"`
}

type actorRow struct {
	Kind string `cbor:"kind"`
	ID   string `cbor:"id"`
}

// epochRow is an epoch on its way (openKey, without a note) or stated.
type epochRow struct {
	V          uint   `cbor:"v"`
	Number     uint64 `cbor:"number"`
	ID         string `cbor:"id"`
	Continues  uint64 `cbor:"continues"`
	ContinueID string `cbor:"continue_id,omitempty"`
	How        string `cbor:"how"`
	From       string `cbor:"from"`
	Known      bool   `cbor:"known,omitempty"`       // how far the log before went
	BeforeSize uint64 `cbor:"before_size,omitempty"` // when Known
	Note       []byte `cbor:"note,omitempty"`
}

// PendingEpoch is the key that must come into the store together with what was
// restored.
func PendingEpoch(o EpochCause) (store.Key, []byte, error) {
	if o.How != proof.HowRestored && o.How != proof.HowRecovered || !proof.ValidFrom(o.From) || len(o.Reason) > 500 {
		return "", nil, fmt.Errorf("open an epoch: %w", store.ErrInvalid)
	}
	if o.Before != nil {
		if _, err := proof.ParseCheckpoint(o.Before); err != nil {
			return "", nil, fmt.Errorf("open an epoch: %w", err)
		}
	}
	b, err := encoding.Marshal(pendingRow{
		V: 1, How: o.How, From: o.From, By: actorRow{string(o.By.Kind), o.By.ID}, Reason: o.Reason, Before: o.Before,
	})
	return pendingKey, b, err
}

// errPending means that an epoch must be opened before anything is signed.
var errPending = errors.New("an epoch of the audit log is being opened")

// Lineage names the epoch that the log is in: equal names mean that versions of
// the store mean the same. While an epoch is being opened it is store.ErrBusy.
func (l *Log) Lineage(ctx context.Context) (name string, err error) {
	err = l.store.View(ctx, store.Local, func(s store.Snapshot) error {
		if waiting, err := pendingEpoch(s); err != nil || waiting {
			return errors.Join(err, fmt.Errorf("%w: %w", store.ErrBusy, errPending))
		}
		e, err := newestEpoch(s)
		if name = strconv.FormatUint(e.Number, 10); e.ID != "" {
			name += " " + e.ID
		}
		return err
	})
	return name, err
}

// pendingEpoch reports whether an epoch has to be opened or stated.
func pendingEpoch(s store.Snapshot) (bool, error) {
	for _, k := range []store.Key{pendingKey, openKey} {
		if _, err := s.Get(k); err == nil || !errors.Is(err, store.ErrNotFound) {
			return err == nil, err
		}
	}
	return false, nil
}

// newestEpoch is the epoch that the log is in.
func newestEpoch(s store.Snapshot) (epochRow, error) {
	row := epochRow{V: 1, Number: 1}
	for item, err := range s.ScanBack(store.Key(epochSpace), "") {
		if err != nil {
			return row, err
		}
		return row, readRow(item, &row)
	}
	return row, nil
}

func readRow(item store.Item, row any) error {
	if err := cbor.Unmarshal(item.Value, row); err != nil {
		return fmt.Errorf("%q: %w", item.Key, err)
	}
	return nil
}

// settle opens and states an epoch that is pending. The caller has the turn.
func (l *Log) settle(ctx context.Context) error {
	for range 8 { // a conflict means that another node did it
		tx := store.NewTx()
		err := l.store.View(ctx, store.Fresh, func(s store.Snapshot) error { return l.nextStep(s, tx) })
		if err != nil {
			return fmt.Errorf("open an epoch: %w", err)
		}
		if tx.Len() == 0 {
			return nil
		}
		if _, err := l.store.Apply(ctx, tx); err != nil && !errors.Is(err, store.ErrConflict) {
			return fmt.Errorf("open an epoch: %w", err)
		}
	}
	return fmt.Errorf("open an epoch: %w", store.ErrBusy)
}

// nextStep fills tx with what comes next, nothing when no epoch is pending.
func (l *Log) nextStep(s store.Snapshot, tx *store.Tx) error {
	item, err := s.Get(openKey)
	if err == nil {
		return l.stateEpoch(s, item, tx)
	}
	if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	item, err = s.Get(pendingKey)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return openEpoch(s, item, tx)
}

// openEpoch appends the record that opens the pending epoch.
func openEpoch(s store.Snapshot, pending store.Item, tx *store.Tx) error {
	var o pendingRow
	if err := readRow(pending, &o); err != nil {
		return err
	}
	last, err := newestEpoch(s)
	if err != nil {
		return err
	}
	row := epochRow{V: 1, Number: last.Number + 1, Continues: last.Number, ContinueID: last.ID, How: o.How, From: o.From}
	detail := map[string]any{"how": o.How, "from": o.From}
	if o.Before != nil {
		before, err := proof.ParseCheckpoint(o.Before)
		if err != nil {
			return err
		}
		row.Number = max(row.Number, before.Epoch+1)
		row.Known, row.BeforeSize = o.How == proof.HowRestored, before.Size
		detail["before_size"], detail["before_epoch"] = before.Size, before.Epoch
	}
	if o.Reason != "" {
		detail["reason"] = o.Reason
	}
	var id [8]byte
	rand.Read(id[:])
	row.ID = hex.EncodeToString(id[:])
	detail["epoch"], detail["epoch_id"] = row.Number, row.ID
	value, err := encoding.Marshal(row)
	if err != nil {
		return err
	}
	tx.Check(pendingKey, pending.Version)
	tx.Check(openKey, 0)
	tx.Delete(pendingKey)
	tx.Put(openKey, value)
	return Append(tx, Record{
		Kind: Event, Action: EpochOpen, Actor: Actor{Kind: auth.Kind(o.By.Kind), ID: o.By.ID},
		Resource: Resource{Type: auth.AuditLog.Type, ID: auth.AuditLog.ID}, Detail: detail,
	})
}

// stateEpoch signs at which record the epoch was opened and what was kept.
func (l *Log) stateEpoch(s store.Snapshot, open store.Item, tx *store.Tx) error {
	var row epochRow
	if err := readRow(open, &row); err != nil {
		return err
	}
	log := s.Log(LogName)
	seq, err := openedAt(log, open.Version, row.ID)
	if err != nil {
		return err
	}
	root, err := tlog.TreeHash(int64(seq), hashes(log))
	if err != nil {
		return err
	}
	key := l.key.Load()
	e := proof.Epoch{
		Origin: key.signer.Name(), Number: row.Number, ID: row.ID, Continues: row.Continues, ContinueID: row.ContinueID,
		Size: seq, Root: root, How: row.How, From: row.From, Lost: proof.UnknownLost, Time: s.Time().UTC(),
	}
	if row.Known && row.BeforeSize <= math.MaxInt64 {
		e.Lost = max(0, int64(row.BeforeSize)-int64(seq))
	}
	if row.Note, err = note.Sign(&note.Note{Text: e.Text()}, key.signer); err != nil {
		return err
	}
	value, err := encoding.Marshal(row)
	if err != nil {
		return err
	}
	at := epochSpace.Key(store.Number(row.Number))
	tx.Check(openKey, open.Version)
	tx.Check(at, 0)
	tx.Delete(openKey)
	tx.Put(at, value)
	// Whoever drafted a checkpoint before the restore must not store it now.
	if last, err := s.Get(lastKey); err == nil {
		tx.Check(lastKey, last.Version)
		tx.Put(lastKey, last.Value)
	} else if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return tx.Err()
}

// openedAt finds the record that opened an epoch: it has the version of openKey.
func openedAt(log store.Log, v store.Version, id string) (uint64, error) {
	var failed error
	first := sort.Search(int(log.Size()), func(i int) bool {
		leaf, err := log.Leaf(uint64(i))
		if err != nil {
			failed = err
		}
		return leaf.Version >= v
	})
	if failed != nil {
		return 0, failed
	}
	for leaf, err := range log.Leaves(uint64(first)) {
		if err != nil {
			return 0, err
		}
		if leaf.Version > v {
			break
		}
		if bytes.Contains(leaf.Data, []byte(id)) {
			return leaf.Seq, nil
		}
	}
	return 0, fmt.Errorf("the record that opened the epoch: %w", store.ErrNotFound)
}

// Epochs returns the signed statements of all epochs after the first that a log
// of size records has, oldest first.
func (l *Log) Epochs(ctx context.Context, size uint64) (notes [][]byte, err error) {
	err = l.store.View(ctx, store.Local, func(s store.Snapshot) error {
		notes = notes[:0]
		for item, err := range s.Scan(store.Key(epochSpace), "") {
			if err != nil {
				return err
			}
			var row epochRow
			if err := readRow(item, &row); err != nil {
				return err
			}
			e, err := proof.ParseEpoch(row.Note)
			if err != nil {
				return fmt.Errorf("%q: %w", item.Key, err)
			}
			if e.Size < size {
				notes = append(notes, row.Note)
			}
		}
		return nil
	})
	return notes, err
}
