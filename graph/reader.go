package graph

import (
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/blob"
)

// Blobs is what a Reader needs of a blob store; *blob.Store satisfies it.
type Blobs interface {
	ReadRange(h blob.Hash, start, end int64) ([]byte, error)
	Read(h blob.Hash, max int64) ([]byte, error)
}

// maxContentBytes bounds what Bytes loads at once.
const maxContentBytes = 64 << 20

// Reader reads the graph as it stood at one snapshot, as far as an Access lets
// it. What may not be seen looks absent: ErrNotFound, or skipped. Like its
// snapshot it is valid only inside the View and used by one goroutine at a time.
type Reader struct {
	snap   store.Snapshot
	access Access
	blobs  Blobs
	codec  codec
}

// NewReader returns a reader of the snapshot. blobs may be nil when no content
// larger than MaxInlineBytes is read.
func NewReader(s store.Snapshot, a Access, blobs Blobs) *Reader {
	return &Reader{snap: s, access: a, blobs: blobs, codec: newCodec()}
}

// Version is the version that everything is read at.
func (r *Reader) Version() store.Version { return r.snap.Version() }

// Access is what may be read.
func (r *Reader) Access() Access { return r.access }

// Order is the direction in which relations are read: by Rank, then by the
// other entity's id.
type Order bool

// The orders.
const (
	Ascending  Order = false
	Descending Order = true // the latest first
)

// Record returns a record.
func (r *Reader) Record(id RecordID) (Record, error) {
	if !r.access.May(id.Source) {
		return Record{}, notFound("record", id)
	}
	item, err := r.snap.Get(RecordKey(id))
	if errors.Is(err, store.ErrNotFound) {
		return Record{}, notFound("record", id)
	}
	if err != nil {
		return Record{}, fmt.Errorf("read record %s: %w", id, err)
	}
	return r.decodeRecord(item)
}

func (r *Reader) decodeRecord(item store.Item) (Record, error) {
	id, ok := ParseRecordKey(item.Key)
	if !ok {
		return Record{}, fmt.Errorf("key %q is not a record's", item.Key)
	}
	rec := Record{}
	if err := r.codec.decode(item.Value, &rec); err != nil {
		return Record{}, fmt.Errorf("record %s: %w", id, err)
	}
	rec.ID, rec.Version = id, item.Version
	return rec, nil
}

// Records yields the records of a source's stream in the order of their native
// keys; an empty stream means all streams.
func (r *Reader) Records(source, stream string) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		if !r.access.May(source) {
			return
		}
		prefix := SpaceRecord.Prefix(source)
		if stream != "" {
			prefix = SpaceRecord.Prefix(source, stream)
		}
		for item, err := range r.snap.Scan(prefix, "") {
			rec := Record{}
			if err == nil {
				rec, err = r.decodeRecord(item)
			}
			if !yield(rec, err) || err != nil {
				return
			}
		}
	}
}

// Entity returns an entity with the properties that may be seen.
func (r *Reader) Entity(id EntityID) (Entity, error) {
	e := Entity{ID: id}
	for a, err := range r.aspects(id) {
		if err != nil {
			return Entity{}, err
		}
		if e.Type == "" {
			e.Type = a.aspect.Type
		}
		e.Records = append(e.Records, a.record)
		e.Claims = a.appendClaims(e.Claims, id)
	}
	if len(e.Records) == 0 {
		return Entity{}, notFound("entity", id)
	}
	return e, nil
}

// Claims yields the property claims of an entity: by record, then as asserted.
func (r *Reader) Claims(id EntityID) iter.Seq2[Claim, error] {
	return func(yield func(Claim, error) bool) {
		for a, err := range r.aspects(id) {
			if err != nil {
				yield(Claim{}, err)
				return
			}
			for _, c := range a.appendClaims(nil, id) {
				if !yield(c, nil) {
					return
				}
			}
		}
	}
}

// Out yields the relations from an entity.
func (r *Reader) Out(id EntityID, rel Relation, o Order) iter.Seq2[Claim, error] {
	return r.edges(SpaceOut, id, rel, o)
}

// In yields the relations to an entity.
func (r *Reader) In(id EntityID, rel Relation, o Order) iter.Seq2[Claim, error] {
	return r.edges(SpaceIn, id, rel, o)
}

func (r *Reader) edges(space store.Space, id EntityID, rel Relation, o Order) iter.Seq2[Claim, error] {
	prefix := space.Prefix(string(id[:]), string(rel))
	scan := r.snap.Scan(prefix, "")
	if o == Descending {
		scan = r.snap.ScanBack(prefix, "")
	}
	return func(yield func(Claim, error) bool) {
		for item, err := range scan {
			if err != nil {
				yield(Claim{}, err)
				return
			}
			c, err := r.decodeEdge(space, item)
			if err == nil && !r.access.May(c.Record.Source) {
				continue
			}
			if !yield(c, err) || err != nil {
				return
			}
		}
	}
}

func (r *Reader) decodeEdge(space store.Space, item store.Item) (Claim, error) {
	near, far, rel, rank, id, ok := parseEdgeKey(space, item.Key)
	if !ok {
		return Claim{}, fmt.Errorf("key %q is not a relation's", item.Key)
	}
	v := relationValue{}
	if err := r.codec.decode(item.Value, &v); err != nil {
		return Claim{}, fmt.Errorf("relation asserted by %s: %w", id, err)
	}
	c := Claim{Subject: near, Relation: rel, Object: far, Rank: rank, Record: id, Rule: v.Rule, Value: v.Value,
		From: fromUnix(v.From), To: fromUnix(v.To), Span: Span{v.Start, v.End}, Version: item.Version}
	if space == SpaceIn {
		c.Subject, c.Object = far, near
	}
	return c, nil
}

// ByIdentifier returns the entities known by an identifier, at most 1,000, in the
// order of their ids.
func (r *Reader) ByIdentifier(namespace, value string) ([]EntityID, error) {
	return r.identified(SpaceIdent.Prefix(namespace, NativeKey(value)), 1000)
}

// ByIdentifierPrefix returns at most max entities known by an identifier that
// begins with value: an abbreviated SHA.
func (r *Reader) ByIdentifierPrefix(namespace, value string, max int) ([]EntityID, error) {
	return r.identified(startOf(SpaceIdent, namespace, value), max)
}

func (r *Reader) identified(prefix store.Key, max int) ([]EntityID, error) {
	var out []EntityID
	seen := map[EntityID]bool{}
	for item, err := range r.snap.Scan(prefix, "") {
		if err != nil {
			return nil, fmt.Errorf("look up an identifier: %w", err)
		}
		p, ok := SpaceIdent.Parts(item.Key)
		if !ok || len(p) != 6 || len(p[2]) != len(EntityID{}) || !r.access.May(p[3]) {
			continue
		}
		if id := EntityID([]byte(p[2])); !seen[id] {
			seen[id] = true
			out = append(out, id)
		}
		if len(out) == max {
			break
		}
	}
	return out, nil
}

// Bytes returns a content's bytes.
func (r *Reader) Bytes(c Content) ([]byte, error) {
	if c.Size == 0 || int64(len(c.Inline)) == c.Size {
		return c.Inline, nil
	}
	if r.blobs == nil {
		return nil, fmt.Errorf("content %s is a blob, and this reader has no blobs", c.Hash)
	}
	return r.blobs.Read(c.Hash, maxContentBytes)
}

// Range returns the bytes [start, end) of a content.
func (r *Reader) Range(c Content, start, end int) ([]byte, error) {
	if start < 0 || end < start || int64(end) > c.Size {
		return nil, fmt.Errorf("content %s has no bytes [%d, %d): it has %d", c.Hash, start, end, c.Size)
	}
	if int64(len(c.Inline)) == c.Size {
		return c.Inline[start:end], nil
	}
	if r.blobs == nil {
		return nil, fmt.Errorf("content %s is a blob, and this reader has no blobs", c.Hash)
	}
	return r.blobs.ReadRange(c.Hash, int64(start), int64(end))
}

// Outline returns how a document's extracted text is divided.
func (r *Reader) Outline(rec Record) (Outline, error) {
	o := Outline{}
	if rec.Outline.IsZero() {
		return o, notFound("outline of record", rec.ID)
	}
	b, err := r.Bytes(rec.Outline)
	if err == nil {
		err = r.codec.decode(b, &o)
	}
	if err != nil {
		return Outline{}, fmt.Errorf("outline of record %s: %w", rec.ID, err)
	}
	return o, nil
}

// Source returns a source's definition.
func (r *Reader) Source(name string) (Source, error) {
	if !r.access.May(name) {
		return Source{}, fmt.Errorf("source %q: %w", name, store.ErrNotFound)
	}
	return readSource(r.snap, r.codec, name)
}

// Sources yields the sources that may be read, by name.
func (r *Reader) Sources() iter.Seq2[Source, error] {
	return func(yield func(Source, error) bool) {
		for src, err := range sources(r.snap) {
			if err == nil && !r.access.May(src.Name) {
				continue
			}
			if !yield(src, err) || err != nil {
				return
			}
		}
	}
}

// Watermark says how fresh a source is; ErrNotFound until a scan completed.
func (r *Reader) Watermark(source string) (Watermark, error) {
	w := Watermark{Source: source}
	if !r.access.May(source) {
		return w, fmt.Errorf("watermark of source %q: %w", source, store.ErrNotFound)
	}
	item, err := r.snap.Get(SpaceWatermark.Key(source))
	if err == nil {
		err = r.codec.decode(item.Value, &w)
	}
	if err != nil {
		return w, fmt.Errorf("watermark of source %q: %w", source, err)
	}
	w.Version = item.Version
	return w, nil
}

func notFound(what string, id fmt.Stringer) error {
	return fmt.Errorf("%s %s: %w", what, id, store.ErrNotFound)
}

func fromUnix(s int64) time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.Unix(s, 0).UTC()
}

func toUnix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}
