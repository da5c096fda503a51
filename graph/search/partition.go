package search

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"sync"

	"github.com/blevesearch/bleve/v2"
	"github.com/blevesearch/bleve/v2/analysis/analyzer/custom"
	"github.com/blevesearch/bleve/v2/analysis/analyzer/keyword"
	"github.com/blevesearch/bleve/v2/analysis/tokenizer/whitespace"
	"github.com/blevesearch/bleve/v2/mapping"
	index "github.com/blevesearch/bleve_index_api"

	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/search/lex"
	"github.com/cloister-os/cloister/graph/search/vector"
	"github.com/cloister-os/cloister/store"
)

// Fields of the text index. Text fields hold stems made by package lex, so that
// questions and documents are always cut alike.
const (
	fieldKind  = "kind"  // one of the kinds below
	fieldRec   = "rec"   // the record that the entry comes from, to replace it
	fieldText  = "text"  // passage: its sentences
	fieldHead  = "head"  // passage: title and headings
	fieldMsg   = "msg"   // commit: the message
	fieldAlias = "alias" // name: each normalised form
)

// Kinds of entry. An entry's id is its kind and what a query needs to find the
// thing in the store again, parted by NUL.
const (
	kindPassage  = "p" // native, text's hash, number
	kindDocument = "d" // native, text's hash, sentences
	kindCommit   = "c" // native
	kindName     = "a" // namespace, value, entity
)

const maxReplaced = 4096

var appliedKey = []byte("applied")

// partition is the index of one source.
type partition struct {
	source string
	dir    string
	text   bleve.Index

	mu       sync.RWMutex // guards all below
	applied  store.Version
	floor    store.Version // below it, what was replaced is not known
	replaced []replaced    // documents that changed or went, oldest first
	vectors  *vector.File  // nil = none for the present model
	model    string
	closed   bool
}

// replaced is a document whose text before version is no longer in the index.
type replaced struct {
	native  string
	version store.Version
}

func sortPartitions(p []*partition) {
	sort.Slice(p, func(i, j int) bool { return p[i].source < p[j].source })
}

func openPartition(dir, source string) (*partition, error) {
	p := &partition{source: source, dir: dir}
	text, err := bleve.Open(dir)
	if errors.Is(err, bleve.ErrorIndexPathDoesNotExist) {
		text, err = bleve.New(dir, textMapping())
	}
	if err != nil {
		return nil, err
	}
	b, err := text.GetInternal(appliedKey)
	if err != nil {
		text.Close()
		return nil, err
	}
	if len(b) == 8 {
		p.applied = store.Version(binary.BigEndian.Uint64(b))
	}
	p.text, p.floor = text, p.applied
	return p, nil
}

func textMapping() mapping.IndexMapping {
	m := bleve.NewIndexMapping()
	m.ScoringModel = index.BM25Scoring
	if err := m.AddCustomAnalyzer("stems", map[string]any{"type": custom.Name, "tokenizer": whitespace.Name}); err != nil {
		panic(err) // the configuration is a constant
	}
	doc := bleve.NewDocumentStaticMapping()
	for _, f := range []string{fieldKind, fieldRec, fieldAlias} {
		doc.AddFieldMappingsAt(f, field(keyword.Name))
	}
	for _, f := range []string{fieldText, fieldHead, fieldMsg} {
		doc.AddFieldMappingsAt(f, field("stems"))
	}
	m.DefaultMapping = doc
	m.StoreDynamic, m.IndexDynamic, m.DocValuesDynamic = false, false, false
	return m
}

func field(analyzer string) *mapping.FieldMapping {
	f := bleve.NewTextFieldMapping()
	f.Analyzer, f.Store, f.IncludeInAll, f.IncludeTermVectors, f.DocValues = analyzer, false, false, false, false
	return f
}

func (p *partition) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.vectors != nil {
		p.vectors.Close()
		p.vectors = nil
	}
	return p.text.Close()
}

func (p *partition) version() store.Version {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.applied
}

// touch stores a version that brought nothing new.
func (p *partition) touch(v store.Version) error {
	if p.version() >= v {
		return nil
	}
	b := p.text.NewBatch()
	return p.commit(b, v)
}

func (p *partition) commit(b *bleve.Batch, v store.Version) error {
	b.SetInternal(appliedKey, binary.BigEndian.AppendUint64(nil, uint64(v)))
	if err := p.text.Batch(b); err != nil {
		return fmt.Errorf("write the text index: %w", err)
	}
	p.mu.Lock()
	p.applied = max(p.applied, v)
	p.mu.Unlock()
	return nil
}

// update brings the entries of the given records and names to what the reader
// sees. The entries and the version are one batch.
func (p *partition) update(ctx context.Context, r *graph.Reader, records map[graph.RecordID]store.Version, names map[name]bool, v store.Version) error {
	b := p.text.NewBatch()
	for id, changed := range records {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := p.remove(ctx, b, id, changed); err != nil {
			return err
		}
		rec, err := r.Record(id)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err == nil {
			err = p.addRecord(b, r, rec)
		}
		if err != nil {
			return err
		}
	}
	for n := range names {
		if err := p.setName(b, r, n); err != nil {
			return err
		}
	}
	return p.commit(b, v)
}

// remove takes a record's entries out and remembers documents for readers of
// the versions before: also those that came and went between two writes.
func (p *partition) remove(ctx context.Context, b *bleve.Batch, id graph.RecordID, v store.Version) error {
	ids, err := p.entriesOf(ctx, id)
	if err != nil {
		return err
	}
	for _, entry := range ids {
		b.Delete(entry)
	}
	if id.Stream != graph.StreamDocument {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.replaced = append(p.replaced, replaced{id.Native, v})
	if n := len(p.replaced) - maxReplaced; n > 0 {
		p.floor = p.replaced[n-1].version
		p.replaced = append([]replaced(nil), p.replaced[n:]...)
	}
	return nil
}

func recTerm(id graph.RecordID) string { return id.Stream + "\x00" + id.Native }

func (p *partition) entriesOf(ctx context.Context, id graph.RecordID) ([]string, error) {
	q := bleve.NewTermQuery(recTerm(id))
	q.SetField(fieldRec)
	res, err := p.text.SearchInContext(ctx, bleve.NewSearchRequestOptions(q, maxPassages+64, 0, false))
	if err != nil {
		return nil, fmt.Errorf("find the entries of %s: %w", id, err)
	}
	out := make([]string, len(res.Hits))
	for i, h := range res.Hits {
		out[i] = h.ID
	}
	return out, nil
}

func (p *partition) addRecord(b *bleve.Batch, r *graph.Reader, rec graph.Record) error {
	switch rec.ID.Stream {
	case graph.StreamDocument:
		if err := p.addDocument(b, r, rec); err != nil {
			return err
		}
	case graph.StreamCommit:
		return p.addCommit(b, r, rec)
	}
	return p.addNames(b, r, rec)
}

func (p *partition) addDocument(b *bleve.Batch, r *graph.Reader, rec graph.Record) error {
	text, err := r.Bytes(rec.Text)
	if err != nil {
		return fmt.Errorf("read the text of %s: %w", rec.ID, err)
	}
	outline, err := r.Outline(rec)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	hash := textHash(rec)
	sentences := 0
	for i, bl := range blocks(outline) {
		sec := outline.Sections[bl.Section]
		start, end := sec.Sentences[bl.First].Start, sec.Sentences[bl.Last-1].End
		if start < 0 || end > len(text) || start > end {
			return fmt.Errorf("the outline of %s does not fit its text", rec.ID)
		}
		entry := map[string]any{
			fieldKind: kindPassage, fieldRec: recTerm(rec.ID),
			fieldText: stems(string(text[start:end])),
			fieldHead: stems(rec.Title + " " + strings.Join(sec.Path, " ")),
		}
		if err := b.Index(entryID(kindPassage, rec.ID.Native, hash, strconv.Itoa(i)), entry); err != nil {
			return err
		}
		sentences = bl.Before + bl.Last - bl.First
	}
	mark := map[string]any{fieldKind: kindDocument, fieldRec: recTerm(rec.ID)}
	return b.Index(entryID(kindDocument, rec.ID.Native, hash, strconv.Itoa(sentences)), mark)
}

func textHash(rec graph.Record) string { return rec.Text.Hash.String()[:16] }

func stems(text string) string { return strings.Join(lex.Stems(text), " ") }

func entryID(parts ...string) string { return strings.Join(parts, "\x00") }

func (p *partition) addCommit(b *bleve.Batch, r *graph.Reader, rec graph.Record) error {
	message := rec.Title
	for c, err := range r.Claims(rec.Entity) {
		if err != nil {
			return err
		}
		if c.Record == rec.ID && (c.Property == graph.Subject || c.Property == graph.Body) {
			message += "\n" + c.Value
		}
	}
	entry := map[string]any{fieldKind: kindCommit, fieldRec: recTerm(rec.ID), fieldMsg: stems(message)}
	return b.Index(entryID(kindCommit, rec.ID.Native), entry)
}

func (p *partition) vectorFile() *vector.File {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.vectors
}
