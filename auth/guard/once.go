package guard

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/schema"
)

// onces holds, for each idempotency key that came with a request, what was done
// for it: kind and id of who asked, SHA-256 of the key.
const onces store.Space = "S/once/"

// onceKept is for how long a request may be sent again with its key.
const onceKept = 24 * time.Hour

// MaxOnceKey bounds an idempotency key.
const MaxOnceKey = 200

// Once makes what a request changes happen once, however often and through
// whichever node the request is sent: the change and the note of it are one
// transaction. The zero value and nil do nothing.
type Once struct {
	key     store.Key
	request string // digest of what is asked for
	now     func() time.Time
}

type onceRow struct {
	V       uint   `cbor:"v"`
	Request string `cbor:"request"`
	Note    []byte `cbor:"note"`
	At      int64  `cbor:"at"` // seconds since 1970
}

// DoneError says that the request was carried out before, and what was noted of
// it then.
type DoneError struct{ Note []byte }

func (e *DoneError) Error() string { return "this request was carried out before" }

type onceContext struct{}

// WithOnce lets what is done under the context for the request happen once for
// the key. request says what is asked for, in any form.
func (g *Guard) WithOnce(ctx context.Context, p auth.Principal, key string, request []byte) (context.Context, error) {
	if key == "" || len(key) > MaxOnceKey {
		return ctx, fmt.Errorf("%w: an idempotency key has 1 to %d bytes", store.ErrInvalid, MaxOnceKey)
	}
	k, r := sha256.Sum256([]byte(key)), sha256.Sum256(request)
	o := &Once{key: onces.Key(string(p.Kind), p.ID, hex.EncodeToString(k[:])), request: hex.EncodeToString(r[:]), now: g.now}
	return context.WithValue(ctx, onceContext{}, o), nil
}

// OnceOf is what WithOnce put into the context, or nil.
func OnceOf(ctx context.Context) *Once {
	o, _ := ctx.Value(onceContext{}).(*Once)
	return o
}

// Claim adds the note to a change in the making; the error is a *DoneError when
// the change was made before. Whoever changes something calls it first.
func (o *Once) Claim(u *store.Update, note []byte) error {
	if o == nil {
		return nil
	}
	item, err := u.Get(o.key)
	if err == nil {
		return o.before(item)
	}
	if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	u.Put(o.key, schema.MustEncode(onceRow{V: 1, Request: o.request, Note: note, At: o.now().Unix()}))
	return nil
}

func (o *Once) before(item store.Item) error {
	var row onceRow
	if err := cbor.Unmarshal(item.Value, &row); err != nil {
		return fmt.Errorf("what was done for this idempotency key cannot be read: %w", err)
	}
	if row.Request != o.request {
		return fmt.Errorf("%w: this idempotency key was used for another request: send a new one", store.ErrInvalid)
	}
	return &DoneError{row.Note}
}

// cleanOnces forgets, on the node that leads, what was done long ago.
func (g *Guard) cleanOnces(ctx context.Context) error {
	before := g.now().Add(-onceKept).Unix()
	var old []store.Item
	err := g.store.View(ctx, store.Local, func(s store.Snapshot) error {
		for item, err := range s.Scan(onces.Prefix(), "") {
			if err != nil {
				return err
			}
			var row onceRow
			if cbor.Unmarshal(item.Value, &row) != nil || row.At < before {
				old = append(old, item)
			}
		}
		return nil
	})
	for i := 0; i < len(old) && err == nil; i++ {
		tx := store.NewTx()
		tx.Check(old[i].Key, old[i].Version)
		tx.Delete(old[i].Key)
		if _, err = g.store.Submit(ctx, tx, store.Bulk).Wait(ctx); errors.Is(err, store.ErrConflict) {
			err = nil
		}
	}
	return err
}
