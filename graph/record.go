package graph

import (
	"fmt"
	"strings"
	"time"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/blob"
)

// Streams of records: the kinds of thing that one source holds.
const (
	StreamCommit   = "commit"
	StreamPerson   = "person"
	StreamTag      = "tag"
	StreamHead     = "head"     // one record: the repository and its default branch
	StreamDocument = "document" // native key: the path
)

// RecordID names a record for ever: where it came from and what it is called there.
type RecordID struct {
	Source string
	Stream string
	Native string // the native key; see NativeKey
}

// MaxNativeBytes bounds a native key.
const MaxNativeBytes = 512

// NativeKey returns s if it is short enough for a native key, or else its
// beginning and its hash.
func NativeKey(s string) string {
	if len(s) <= MaxNativeBytes {
		return s
	}
	return strings.ToValidUTF8(s[:MaxNativeBytes-66], "") + "#" + NewEntityID("native", s).String()
}

// String is source/stream/native, as citations show it.
func (id RecordID) String() string { return id.Source + "/" + id.Stream + "/" + id.Native }

// ParseRecordID undoes String.
func ParseRecordID(s string) (RecordID, error) {
	parts := strings.SplitN(s, "/", 3)
	if len(parts) != 3 || parts[0] == "" || parts[1] == "" || parts[2] == "" {
		return RecordID{}, fmt.Errorf("%q is not a record (source/stream/key)", s)
	}
	return RecordID{parts[0], parts[1], parts[2]}, nil
}

// MarshalText makes the id a string in JSON.
func (id RecordID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText undoes MarshalText.
func (id *RecordID) UnmarshalText(b []byte) (err error) {
	*id, err = ParseRecordID(string(b))
	return err
}

// MaxInlineBytes is the most that a record carries of each of its contents
// itself; what is larger is a blob.
const MaxInlineBytes = 16 << 10

// Content is a sequence of bytes: inside the record when short, else the blob
// of the same name. Reader.Bytes reads both.
type Content struct {
	Hash   blob.Hash `cbor:"0,keyasint"`
	Size   int64     `cbor:"1,keyasint"`
	Inline []byte    `cbor:"2,keyasint,omitempty"`
}

// IsZero reports whether there is no content at all.
func (c Content) IsZero() bool { return c.Hash == blob.Hash{} }

// Record is what one source holds under one native key. Replacing it replaces
// everything it asserts; a deleted record is gone from the current version and
// still there at an earlier one.
type Record struct {
	V       uint     `cbor:"0,keyasint"`
	Entity  EntityID `cbor:"1,keyasint"`            // what the record is about
	Type    Type     `cbor:"2,keyasint"`            // of that entity
	Rule    string   `cbor:"3,keyasint"`            // the mapping rule with its version, such as "git.commit/1"
	Title   string   `cbor:"4,keyasint,omitempty"`  // for people
	URI     string   `cbor:"5,keyasint,omitempty"`  // where a person finds it in the source
	TimeNs  int64    `cbor:"6,keyasint,omitempty"`  // see Time
	Payload Content  `cbor:"7,keyasint"`            // as read (documents) or as rendered by the rule (commits, tags)
	Text    Content  `cbor:"8,keyasint,omitzero"`   // documents: the extracted text that passages are ranges of
	Outline Content  `cbor:"9,keyasint,omitzero"`   // documents: the encoded Outline; read by Reader.Outline
	Extract string   `cbor:"10,keyasint,omitempty"` // documents: the extractor and its version
	Claims  int      `cbor:"11,keyasint,omitempty"` // how many claims it asserts

	ID      RecordID      `cbor:"-"` // from its key
	Version store.Version `cbor:"-"` // that wrote it
}

const recordV = 1

// blobs are the contents that are blobs.
func (r Record) blobs() (out []Content) {
	for _, c := range []Content{r.Payload, r.Text, r.Outline} {
		if c.Size > int64(len(c.Inline)) {
			out = append(out, c)
		}
	}
	return out
}

// BlobReferencer says which blobs the records refer to.
func BlobReferencer() blob.Referencer {
	codec := newCodec()
	return blob.Referencer{Prefix: SpaceRecord.Prefix(), Refs: func(item store.Item) ([]blob.Hash, error) {
		r := Record{}
		if err := codec.decode(item.Value, &r); err != nil {
			return nil, err
		}
		var out []blob.Hash
		for _, c := range r.blobs() {
			out = append(out, c.Hash)
		}
		return out, nil
	}}
}

// Time is when the source says that this happened or was last changed, UTC.
func (r Record) Time() time.Time { return time.Unix(0, r.TimeNs).UTC() }
