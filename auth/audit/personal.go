package audit

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/store"
)

// Openings of personal fields stand in the state database, where a deleted
// value does not linger: openings by record and field, subjects by person so
// that a person's can be found.
const (
	openingSpace store.Space = "S/audit/opening/" // record id, field -> openingRow
	subjectSpace store.Space = "S/audit/subject/" // subject, record id, field -> nothing
)

const saltBytes = 32

// openingRow is a sealed opening; its plaintext is the salt, then the value.
type openingRow struct {
	V       uint   `cbor:"v"`
	Subject string `cbor:"subject"`
	Sealed  []byte `cbor:"sealed"`
}

// Opening is what a commitment commits to.
type Opening struct {
	Field string
	Salt  []byte
	Value string
}

// Commitment is SHA-256 over the salt (32 random bytes), then the value.
func Commitment(salt []byte, value string) string {
	h := sha256.New()
	h.Write(salt)
	h.Write([]byte(value))
	return hexOf(h.Sum(nil))
}

// Personal adds a personal field to a record that is then appended with tx: the
// record holds only a salted commitment, tx keeps the sealed opening. subject is
// the opaque id of the person whom the value tells of; Forget takes it.
func (l *Log) Personal(tx *store.Tx, r *Record, subject, field, value string) error {
	if l.sealer == nil {
		return fmt.Errorf("keep a personal field: %w: this log has no sealer", store.ErrInvalid)
	}
	if !validName(field) || len(value) > maxText {
		return fmt.Errorf("keep a personal field: %w: %q is no field name, or its value is longer than %d bytes", store.ErrInvalid, field, maxText)
	}
	if r.ID == "" {
		r.ID = NewID()
	}
	salt := make([]byte, saltBytes)
	rand.Read(salt)
	key := openingSpace.Key(r.ID, field)
	sealed, err := l.sealer.Seal([]byte(key), append(salt[:saltBytes:saltBytes], value...))
	if err != nil {
		return fmt.Errorf("seal a personal field: %w", err)
	}
	row, err := encoding.Marshal(openingRow{V: 1, Subject: subject, Sealed: sealed})
	if err != nil {
		return err
	}
	tx.Put(key, row)
	tx.Put(subjectSpace.Key(subject, r.ID, field), nil)
	if r.Personal == nil {
		r.Personal = map[string]string{}
	}
	r.Personal[field] = Commitment(salt, value)
	return tx.Err()
}

// Openings returns the openings of a record that were not forgotten.
func (l *Log) Openings(ctx context.Context, recordID string) ([]Opening, error) {
	var out []Opening
	err := l.store.View(ctx, store.Local, func(s store.Snapshot) (err error) {
		out, err = l.openings(s, recordID)
		return err
	})
	return out, err
}

func (l *Log) openings(s store.Snapshot, recordID string) ([]Opening, error) {
	var out []Opening
	for item, err := range s.Scan(openingSpace.Prefix(recordID), "") {
		if err != nil {
			return nil, err
		}
		parts, ok := openingSpace.Parts(item.Key)
		var row openingRow
		if err := cbor.Unmarshal(item.Value, &row); err != nil || !ok || len(parts) != 2 {
			return nil, fmt.Errorf("opening at %q is malformed", item.Key)
		}
		if l.sealer == nil {
			return nil, errors.New("personal fields cannot be opened: this log has no sealer")
		}
		plain, err := l.sealer.Open([]byte(item.Key), row.Sealed)
		if err != nil || len(plain) < saltBytes {
			return nil, fmt.Errorf("open the personal field %s of record %s: %w", parts[1], recordID, err)
		}
		out = append(out, Opening{Field: parts[1], Salt: plain[:saltBytes], Value: string(plain[saltBytes:])})
	}
	return out, nil
}

// forgetAtOnce is how many openings one transaction of Forget destroys.
const forgetAtOnce = 200

// Forget destroys every opening of a person's fields and records that it did,
// with by as the actor. The records stand and the log still verifies; what the
// commitments hid can no longer be told. It returns how many were destroyed and
// may be called again after an error.
func (l *Log) Forget(ctx context.Context, by auth.Principal, subject string) (int, error) {
	total := 0
	for {
		n := 0
		_, err := l.store.Update(ctx, func(u *store.Update) error {
			n = 0
			for item, err := range u.Snapshot.Scan(subjectSpace.Prefix(subject), "") {
				if err != nil {
					return err
				}
				parts, ok := subjectSpace.Parts(item.Key)
				if !ok || len(parts) != 3 {
					return fmt.Errorf("subject row %q is malformed", item.Key)
				}
				u.Delete(item.Key)
				u.Delete(openingSpace.Key(parts[1], parts[2]))
				if n++; n == forgetAtOnce {
					break
				}
			}
			return Append(u.Tx, Record{
				Kind: Event, Action: Forgotten, Actor: ActorOf(by),
				Resource: Resource{Type: "Subject", ID: subject}, Detail: map[string]any{"destroyed": n},
			})
		})
		if err != nil {
			return total, fmt.Errorf("forget %s: %w", subject, err)
		}
		if total += n; n < forgetAtOnce {
			return total, nil
		}
	}
}
