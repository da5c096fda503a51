package graph

import (
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// codec is deterministic CBOR: equal values have equal bytes on every node.
type codec struct {
	enc cbor.EncMode
	dec cbor.DecMode
}

func newCodec() codec {
	enc, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic(err) // the options are constants
	}
	dec, err := cbor.DecOptions{MaxArrayElements: 1 << 22, MaxMapPairs: 1 << 20, MaxNestedLevels: 16}.DecMode()
	if err != nil {
		panic(err) // the options are constants
	}
	return codec{enc, dec}
}

func (c codec) encode(v any) ([]byte, error) {
	b, err := c.enc.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	return b, nil
}

// over encodes v, a struct, and keeps the fields of old that v's type does not
// know: they were written by a newer node.
func (c codec) over(old []byte, v any) ([]byte, error) {
	b, err := c.encode(v)
	if err != nil || len(old) == 0 {
		return b, err
	}
	known, err := c.fields(v)
	if err != nil {
		return nil, err
	}
	var was, is map[uint64]cbor.RawMessage
	if err := c.decode(old, &was); err != nil {
		return nil, err
	}
	if err := c.decode(b, &is); err != nil {
		return nil, err
	}
	for k, raw := range was {
		if k >= known {
			is[k] = raw
		}
	}
	return c.encode(is)
}

// numbered is a value that says how many fields this version of it knows.
type numbered interface{ fieldCount() uint64 }

func (c codec) fields(v any) (uint64, error) {
	n, ok := v.(numbered)
	if !ok {
		return 0, fmt.Errorf("encode %T: it does not say which fields it knows", v)
	}
	return n.fieldCount(), nil
}

func (c codec) decode(b []byte, v any) error {
	if err := c.dec.Unmarshal(b, v); err != nil {
		return fmt.Errorf("decode %T: %w", v, err)
	}
	return nil
}
