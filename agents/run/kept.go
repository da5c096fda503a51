package run

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/store"
)

// keptRecord is what is written down of a conversation.
type keptRecord struct {
	V       uint      `cbor:"1,keyasint"`
	Title   string    `cbor:"2,keyasint,omitempty"` // "" = the first question
	Created time.Time `cbor:"3,keyasint"`
	Updated time.Time `cbor:"4,keyasint"`
	Turns   []ID      `cbor:"5,keyasint"` // in order; the first is the conversation's own ID
	Deleted bool      `cbor:"6,keyasint,omitempty"`

	leftover map[uint64]cbor.RawMessage
}

// kept is a conversation as a snapshot shows it.
type kept struct {
	ID
	keptRecord
	at store.Version // 0 = nothing is written down of it
}

// find reads a conversation of an owner; a run of theirs that is none's turn is one.
func (e *Engine) find(ctx context.Context, p auth.Principal, id ID) (k kept, err error) {
	err = e.cfg.Store.View(ctx, store.Fresh, func(s store.Snapshot) error {
		k, err = findKept(s, p, id)
		return err
	})
	return k, err
}

func findKept(s store.Snapshot, p auth.Principal, id ID) (kept, error) {
	k, err := loadKept(s, p, id)
	if err != nil || k.at != 0 {
		return k, err
	}
	h, err := load(s, id)
	if err != nil {
		return kept{}, err
	}
	if h.rec.Owner.Kind != p.Kind || h.rec.Owner.ID != p.ID {
		return kept{}, ErrNotFound
	}
	if h.rec.Root != "" { // a later turn names its conversation too
		return findKept(s, p, h.rec.Root)
	}
	k.Turns, k.Created, k.Updated = []ID{id}, h.rec.Started, h.rec.Started
	return k, nil
}

// loadKept reads what is written down of a conversation, if anything is.
func loadKept(s store.Snapshot, p auth.Principal, id ID) (kept, error) {
	k := kept{ID: id}
	item, err := s.Get(k.key(p))
	if errors.Is(err, store.ErrNotFound) {
		return k, nil
	}
	if err != nil {
		return k, err
	}
	k.at = item.Version
	if err := k.decode(item.Value); err != nil {
		return k, fmt.Errorf("conversation %s: %w", id, err)
	}
	if k.Deleted {
		return kept{}, ErrNotFound
	}
	return k, nil
}

func (k kept) key(p auth.Principal) store.Key {
	return conversations.Key(string(p.Kind), p.ID, string(k.ID))
}

// decode keeps the fields that a newer program wrote.
func (k *kept) decode(b []byte) error {
	if err := decode(b, &k.keptRecord); err != nil {
		return err
	}
	var all map[uint64]cbor.RawMessage
	if err := decode(b, &all); err != nil {
		return err
	}
	for n := uint64(1); n <= 6; n++ {
		delete(all, n)
	}
	k.leftover = all
	return nil
}

func (k kept) put(tx *store.Tx, p auth.Principal) error {
	k.V = recordVersion
	b, err := encode(k.keptRecord)
	if err != nil {
		return err
	}
	if len(k.leftover) > 0 {
		var all map[uint64]cbor.RawMessage
		if err := decode(b, &all); err != nil {
			return err
		}
		for n, raw := range k.leftover {
			all[n] = raw
		}
		if b, err = encode(all); err != nil {
			return err
		}
	}
	tx.Check(k.key(p), k.at)
	tx.Put(k.key(p), b)
	return tx.Err()
}

// add makes a run the next turn.
func (k kept) add(tx *store.Tx, p auth.Principal, id ID, at time.Time) error {
	k.Turns, k.Updated = append(slices.Clone(k.Turns), id), at
	return k.put(tx, p)
}
