package graph

import (
	"fmt"
	"iter"

	"github.com/cloister-os/cloister/store"
)

// This file reads and writes the definitions of sources and their watermarks;
// who may do so is graph/connect's business.

func (Source) fieldCount() uint64    { return 8 }
func (Watermark) fieldCount() uint64 { return 2 }

// sources yields all definitions, whoever reads.
func sources(s store.Snapshot) iter.Seq2[Source, error] {
	return func(yield func(Source, error) bool) {
		c := newCodec()
		for item, err := range s.Scan(store.Key(SpaceSource), "") {
			src := Source{}
			if err == nil {
				err = c.decode(item.Value, &src)
			}
			src.Version = item.Version
			if !yield(src, err) || err != nil {
				return
			}
		}
	}
}

func readSource(s store.Snapshot, c codec, name string) (Source, error) {
	item, err := s.Get(SpaceSource.Key(name))
	src := Source{}
	if err == nil {
		err = c.decode(item.Value, &src)
	}
	if err != nil {
		return Source{}, fmt.Errorf("source %q: %w", name, err)
	}
	src.Version = item.Version
	return src, nil
}

// PutSource adds the definition to the transaction. old is what it replaces as
// read from the store, or nil; fields that a newer node wrote are kept.
func PutSource(tx *store.Tx, src Source, old []byte) error {
	src.V = sourceV
	b, err := newCodec().over(old, src)
	if err != nil {
		return err
	}
	tx.Put(SpaceSource.Key(src.Name), b)
	return nil
}

// DecodeSource reads a definition.
func DecodeSource(b []byte) (Source, error) {
	src := Source{}
	return src, newCodec().decode(b, &src)
}

// AllSources lists every definition in the snapshot, for those who manage them.
func AllSources(s store.Snapshot) ([]Source, error) {
	var out []Source
	for src, err := range sources(s) {
		if err != nil {
			return nil, fmt.Errorf("list sources: %w", err)
		}
		out = append(out, src)
	}
	return out, nil
}
