package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/fxamacker/cbor/v2"

	"github.com/cloister-os/cloister/store"
)

// hello is what both sides say first: the one who dialed, then the other. It is
// what turns a refusal into a sentence; TLS alone would only hang up.
type hello struct {
	Version int    `cbor:"1,keyasint"` // of this message
	Cluster string `cbor:"2,keyasint"`
	Node    string `cbor:"3,keyasint"`
	Program string `cbor:"4,keyasint"`
	Newest  int    `cbor:"5,keyasint"` // data formats that the program knows
	Oldest  int    `cbor:"6,keyasint"`
	Format  int    `cbor:"7,keyasint"` // data format that the cluster works at, as far as the node knows
	Refused string `cbor:"8,keyasint,omitempty"`
	Removed bool   `cbor:"9,keyasint,omitempty"` // the refusal is for ever
}

const (
	helloVersion = 1
	maxHello     = 4 << 10
)

func (p *Port) hello() hello {
	return hello{
		Version: helloVersion, Cluster: p.cfg.Cluster, Node: p.cfg.Node, Program: p.cfg.Program,
		Newest: store.Format, Oldest: store.OldestFormat, Format: p.cfg.Format(),
	}
}

// fits says why two programs cannot work together. A node that was off may not
// know that the cluster has moved on, so the higher format of both counts.
func (h hello) fits(other hello) error {
	format := max(h.Format, other.Format)
	for _, one := range []hello{h, other} {
		switch {
		case format > one.Newest:
			return fmt.Errorf("%w: node %s runs program %s, which knows data formats up to %d, and the cluster works at format %d; install the cluster's program on it",
				ErrRefused, one.Node, one.Program, one.Newest, format)
		case format < one.Oldest:
			return fmt.Errorf("%w: node %s runs program %s, which knows data formats from %d on, and the cluster works at format %d; go through a release in between, and finalise it",
				ErrRefused, one.Node, one.Program, one.Oldest, format)
		}
	}
	return nil
}

// writeFrame writes a value as CBOR behind its length in two bytes.
func writeFrame(w io.Writer, v any) error {
	b, err := cbor.Marshal(v)
	if err != nil {
		return err
	}
	if len(b) > maxFrame {
		return fmt.Errorf("a message of %d bytes is too long", len(b))
	}
	out := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(b)), uint32(len(b)))
	_, err = w.Write(append(out, b...))
	return err
}

// maxFrame bounds every message of hello and join.
const maxFrame = 256 << 10

// readFrame reads what writeFrame wrote, and no more than limit bytes.
func readFrame(r io.Reader, limit int, v any) error {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(size[:])
	if uint64(n) > uint64(limit) {
		return fmt.Errorf("%w: the other side sent a message of %d bytes, and %d are the most: something else than a node speaks there", ErrRefused, n, limit)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return err
	}
	if err := strict().Unmarshal(b, v); err != nil {
		return errors.Join(ErrRefused, fmt.Errorf("the other side's message cannot be read: %w", err))
	}
	return nil
}

// strict decodes what strangers may send: bounded in depth and number.
func strict() cbor.DecMode {
	m, err := cbor.DecOptions{MaxArrayElements: 1024, MaxMapPairs: 256, MaxNestedLevels: 8, DupMapKey: cbor.DupMapKeyEnforcedAPF}.DecMode()
	if err != nil {
		panic(err) // the options are constant
	}
	return m
}
