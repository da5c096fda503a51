package graph

import (
	"strings"

	"github.com/cloister-os/cloister/store"
)

// Key spaces. Truth is in the history database, so that the past can be read;
// what a sync needs to go on is in the state database.
//
//	H/source/    source                                   → Source
//	H/record/    source stream native                     → Record
//	H/claim/     entity source stream native              → properties of the entity that the record asserts
//	H/out/       from relation rank to source stream native → relation
//	H/in/        to relation rank from source stream native → relation, the reverse
//	H/ident/     namespace value entity source stream native → (empty)
//	H/assert/    source stream native part                → keys of the four spaces above that the record wrote
//	H/watermark/ source                                   → Watermark
//	S/partial/   source stream native                     → (empty) a record larger than a transaction, not wholly written
//	S/cursor/    source …                                 → the connector's own
//	S/graph/moved                                         → (empty) see KeyMoved
//
// SpaceRecord is what a tailer watches: one write for each record that came,
// changed (value) or went (deleted).
const (
	SpaceSource    store.Space = "H/source/"
	SpaceRecord    store.Space = "H/record/"
	SpaceClaim     store.Space = "H/claim/"
	SpaceOut       store.Space = "H/out/"
	SpaceIn        store.Space = "H/in/"
	SpaceIdent     store.Space = "H/ident/"
	SpaceAssert    store.Space = "H/assert/"
	SpaceWatermark store.Space = "H/watermark/"
	SpacePartial   store.Space = "S/partial/"
	SpaceCursor    store.Space = "S/cursor/"
)

// KeyMoved is written by every transaction of a Writer, so its version is that of
// the newest change to the graph: a tailer that has reached it has seen all.
const KeyMoved store.Key = "S/graph/moved"

// RecordKey is where a record lives.
func RecordKey(id RecordID) store.Key { return SpaceRecord.Key(id.Source, id.Stream, id.Native) }

// ParseRecordKey undoes RecordKey.
func ParseRecordKey(k store.Key) (RecordID, bool) {
	p, ok := SpaceRecord.Parts(k)
	if !ok || len(p) != 3 {
		return RecordID{}, false
	}
	return RecordID{p[0], p[1], p[2]}, true
}

// ParseClaimKey tells a tailer of SpaceClaim whose properties changed and which
// record asserts them.
func ParseClaimKey(k store.Key) (EntityID, RecordID, bool) {
	p, ok := SpaceClaim.Parts(k)
	if !ok || len(p) != 4 || len(p[0]) != len(EntityID{}) {
		return EntityID{}, RecordID{}, false
	}
	return EntityID([]byte(p[0])), RecordID{p[1], p[2], p[3]}, true
}

func claimKey(e EntityID, id RecordID) store.Key {
	return SpaceClaim.Key(string(e[:]), id.Source, id.Stream, id.Native)
}

// edge is a relation claim's place: both of its keys follow from it.
type edge struct {
	_        struct{} `cbor:",toarray"`
	Relation Relation
	From     EntityID
	To       EntityID
	Rank     uint64
}

func (e edge) outKey(id RecordID) store.Key {
	return SpaceOut.Key(string(e.From[:]), string(e.Relation), store.Number(e.Rank), string(e.To[:]), id.Source, id.Stream, id.Native)
}

func (e edge) inKey(id RecordID) store.Key {
	return SpaceIn.Key(string(e.To[:]), string(e.Relation), store.Number(e.Rank), string(e.From[:]), id.Source, id.Stream, id.Native)
}

// parseEdgeKey reads a key of SpaceOut or SpaceIn: near is the entity that the
// key begins with, far the other.
func parseEdgeKey(space store.Space, k store.Key) (near, far EntityID, rel Relation, rank uint64, id RecordID, ok bool) {
	p, ok := space.Parts(k)
	if !ok || len(p) != 7 || len(p[0]) != 16 || len(p[3]) != 16 {
		return near, far, rel, rank, id, false
	}
	rank, ok = store.ParseNumber(p[2])
	return EntityID([]byte(p[0])), EntityID([]byte(p[3])), Relation(p[1]), rank, RecordID{p[4], p[5], p[6]}, ok
}

// ident is an identifier claim's place.
type ident struct {
	_         struct{} `cbor:",toarray"`
	Namespace string
	Value     string
	Entity    EntityID
}

func (i ident) key(id RecordID) store.Key {
	return SpaceIdent.Key(i.Namespace, i.Value, string(i.Entity[:]), id.Source, id.Stream, id.Native)
}

func assertKey(id RecordID, part int) store.Key {
	return SpaceAssert.Key(id.Source, id.Stream, id.Native, store.Number(uint64(part)))
}

// startOf is the prefix of keys whose last given part begins with, rather than
// equals, the last of parts.
func startOf(s store.Space, parts ...string) store.Key {
	return store.Key(strings.TrimSuffix(string(s.Key(parts...)), "\x00\x01"))
}
