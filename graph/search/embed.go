package search

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/blevesearch/bleve/v2"

	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/search/vector"
	"github.com/cloister-os/cloister/store"
)

// Bounds of embedding. The engine refuses texts above 512 tokens, so what is
// embedded is cut well below that.
const (
	embedAtOnce     = 32   // texts in one call
	maxEmbedBytes   = 600  // of one text
	maxDocSentences = 5000 // of one document; those after it have no vector
	backlogAtOnce   = 200  // documents looked up in one round
	embedPause      = 2 * time.Second
	askTimeout      = 2 * time.Second // for the question's own vector
)

func (x *Index) wakeEmbedding() {
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// embedLoop makes the vectors that are missing and drops those of documents that
// are no more, in the background. The backlog is what the text index holds and
// the vector file does not, so nothing is queued and nothing can be forgotten.
func (x *Index) embedLoop(ctx context.Context) {
	for {
		select {
		case <-x.wake:
		case <-ctx.Done():
			return
		}
		for ctx.Err() == nil {
			more, err := x.embedRound(ctx)
			if err != nil && ctx.Err() == nil {
				x.log.Warn("vectors are behind: answers use text where they are missing", "error", err)
				if !sleep(ctx, embedPause) {
					return
				}
				x.wakeEmbedding()
				break
			}
			if !more {
				break
			}
		}
	}
}

// embedRound embeds documents that have no vectors yet: a bounded number of each
// source, so that none waits for another to end.
func (x *Index) embedRound(ctx context.Context) (more bool, err error) {
	e, at := x.currentEmbedder(), x.Applied()
	for _, p := range x.all() {
		if err := x.openVectors(p, e); err != nil {
			return false, err
		}
		if e == nil {
			continue
		}
		again, err := x.embedPartition(ctx, p, e)
		if err != nil {
			return false, err
		}
		more = more || again
	}
	if !more && e != nil {
		x.noteEmbedded(at, e)
	}
	return more, nil
}

// embedPartition embeds what one source lacks, as far as there is room.
func (x *Index) embedPartition(ctx context.Context, p *partition, e graph.Embedder) (more bool, err error) {
	todo, err := p.backlog(ctx)
	if err != nil {
		return false, err
	}
	for _, group := range todo {
		if x.currentEmbedder() != e {
			return true, nil
		}
		err := x.embedDocument(ctx, p, e, group)
		if errors.Is(err, vector.ErrFull) {
			x.log.Warn("source has more sentences than can have vectors: the rest is found by text", "source", p.source, "limit", vector.MaxVectors)
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	return len(todo) == backlogAtOnce, nil
}

func (x *Index) all() []*partition {
	x.mu.RLock()
	defer x.mu.RUnlock()
	out := make([]*partition, 0, len(x.parts))
	for _, p := range x.parts {
		out = append(out, p)
	}
	sortPartitions(out)
	return out
}

func (x *Index) vectorPath(source string) string {
	return filepath.Join(x.vectorDir(), source+".vec")
}

// openVectors makes the partition's vector file that of the embedder's model.
func (x *Index) openVectors(p *partition, e graph.Embedder) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	model := ""
	if e != nil {
		model = e.Model()
	}
	if p.closed || p.model == model && (p.vectors != nil) == (e != nil) {
		return nil
	}
	if p.vectors != nil {
		p.vectors.Close()
		p.vectors = nil
	}
	p.model = model
	if e == nil {
		return nil
	}
	f, err := vector.Open(x.vectorPath(p.source), model, e.Dimensions(), x.ring())
	p.vectors = f
	return err
}

// groupOf names the vectors of one text of one document.
func groupOf(native, hash string) string { return native + "\x00" + hash }

// backlog lists groups that have no vectors, and drops those that no document
// has any more.
func (p *partition) backlog(ctx context.Context) ([]string, error) {
	f := p.vectorFile()
	if f == nil {
		return nil, nil
	}
	live, err := p.documents(ctx)
	if err != nil {
		return nil, err
	}
	var stale []string
	for _, g := range f.Groups() {
		if _, ok := live[g]; !ok {
			stale = append(stale, g)
		}
	}
	if err := f.Drop(stale, uint64(p.version())); err != nil {
		return nil, err
	}
	var todo []string
	for g, sentences := range live {
		if sentences > 0 && !f.Has(g) && len(todo) < backlogAtOnce {
			todo = append(todo, g)
		}
	}
	return todo, nil
}

// documents returns the groups of the documents in the text index with their
// numbers of sentences.
func (p *partition) documents(ctx context.Context) (map[string]int, error) {
	q := bleve.NewTermQuery(kindDocument)
	q.SetField(fieldKind)
	res, err := p.text.SearchInContext(ctx, bleve.NewSearchRequestOptions(q, vector.MaxVectors, 0, false))
	if err != nil {
		return nil, fmt.Errorf("list documents: %w", err)
	}
	out := make(map[string]int, len(res.Hits))
	for _, h := range res.Hits {
		parts := strings.Split(h.ID, "\x00")
		if len(parts) != 4 {
			continue
		}
		n, err := strconv.Atoi(parts[3])
		if err == nil {
			out[groupOf(parts[1], parts[2])] = n
		}
	}
	return out, nil
}

// embedDocument makes the vectors of a document and writes them in one frame.
func (x *Index) embedDocument(ctx context.Context, p *partition, e graph.Embedder, group string) error {
	native, hash, _ := strings.Cut(group, "\x00")
	var texts []string
	var at store.Version
	err := x.cfg.Store.View(ctx, store.Local, func(s store.Snapshot) error {
		at = s.Version()
		r := graph.NewReader(s, graph.AccessTo(p.source), x.cfg.Blobs)
		d, err := readDocument(r, graph.RecordID{Source: p.source, Stream: graph.StreamDocument, Native: native})
		if errors.Is(err, store.ErrNotFound) || err == nil && textHash(d.record) != hash {
			return nil // gone or changed since: the text index will say so
		}
		if err != nil {
			return err
		}
		texts = d.embeddable()
		return nil
	})
	if err != nil || len(texts) == 0 {
		return err
	}
	vectors := make([][]float32, 0, len(texts))
	for len(texts) > 0 {
		n := min(len(texts), embedAtOnce)
		got, err := e.Embed(ctx, texts[:n])
		if err != nil {
			return fmt.Errorf("embed %s: %w", native, err)
		}
		if len(got) != n {
			return fmt.Errorf("embed %s: %d vectors for %d texts", native, len(got), n)
		}
		vectors = append(vectors, got...)
		texts = texts[n:]
	}
	if f := p.vectorFile(); f != nil {
		return f.Put(group, vectors, uint64(at))
	}
	return nil
}

// embeddable are the document's sentences as they are embedded: with the
// heading above them, since a sentence alone may not say what it is about.
func (d *document) embeddable() []string {
	var out []string
	for _, sec := range d.outline.Sections {
		head := d.record.Title
		if n := len(sec.Path); n > 0 {
			head = sec.Path[n-1]
		}
		for _, s := range sec.Sentences {
			if len(out) == maxDocSentences {
				return out
			}
			out = append(out, clip(clip(head, 120)+" > "+string(d.text[s.Start:s.End]), maxEmbedBytes))
		}
	}
	return out
}

// clip cuts a text at a rune's end. Letters beyond ASCII cost more tokens, so
// texts that have many are cut shorter.
func clip(s string, limit int) string {
	if n := utf8.RuneCountInString(s); n < len(s)*9/10 {
		limit = limit * 2 / 3
	}
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

// question is a question's vector; nil when there is none.
type question []float32

// embedQuestion makes the question's vector when there is something to compare
// it with. A failure is logged: the answer then rests on text.
func (x *Index) embedQuestion(ctx context.Context, parts []*partition, text string) question {
	e := x.currentEmbedder()
	if e == nil || strings.TrimSpace(text) == "" {
		return nil
	}
	any := false
	for _, p := range parts {
		f := p.vectorFile()
		any = any || f != nil && f.Count() > 0
	}
	if !any {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	got, err := e.Embed(ctx, []string{clip(text, maxEmbedBytes)})
	if err != nil || len(got) != 1 {
		x.log.Warn("question not embedded: the answer rests on text", "error", err)
		return nil
	}
	return got[0]
}

// nearest finds passages by the vectors of their sentences.
func (p *partition) nearest(r *graph.Reader, asked question, k int) []scoredPlace {
	f := p.vectorFile()
	if f == nil || asked == nil {
		return nil
	}
	best := map[place]float64{}
	docs := map[string]*document{}
	for _, h := range f.Search(asked, k, nil) {
		native, hash, _ := strings.Cut(h.Group, "\x00")
		d, ok := docs[native]
		if !ok {
			d, _ = readDocument(r, graph.RecordID{Source: p.source, Stream: graph.StreamDocument, Native: native})
			docs[native] = d
		}
		if d == nil || textHash(d.record) != hash {
			continue
		}
		for i, b := range d.blocks {
			if h.Index >= b.Before && h.Index < b.Before+b.Last-b.First {
				pl := place{p.source, native, hash, i}
				best[pl] = max(best[pl], h.Cosine)
				break
			}
		}
	}
	out := make([]scoredPlace, 0, len(best))
	for pl, c := range best {
		out = append(out, scoredPlace{pl, c})
	}
	return out
}

// addCosines fills in the cosines of a passage's sentences where they are known.
func (x *Index) addCosines(p *Passage, before int, asked question) {
	if asked == nil {
		return
	}
	x.mu.RLock()
	part := x.parts[p.Record.ID.Source]
	x.mu.RUnlock()
	if part == nil {
		return
	}
	f := part.vectorFile()
	if f == nil {
		return
	}
	cosines, ok := f.Cosines(groupOf(p.Record.ID.Native, textHash(p.Record)), asked)
	if !ok {
		return
	}
	for i := range p.Sentences {
		if n := before + i; n < len(cosines) {
			p.Sentences[i].Cosine, p.Sentences[i].Embedded = cosines[n], true
		}
	}
}
