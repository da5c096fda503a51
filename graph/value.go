package graph

import (
	"fmt"
	"iter"

	"github.com/cloister-os/cloister/store"
)

// aspectValue is what one record asserts of one entity's properties.
type aspectValue struct {
	V     uint       `cbor:"0,keyasint"`
	Type  Type       `cbor:"1,keyasint"`
	Rule  string     `cbor:"2,keyasint"`
	Props []property `cbor:"3,keyasint"`
}

type property struct {
	_     struct{} `cbor:",toarray"`
	Name  Property
	Value string
	Start int
	End   int
}

// relationValue is stored under both keys of a relation.
type relationValue struct {
	V     uint   `cbor:"0,keyasint"`
	Rule  string `cbor:"1,keyasint"`
	Value string `cbor:"2,keyasint,omitempty"`
	From  int64  `cbor:"3,keyasint,omitempty"` // unix seconds
	To    int64  `cbor:"4,keyasint,omitempty"`
	Start int    `cbor:"5,keyasint,omitempty"`
	End   int    `cbor:"6,keyasint,omitempty"`
}

// assertValue lists the keys that one part of a record wrote, so that they can
// be taken back when the record changes or goes.
type assertValue struct {
	V       uint       `cbor:"0,keyasint"`
	Aspects []EntityID `cbor:"1,keyasint,omitempty"`
	Edges   []edge     `cbor:"2,keyasint,omitempty"`
	Idents  []ident    `cbor:"3,keyasint,omitempty"`
}

const valueV = 1

// aspectOf is an aspect with whose record it is.
type aspectOf struct {
	record  RecordID
	version store.Version
	aspect  aspectValue
}

func (a aspectOf) appendClaims(list []Claim, id EntityID) []Claim {
	for _, p := range a.aspect.Props {
		list = append(list, Claim{Subject: id, Property: p.Name, Value: p.Value, Record: a.record,
			Rule: a.aspect.Rule, Span: Span{p.Start, p.End}, Version: a.version})
	}
	return list
}

// aspects yields what each visible record asserts of an entity.
func (r *Reader) aspects(id EntityID) iter.Seq2[aspectOf, error] {
	return func(yield func(aspectOf, error) bool) {
		for item, err := range r.snap.Scan(SpaceClaim.Prefix(string(id[:])), "") {
			if err != nil {
				yield(aspectOf{}, fmt.Errorf("read entity %s: %w", id, err))
				return
			}
			_, rec, ok := ParseClaimKey(item.Key)
			if !ok || !r.access.May(rec.Source) {
				continue
			}
			a := aspectOf{record: rec, version: item.Version}
			err := r.codec.decode(item.Value, &a.aspect)
			if !yield(a, err) || err != nil {
				return
			}
		}
	}
}
