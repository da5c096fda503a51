package audit

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"
	"golang.org/x/mod/sumdb/note"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/audit/proof"
	"github.com/cloister-os/cloister/store"
)

// The log's own events.
const (
	KeyBegin  auth.Action = "audit.key.begin"  // the first log key came into force
	KeyChange auth.Action = "audit.key.change" // the log key was changed
	Forgotten auth.Action = "audit.forget"     // a person's personal fields were destroyed
	EpochOpen auth.Action = proof.EpochAction  // a restore from a backup opened an epoch
)

// keySpace holds the key history: the size from which a key signs -> keyRow.
const keySpace store.Space = "H/audit/key/"

// ErrKey means that the store and this node disagree about the log key.
var ErrKey = errors.New("the log key is not the one in force")

// signingKey is a signer with what is published of it.
type signingKey struct {
	signer      note.Signer
	vkey        string
	fingerprint string
}

func newSigningKey(signer note.Signer, vkey string) (*signingKey, error) {
	fingerprint, err := proof.FingerprintOf(vkey)
	if err != nil {
		return nil, err
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, err
	}
	if signer == nil || v.Name() != signer.Name() || v.KeyHash() != signer.KeyHash() {
		return nil, fmt.Errorf("%w: signer and verifier key are not of one pair", ErrKey)
	}
	return &signingKey{signer: signer, vkey: vkey, fingerprint: fingerprint}, nil
}

// keyRow is one key of the history.
type keyRow struct {
	V        uint   `cbor:"v"`
	VKey     string `cbor:"vkey"`
	FromSize uint64 `cbor:"from_size"`
	FromTime int64  `cbor:"from_time"` // Unix nanoseconds
	Handover string `cbor:"handover,omitempty"`
}

var encoding = must(cbor.CoreDetEncOptions().EncMode())

func must(m cbor.EncMode, err error) cbor.EncMode {
	if err != nil {
		panic(err)
	}
	return m
}

// nanos is the snapshot's time; an empty store has none.
func nanos(s store.Snapshot) int64 {
	if t := s.Time(); !t.IsZero() {
		return t.UnixNano()
	}
	return 0
}

func rowKey(k keyRow) store.Key { return keySpace.Key(store.Number(k.FromSize)) }

// newestKey is the last key of the history; ok is false when there is none.
func newestKey(s store.Snapshot) (row keyRow, item store.Item, ok bool, err error) {
	for item, err := range s.ScanBack(store.Key(keySpace), "") {
		if err != nil {
			return row, item, false, err
		}
		return row, item, true, cbor.Unmarshal(item.Value, &row)
	}
	return row, store.Item{}, false, nil
}

// begin makes the store and this node agree on the log key, once: at the very
// first start it records the key as an event of the log. The caller has the turn.
func (l *Log) begin(ctx context.Context) error {
	if l.begun {
		return nil
	}
	known := false
	err := l.store.View(ctx, store.Fresh, func(s store.Snapshot) error {
		row, _, ok, err := newestKey(s)
		if err != nil || !ok {
			return err
		}
		known = true
		return l.agree(row)
	})
	if err == nil && !known {
		err = l.first(ctx)
	}
	if err != nil {
		return fmt.Errorf("open the audit log: %w", err)
	}
	l.begun = true
	return nil
}

// first puts this node's key in force, unless another node was quicker.
func (l *Log) first(ctx context.Context) error {
	_, err := l.store.Update(ctx, func(u *store.Update) error {
		row, _, ok, err := newestKey(u.Snapshot)
		if err != nil {
			return err
		}
		if ok {
			return l.agree(row)
		}
		key := l.key.Load()
		row = keyRow{V: 1, VKey: key.vkey, FromTime: nanos(u.Snapshot)}
		u.Tx.Check(rowKey(row), 0)
		return putKey(u.Tx, row, Record{Kind: Event, Action: KeyBegin, Detail: map[string]any{
			"fingerprint": key.fingerprint, "vkey": key.vkey,
		}})
	})
	return err
}

func (l *Log) agree(row keyRow) error {
	key := l.key.Load()
	if row.VKey == key.vkey {
		return nil
	}
	have, err := proof.FingerprintOf(row.VKey)
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: the log is signed by %s, this node holds %s; bring back the seal folder this log was made with",
		ErrKey, have, key.fingerprint)
}

func putKey(tx *store.Tx, row keyRow, r Record) error {
	value, err := encoding.Marshal(row)
	if err != nil {
		return err
	}
	tx.Put(rowKey(row), value)
	r.Actor = Actor{Kind: auth.System, ID: "audit"}
	r.Resource = Resource{Type: auth.AuditLog.Type, ID: auth.AuditLog.ID}
	return Append(tx, r)
}

// Rotate puts a new log key in force. Both keys sign the handover, which enters
// the key history and, by its hash, the log itself. The caller keeps the new
// key safe before it calls, and the old one until Rotate has returned.
func (l *Log) Rotate(ctx context.Context, signer note.Signer, vkey string) error {
	next, err := newSigningKey(signer, vkey)
	if err != nil {
		return err
	}
	if name := l.key.Load().signer.Name(); next.signer.Name() != name {
		return fmt.Errorf("%w: the new key must bear the log's name %s", ErrKey, name)
	}
	if err := l.take(ctx); err != nil {
		return err
	}
	defer l.give()
	if err := l.begin(ctx); err != nil {
		return err
	}
	_, err = l.store.Update(ctx, func(u *store.Update) error { return l.rotate(u, next) })
	if err != nil {
		return fmt.Errorf("change the log key: %w", err)
	}
	l.key.Store(next)
	return nil
}

func (l *Log) rotate(u *store.Update, next *signingKey) error {
	row, item, _, err := newestKey(u.Snapshot)
	if err != nil {
		return err
	}
	if _, err := u.Get(item.Key); err != nil {
		return err
	}
	if err := l.agree(row); err != nil {
		return err
	}
	// No checkpoint of the old key may slip in between. The handover holds from
	// the next record on, so that no two keys share a row and every checkpoint
	// already signed stays with the old key.
	if _, err := u.Get(lastKey); err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	size := max(u.Snapshot.Log(LogName).Size(), row.FromSize) + 1
	text := proof.HandoverText(next.signer.Name(), row.VKey, next.vkey, size)
	handover, err := note.Sign(&note.Note{Text: text}, l.key.Load().signer, next.signer)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(handover)
	fresh := keyRow{V: 1, VKey: next.vkey, FromSize: size, FromTime: nanos(u.Snapshot), Handover: string(handover)}
	u.Tx.Check(rowKey(fresh), 0)
	return putKey(u.Tx, fresh, Record{Kind: Event, Action: KeyChange, Detail: map[string]any{
		"fingerprint": next.fingerprint, "vkey": next.vkey, "from_size": size,
		"handover_sha256": hexOf(sum[:]), "before": l.key.Load().fingerprint,
	}})
}

// Keys returns the key history, oldest first.
func (l *Log) Keys(ctx context.Context) ([]proof.Key, error) {
	var keys []proof.Key
	err := l.store.View(ctx, store.Local, func(s store.Snapshot) error {
		keys = keys[:0]
		for item, err := range s.Scan(store.Key(keySpace), "") {
			if err != nil {
				return err
			}
			var row keyRow
			if err := cbor.Unmarshal(item.Value, &row); err != nil {
				return fmt.Errorf("key history at %q: %w", item.Key, err)
			}
			fingerprint, err := proof.FingerprintOf(row.VKey)
			if err != nil {
				return err
			}
			keys = append(keys, proof.Key{
				VerifierKey: row.VKey, Fingerprint: fingerprint, FromSize: row.FromSize,
				FromTime: time.Unix(0, row.FromTime).UTC().Format(time.RFC3339Nano), Handover: row.Handover,
			})
		}
		return nil
	})
	return keys, err
}
