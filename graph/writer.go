package graph

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/blob"
)

// Bounds of a Writer.
const (
	maxInFlight  = 8        // transactions submitted and not yet waited for
	maxTouched   = 50_000   // records remembered as written since the last Flush
	maxPartBytes = 40 << 10 // of an assert value
)

// CursorWrite is one entry of a connector's cursor, committed in the same
// transaction as the record it speaks of. A nil Value removes the entry.
type CursorWrite struct {
	Parts []string // below SpaceCursor and the source's name
	Value []byte
}

// Writer writes what one sync reads: whole records with all that they assert,
// and the cursor entries that say so, in transactions of many records, several
// of them under way at once as bulk work. A record and its cursor entry are in
// one transaction; a record too large for that is marked partial until it is
// whole, and its cursor entry comes last.
//
// It is used by one goroutine. After an error nothing more is written; what was
// acknowledged stays, and the next sync goes on from there.
type Writer struct {
	store  store.Store
	blobs  *blob.Store
	source string
	codec  codec

	fence   store.Key // checked by every transaction; "" = none
	fenceAt store.Version
	tx      *store.Tx
	flights []flight
	touched map[RecordID]bool
	named   []blob.Hash // blobs of the records that wait to be submitted
	claims  int64
	err     error
}

type flight struct {
	tx     *store.Tx
	future store.Future
}

// NewWriter returns a writer of the source's records.
func NewWriter(st store.Store, blobs *blob.Store, source string) *Writer {
	w := &Writer{store: st, blobs: blobs, source: source, codec: newCodec(), touched: map[RecordID]bool{}}
	w.tx = w.newTx()
	return w
}

// Fence makes every transaction conditional on a key's version, so that a writer
// whose source was given to another writes nothing more. It is called first.
func (w *Writer) Fence(key store.Key, at store.Version) *Writer {
	w.fence, w.fenceAt = key, at
	w.tx = w.newTx()
	return w
}

// Claims is how many claims have been written so far; what was there already
// and had not changed does not count.
func (w *Writer) Claims() int64 { return w.claims }

// Content keeps bytes for a record: inline when short, else as a blob, which is
// durable when Content returns.
func (w *Writer) Content(ctx context.Context, b []byte) (Content, error) {
	c := Content{Hash: sha256.Sum256(b), Size: int64(len(b))}
	if len(b) <= MaxInlineBytes {
		c.Inline = b
		return c, nil
	}
	_, err := w.blobs.PutBytes(ctx, b)
	return c, err
}

// EncodeOutline makes an outline a content.
func (w *Writer) EncodeOutline(ctx context.Context, o Outline) (Content, error) {
	o.V = valueV
	b, err := w.codec.encode(o)
	if err != nil {
		return Content{}, err
	}
	return w.Content(ctx, b)
}

// Put makes the record and its claims what the assertion says, replacing all
// that the record asserted before.
func (w *Writer) Put(ctx context.Context, a Assertion, cursor ...CursorWrite) error {
	a.Record.ID.Native = NativeKey(a.Record.ID.Native)
	if a.Record.ID.Source != w.source {
		return w.fail(fmt.Errorf("write record %s: this writer is of source %q", a.Record.ID, w.source))
	}
	old, err := w.before(ctx, a.Record.ID)
	if err != nil {
		return w.fail(err)
	}
	next, err := w.layout(a)
	if err != nil {
		return w.fail(err)
	}
	return w.fail(w.write(ctx, a.Record.ID, w.plan(old, next, cursor)))
}

// Delete removes a record and all that it asserted.
func (w *Writer) Delete(ctx context.Context, id RecordID, cursor ...CursorWrite) error {
	old, err := w.before(ctx, id)
	if err != nil {
		return w.fail(err)
	}
	return w.fail(w.write(ctx, id, w.plan(old, layout{}, cursor)))
}

// Cursor writes cursor entries that speak of no record.
func (w *Writer) Cursor(ctx context.Context, cursor ...CursorWrite) error {
	for _, c := range cursor {
		if err := w.group(ctx, []op{w.cursorOp(c)}); err != nil {
			return w.fail(err)
		}
	}
	return w.err
}

// Flush returns when everything written so far is durable.
func (w *Writer) Flush(ctx context.Context) error {
	if err := w.seal(ctx); err != nil {
		return w.fail(err)
	}
	for len(w.flights) > 0 {
		if err := w.land(ctx); err != nil {
			return w.fail(err)
		}
	}
	clear(w.touched)
	return w.err
}

// Finish ends a scan that completed: it removes the records that an earlier
// sync left partial and that this one did not find again, moves the watermark,
// and returns when all is durable.
func (w *Writer) Finish(ctx context.Context, mark Watermark) error {
	if err := w.Flush(ctx); err != nil {
		return err
	}
	left, err := w.partial(ctx)
	if err != nil {
		return w.fail(err)
	}
	for _, id := range left {
		if err := w.Delete(ctx, id); err != nil {
			return err
		}
	}
	mark.V = valueV
	value, err := w.codec.encode(mark)
	if err != nil {
		return w.fail(err)
	}
	if err := w.group(ctx, []op{{key: SpaceWatermark.Key(w.source), value: value}}); err != nil {
		return w.fail(err)
	}
	return w.Flush(ctx)
}

// RemoveAll removes everything the source ever said and its cursor; the caller
// removes the definition. It can be repeated after an interruption.
func (w *Writer) RemoveAll(ctx context.Context) error {
	for {
		ids, err := w.firstRecords(ctx, 500)
		if err != nil {
			return w.fail(err)
		}
		for _, id := range ids {
			if err := w.Delete(ctx, id); err != nil {
				return err
			}
		}
		if err := w.Flush(ctx); err != nil {
			return err
		}
		if len(ids) == 0 {
			break
		}
	}
	if err := w.Finish(ctx, Watermark{}); err != nil {
		return err
	}
	for _, prefix := range []store.Key{SpaceCursor.Prefix(w.source), SpaceWatermark.Key(w.source)} {
		if err := w.removeRange(ctx, prefix); err != nil {
			return w.fail(err)
		}
	}
	return w.Flush(ctx)
}

func (w *Writer) firstRecords(ctx context.Context, max int) (ids []RecordID, err error) {
	err = w.store.View(ctx, store.Local, func(s store.Snapshot) error {
		for item, err := range s.Scan(SpaceRecord.Prefix(w.source), "") {
			if err != nil {
				return err
			}
			if id, ok := ParseRecordKey(item.Key); ok {
				ids = append(ids, id)
			}
			if len(ids) == max {
				break
			}
		}
		return nil
	})
	return ids, err
}

func (w *Writer) removeRange(ctx context.Context, prefix store.Key) error {
	for after := store.Key(""); ; {
		var keys []store.Key
		err := w.store.View(ctx, store.Local, func(s store.Snapshot) error {
			for item, err := range s.Scan(prefix, after) {
				if err != nil {
					return err
				}
				if keys = append(keys, item.Key); len(keys) == store.MaxTxOps {
					break
				}
			}
			return nil
		})
		if err != nil || len(keys) == 0 {
			return err
		}
		for _, k := range keys {
			if err := w.group(ctx, []op{{key: k}}); err != nil {
				return err
			}
		}
		after = keys[len(keys)-1]
	}
}

// partial lists the records that are marked as not wholly written.
func (w *Writer) partial(ctx context.Context) (ids []RecordID, err error) {
	err = w.store.View(ctx, store.Local, func(s store.Snapshot) error {
		for item, err := range s.Scan(SpacePartial.Prefix(w.source), "") {
			if err != nil {
				return err
			}
			if p, ok := SpacePartial.Parts(item.Key); ok && len(p) == 3 {
				ids = append(ids, RecordID{p[0], p[1], p[2]})
			}
		}
		return nil
	})
	return ids, err
}

// fail remembers the first error; nothing is written after it.
func (w *Writer) fail(err error) error {
	if w.err == nil && err != nil {
		w.err = fmt.Errorf("write what source %q says: %w", w.source, err)
	}
	return w.err
}

// newTx begins a transaction that says that the graph has moved.
func (w *Writer) newTx() *store.Tx {
	tx := store.NewTx()
	if w.fence != "" {
		tx.Check(w.fence, w.fenceAt)
	}
	tx.Put(KeyMoved, nil)
	return tx
}

// seal submits the transaction being filled, waiting for room first.
func (w *Writer) seal(ctx context.Context) error {
	if w.err != nil || w.tx.Len() == w.newTx().Len() {
		return w.err
	}
	for len(w.flights) >= maxInFlight {
		if err := w.land(ctx); err != nil {
			return err
		}
	}
	tx := w.tx
	w.tx = w.newTx()
	if err := tx.Err(); err != nil {
		return err
	}
	if err := w.secure(ctx); err != nil {
		return err
	}
	w.flights = append(w.flights, flight{tx, w.store.Submit(ctx, tx, store.Bulk)})
	return nil
}

// secure waits until what the records name is held by more nodes than this one.
func (w *Writer) secure(ctx context.Context) error {
	if len(w.named) == 0 {
		return nil
	}
	err := w.blobs.Secure(ctx, w.named...)
	w.named = w.named[:0]
	return err
}

// land waits for the oldest transaction under way. A full queue is waited out
// and an unknown outcome is asked for again with the same transaction, until
// the context ends.
func (w *Writer) land(ctx context.Context) error {
	f := w.flights[0]
	w.flights = w.flights[1:]
	_, err := f.future.Wait(ctx)
	for backoff := newBackoff(); errors.Is(err, store.ErrBusy) || errors.Is(err, store.ErrUnknown); {
		if waitErr := backoff.wait(ctx); waitErr != nil {
			return errors.Join(err, waitErr)
		}
		_, err = w.store.Submit(ctx, f.tx, store.Bulk).Wait(ctx)
	}
	return err
}
