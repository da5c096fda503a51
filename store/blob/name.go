package blob

import (
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/cloister-os/cloister/store"
)

// What the replicated state says of blobs. A transaction that names a blob puts
// its entry as well (Name), so that every other node learns that it must hold
// it, and so that an entry's version is never older than the newest reference.
const (
	SpaceName store.Space = "S/blob-name/" // hash → Entry
	SpaceHeld store.Space = "S/blob-held/" // hash, node → (empty): that node holds it
)

// Entry says what the cluster knows of a blob that was named.
type Entry struct {
	V      uint          `cbor:"0,keyasint"`
	Size   int64         `cbor:"1,keyasint"`
	Node   string        `cbor:"2,keyasint,omitempty"` // that named it last
	Idle   store.Version `cbor:"3,keyasint,omitempty"` // nothing named it at this version, or since; 0 = something does
	IdleNs int64         `cbor:"4,keyasint,omitempty"` // leader time of Idle
	Gone   bool          `cbor:"5,keyasint,omitempty"` // nodes delete it
}

const entryV = 1

// NameKey is where a blob's entry is.
func NameKey(h Hash) store.Key { return SpaceName.Key(string(h[:])) }

// HeldKey is there when a node holds the blob.
func HeldKey(h Hash, node string) store.Key { return SpaceHeld.Key(string(h[:]), node) }

// ParseNameKey undoes NameKey.
func ParseNameKey(k store.Key) (Hash, bool) {
	p, ok := SpaceName.Parts(k)
	if !ok || len(p) != 1 || len(p[0]) != len(Hash{}) {
		return Hash{}, false
	}
	return Hash([]byte(p[0])), true
}

// ParseHeldKey undoes HeldKey.
func ParseHeldKey(k store.Key) (h Hash, node string, ok bool) {
	p, ok := SpaceHeld.Parts(k)
	if !ok || len(p) != 2 || len(p[0]) != len(Hash{}) {
		return Hash{}, "", false
	}
	return Hash([]byte(p[0])), p[1], true
}

// Referencer says which blobs the values of a space refer to: what none of them
// refers to is garbage. Each room that writes such values has one.
type Referencer struct {
	Prefix store.Key
	// Refs lists the blobs that a value refers to. An error stops the collection
	// of garbage: what is not understood is not deleted.
	Refs func(item store.Item) ([]Hash, error)
}

// Name makes a transaction say that it names a blob. Every transaction that
// writes a value which refers to a blob calls it, after Secure.
func (s *Store) Name(tx *store.Tx, h Hash, size int64) { tx.Put(NameKey(h), s.NameValue(size)) }

// NameValue is the value of NameKey for a blob that a transaction names.
func (s *Store) NameValue(size int64) []byte {
	e := Entry{Size: size}
	if s.remote != nil {
		e.Node = s.remote.Node()
	}
	return e.Encode()
}

// Encode is the entry as the store keeps it.
func (e Entry) Encode() []byte {
	e.V = entryV
	b, err := deterministic.Marshal(e)
	if err != nil {
		panic(err) // the type encodes
	}
	return b
}

// DecodeEntry undoes Encode.
func DecodeEntry(b []byte) (e Entry, err error) {
	if err := cbor.Unmarshal(b, &e); err != nil {
		return e, fmt.Errorf("read a blob's entry: %w", err)
	}
	return e, nil
}

var deterministic = func() cbor.EncMode {
	m, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic(err) // the options are constants
	}
	return m
}()
