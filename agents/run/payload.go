package run

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/blob"
)

// payload is a step's result: in the journal when it is small, else a blob. The
// blob is durable before the transaction that names it.
type payload struct {
	Inline []byte `cbor:"inline,omitempty"`
	Blob   string `cbor:"blob,omitempty"` // SHA-256, hex
	Size   int64  `cbor:"size"`
}

// maxPayload bounds what a step may return.
const maxPayload = 16 << 20

func (e *Engine) keep(ctx context.Context, b []byte) (payload, error) {
	if len(b) > maxPayload {
		return payload{}, fmt.Errorf("its result has %d bytes, more than the %d that a step may return", len(b), maxPayload)
	}
	if len(b) <= inlineBytes {
		return payload{Inline: b, Size: int64(len(b))}, nil
	}
	h, n, err := e.cfg.Blobs.Put(ctx, bytes.NewReader(b))
	if err == nil {
		err = e.cfg.Blobs.Secure(ctx, h)
	}
	if err != nil {
		return payload{}, fmt.Errorf("keep result: %w", err)
	}
	return payload{Blob: h.String(), Size: n}, nil
}

// name makes a transaction say that it names the payload's blob, if it is one.
func (e *Engine) name(tx *store.Tx, p payload) error {
	if p.Blob == "" {
		return nil
	}
	h, err := blob.Parse(p.Blob)
	if err == nil {
		e.cfg.Blobs.Name(tx, h, p.Size)
	}
	return err
}

// BlobReferencers say which blobs runs refer to: their steps' results, and their
// events' data, which is a step's result too but may outlive it.
func BlobReferencers() []blob.Referencer {
	one := func(p *payload) ([]blob.Hash, error) {
		if p == nil || p.Blob == "" {
			return nil, nil
		}
		h, err := blob.Parse(p.Blob)
		return []blob.Hash{h}, err
	}
	return []blob.Referencer{
		{Prefix: steps.Prefix(), Refs: func(item store.Item) ([]blob.Hash, error) {
			var r stepRecord
			if err := decode(item.Value, &r); err != nil {
				return nil, err
			}
			return one(&r.Result)
		}},
		{Prefix: events.Prefix(), Refs: func(item store.Item) ([]blob.Hash, error) {
			var ev Event
			if err := decode(item.Value, &ev); err != nil {
				return nil, err
			}
			return one(ev.Large)
		}},
	}
}

func (e *Engine) open(p payload) ([]byte, error) {
	if p.Blob == "" {
		return p.Inline, nil
	}
	h, err := blob.Parse(p.Blob)
	if err != nil {
		return nil, err
	}
	f, size, err := e.cfg.Blobs.Open(h)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if size > maxPayload {
		return nil, fmt.Errorf("blob %s is larger than a result may be", p.Blob)
	}
	return io.ReadAll(io.LimitReader(f, maxPayload))
}
