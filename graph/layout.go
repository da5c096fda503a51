package graph

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
	"unicode/utf8"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/blob"
)

// op is one write: value nil removes the key.
type op struct {
	key    store.Key
	value  []byte
	claims int // how many claims the value holds
}

// layout is a record as keys and values: the record's own, those of what it
// asserts in a fixed order, and the lists of the latter.
type layout struct {
	record []op // the record itself, or nothing
	keys   []op // H/claim, H/out, H/in, H/ident
	parts  []assertValue
}

// previous is what the store holds of a record.
type previous struct {
	id      RecordID
	exists  bool
	partial bool
	values  map[store.Key][]byte // what the record asserted, where an interrupted sync got to it
	parts   []store.Key
}

// before reads what the store holds of a record.
func (w *Writer) before(ctx context.Context, id RecordID) (previous, error) {
	p := previous{id: id, values: map[store.Key][]byte{}}
	if w.touched[id] || len(w.touched) >= maxTouched {
		if err := w.Flush(ctx); err != nil {
			return p, err
		}
	}
	w.touched[id] = true
	err := w.store.View(ctx, store.Local, func(s store.Snapshot) error {
		var err error
		if p.exists, err = exists(s, RecordKey(id)); err != nil {
			return err
		}
		if p.partial, err = exists(s, partialKey(id)); err != nil || !p.exists && !p.partial {
			return err
		}
		return w.readParts(s, &p)
	})
	if err != nil {
		return p, fmt.Errorf("read record %s: %w", id, err)
	}
	return p, nil
}

func (w *Writer) readParts(s store.Snapshot, p *previous) error {
	for item, err := range s.Scan(SpaceAssert.Prefix(p.id.Source, p.id.Stream, p.id.Native), "") {
		if err != nil {
			return err
		}
		v := assertValue{}
		if err := w.codec.decode(item.Value, &v); err != nil {
			return err
		}
		p.parts = append(p.parts, item.Key)
		for _, k := range v.keys(p.id) {
			got, err := s.Get(k)
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
			if err == nil {
				p.values[k] = append([]byte{}, got.Value...) // never nil
			}
		}
	}
	return nil
}

func (v assertValue) keys(id RecordID) []store.Key {
	keys := make([]store.Key, 0, len(v.Aspects)+2*len(v.Edges)+len(v.Idents))
	for _, e := range v.Aspects {
		keys = append(keys, claimKey(e, id))
	}
	for _, e := range v.Edges {
		keys = append(keys, e.outKey(id), e.inKey(id))
	}
	for _, i := range v.Idents {
		keys = append(keys, i.key(id))
	}
	return keys
}

func partialKey(id RecordID) store.Key { return SpacePartial.Key(id.Source, id.Stream, id.Native) }

func exists(s store.Snapshot, k store.Key) (bool, error) {
	_, err := s.Get(k)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// layout turns an assertion into keys and values.
func (w *Writer) layout(a Assertion) (layout, error) {
	rec := a.Record
	rec.V, rec.Title = recordV, cut(rec.Title, 1<<10)
	rec.Claims = len(a.Properties) + len(a.Relations)
	value, err := w.codec.encode(rec)
	if err != nil {
		return layout{}, err
	}
	l := layout{record: []op{{key: RecordKey(rec.ID), value: value}}}
	for _, c := range rec.blobs() {
		l.record = append(l.record, op{key: blob.NameKey(c.Hash), value: w.blobs.NameValue(c.Size)})
		w.named = append(w.named, c.Hash)
	}
	b := partBuilder{layout: &l}
	if err := w.layoutProperties(&b, a); err != nil {
		return layout{}, err
	}
	if err := w.layoutRelations(&b, a); err != nil {
		return layout{}, err
	}
	for _, i := range a.Identifiers {
		id := ident{Namespace: i.Namespace, Value: NativeKey(i.Value), Entity: orOwn(i.Subject, rec)}
		l.keys = append(l.keys, op{key: id.key(rec.ID), value: []byte{}})
		p := b.room(len(id.Namespace) + len(id.Value) + 24)
		p.Idents = append(p.Idents, id)
	}
	return l, nil
}

func orOwn(id EntityID, rec Record) EntityID {
	if id == (EntityID{}) {
		return rec.Entity
	}
	return id
}

func (w *Writer) layoutProperties(b *partBuilder, a Assertion) error {
	aspects := map[EntityID]*aspectValue{}
	var order []EntityID
	for _, p := range a.Properties {
		subject, typ := orOwn(p.Subject, a.Record), p.Type
		if subject == a.Record.Entity {
			typ = a.Record.Type
		}
		v := aspects[subject]
		if v == nil {
			v = &aspectValue{V: valueV, Type: typ, Rule: a.Record.Rule}
			aspects[subject] = v
			order = append(order, subject)
		}
		v.Props = append(v.Props, property{Name: p.Property, Value: cut(p.Value, MaxPropertyBytes), Start: p.Span.Start, End: p.Span.End})
	}
	for _, subject := range order {
		v := aspects[subject]
		value, err := w.codec.encode(v)
		if err != nil {
			return err
		}
		b.layout.keys = append(b.layout.keys, op{claimKey(subject, a.Record.ID), value, len(v.Props)})
		p := b.room(20)
		p.Aspects = append(p.Aspects, subject)
	}
	return nil
}

func (w *Writer) layoutRelations(b *partBuilder, a Assertion) error {
	seen := map[edge]bool{}
	for _, r := range a.Relations {
		e := edge{Relation: r.Relation, From: orOwn(r.Subject, a.Record), To: r.Object, Rank: r.Rank}
		if seen[e] {
			continue
		}
		seen[e] = true
		value, err := w.codec.encode(relationValue{V: valueV, Rule: a.Record.Rule, Value: cut(r.Value, MaxPropertyBytes),
			From: toUnix(r.From), To: toUnix(r.To), Start: r.Span.Start, End: r.Span.End})
		if err != nil {
			return err
		}
		b.layout.keys = append(b.layout.keys, op{e.outKey(a.Record.ID), value, 1}, op{e.inKey(a.Record.ID), value, 0})
		p := b.room(60 + len(e.Relation))
		p.Edges = append(p.Edges, e)
	}
	return nil
}

// partBuilder divides the list of keys into values that are small enough.
type partBuilder struct {
	layout *layout
	bytes  int
}

func (b *partBuilder) room(size int) *assertValue {
	n := len(b.layout.parts)
	if n == 0 || b.bytes+size > maxPartBytes {
		b.layout.parts = append(b.layout.parts, assertValue{V: valueV})
		b.bytes, n = 0, n+1
	}
	b.bytes += size
	return &b.layout.parts[n-1]
}

// change is what has to be written to get from previous to layout.
type change struct {
	marked bool // the record is marked partial already
	record []op
	lists  []op // new assert values
	keys   []op // claims that differ, and the ends of those that are no more
	old    []op // assert values that go
	cursor []op
}

func (w *Writer) plan(was previous, is layout, cursor []CursorWrite) change {
	c := change{marked: was.partial, record: is.record}
	if len(is.record) == 0 && was.exists {
		c.record = []op{{key: RecordKey(was.id)}}
	}
	kept := map[store.Key]bool{}
	for _, k := range is.keys {
		kept[k.key] = true
		if old := was.values[k.key]; old == nil || !bytes.Equal(old, k.value) {
			c.keys = append(c.keys, k)
		}
	}
	for k, old := range was.values {
		if !kept[k] && old != nil {
			c.keys = append(c.keys, op{key: k})
		}
	}
	sort.SliceStable(c.keys, func(i, j int) bool { return c.keys[i].key < c.keys[j].key })
	for _, cw := range cursor {
		c.cursor = append(c.cursor, w.cursorOp(cw))
	}
	if c.planParts(w.codec, was, is, 0); !fits(w.newTx(), c.all(was.id)) {
		c.planParts(w.codec, was, is, freePart(was.parts, len(is.parts)))
	}
	return c
}

// all is the whole change as one transaction.
func (c change) all(id RecordID) []op {
	all := append(append(append(append(append([]op{}, c.record...), c.lists...), c.keys...), c.old...), c.cursor...)
	if c.marked {
		all = append(all, op{key: partialKey(id)})
	}
	return all
}

// planParts numbers the new lists from a number on. When the change fits one
// transaction they replace the old ones; else they take numbers that no old list
// has, so that until the record is whole both are known.
func (c *change) planParts(codec codec, was previous, is layout, from int) {
	c.lists, c.old = nil, nil
	written := map[store.Key]bool{}
	for i, p := range is.parts {
		value, err := codec.encode(p)
		if err != nil {
			panic(err) // the type encodes
		}
		o := op{key: assertKey(was.id, from+i), value: value}
		written[o.key] = true
		c.lists = append(c.lists, o)
	}
	for _, k := range was.parts {
		if !written[k] {
			c.old = append(c.old, op{key: k})
		}
	}
}

// freePart is a number such that it and the n-1 that follow it are free.
func freePart(parts []store.Key, n int) int {
	if len(parts) == 0 || partNumber(parts[0]) >= n {
		return 0
	}
	return partNumber(parts[len(parts)-1]) + 1
}

func partNumber(k store.Key) int {
	p, _ := SpaceAssert.Parts(k)
	n, _ := store.ParseNumber(p[len(p)-1])
	return int(n)
}

func (w *Writer) cursorOp(c CursorWrite) op {
	return op{key: SpaceCursor.Key(append([]string{w.source}, c.Parts...)...), value: c.Value}
}

// write brings a change into the store: within one transaction when it fits.
func (w *Writer) write(ctx context.Context, id RecordID, c change) error {
	if all := c.all(id); fits(w.newTx(), all) {
		return w.group(ctx, all)
	}
	return w.writeLarge(ctx, id, c)
}

// writeLarge writes a change that needs more than one transaction. The mark and
// the cursor's end come first and the cursor last, so whatever interrupts it,
// the next sync takes the record for unread and knows every key it may have
// written.
func (w *Writer) writeLarge(ctx context.Context, id RecordID, c change) error {
	if err := w.Flush(ctx); err != nil {
		return err
	}
	first := []op{{key: partialKey(id), value: []byte{}}}
	for _, o := range c.cursor {
		first = append(first, op{key: o.key})
	}
	if len(c.record) == 1 && c.record[0].value == nil {
		first, c.record = append(first, c.record...), nil
	}
	if err := w.group(ctx, first); err != nil {
		return err
	}
	for _, step := range [][]op{c.lists, c.keys, c.old} {
		if err := w.Flush(ctx); err != nil {
			return err
		}
		for _, o := range step {
			if err := w.group(ctx, []op{o}); err != nil {
				return err
			}
		}
	}
	if err := w.Flush(ctx); err != nil {
		return err
	}
	last := append(append(c.record, c.cursor...), op{key: partialKey(id)})
	if err := w.group(ctx, last); err != nil {
		return err
	}
	return w.Flush(ctx)
}

// group adds operations that belong together to one transaction.
func (w *Writer) group(ctx context.Context, ops []op) error {
	if w.err != nil {
		return w.err
	}
	if !fits(w.tx, ops) {
		if err := w.seal(ctx); err != nil {
			return err
		}
	}
	for _, o := range ops {
		if o.value == nil {
			w.tx.Delete(o.key)
		} else {
			w.tx.Put(o.key, o.value)
		}
		w.claims += int64(o.claims)
	}
	return w.tx.Err()
}

func fits(tx *store.Tx, ops []op) bool {
	size := 0
	for _, o := range ops {
		size += len(o.key) + len(o.value)
	}
	return tx.Fits(len(ops), size)
}

// cut shortens s to at most max bytes without splitting a character.
func cut(s string, max int) string {
	if len(s) <= max {
		return s
	}
	for max > 0 && !utf8.RuneStart(s[max]) {
		max--
	}
	return strings.ToValidUTF8(s[:max], "")
}
