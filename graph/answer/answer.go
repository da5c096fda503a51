// Package answer turns a question into a cited answer.
//
// It promises: an answer is made of facts from typed queries and of verbatim
// sentences, never of generated text; every name, number and date in it stands
// in the bytes that it cites; those bytes are read again and their hash compared
// before the answer is released; everything is read at one version and through
// one Access, so what the asker may not read changes nothing, not even a count.
// An answer has one of three outcomes: the sources state it, they do not state
// it directly but these passages are closest, or they do not say.
//
// The work is divided in five steps so that a run can be journaled between them:
// Understand, Gather, Compose, Verify, Cite. Each takes plain data, returns plain
// data (JSON and CBOR alike), and can be repeated. It may import store, graph,
// graph/search and the packages below it.
package answer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/search"
	"github.com/cloister-os/cloister/store"
)

// MaxQuestionBytes bounds a question.
const MaxQuestionBytes = 2000

// Outcome says how far the sources answer a question.
type Outcome string

// The outcomes.
const (
	Stated  Outcome = "answer"  // the sources state it
	Closest Outcome = "closest" // no source states it directly; these passages are closest
	Unknown Outcome = "unknown" // the sources do not say
)

// Question is what somebody asks.
type Question struct {
	Text    string        `json:"text"`
	Version store.Version `json:"version,omitempty"` // read at this version; 0 = the newest
	Zone    string        `json:"zone,omitempty"`    // IANA name for "yesterday"; "" = UTC
}

// Answer is what is released: the shape of `cloister ask --json` without the run
// and its cost, which the caller adds.
type Answer struct {
	Outcome    Outcome     `json:"outcome"`
	Understood string      `json:"understood"`
	Answer     string      `json:"answer"`
	Citations  []Citation  `json:"citations"`
	Freshness  []Freshness `json:"freshness"`
	// Of a question that leans on earlier turns of its conversation.
	Resolved []Resolved `json:"resolved,omitempty"` // what words were taken to stand for
	Unclear  string     `json:"unclear,omitempty"`  // what is missing, when that could not be told
}

// Citation points at the bytes that hold a fact. For a document they are bytes
// of its extracted text, for any other record of its payload, both as they stood
// at Version.
type Citation struct {
	Source  string        `json:"source"`
	Record  string        `json:"record"` // graph.RecordID as text
	Version store.Version `json:"version"`
	Title   string        `json:"title"`
	URI     string        `json:"uri"`
	Start   int           `json:"start"`
	End     int           `json:"end"`
	Text    string        `json:"text"`
	SHA256  string        `json:"sha256"` // of Text
}

// Freshness says how fresh a source was when the answer was read.
type Freshness struct {
	Source string    `json:"source"`
	AsOf   time.Time `json:"as_of"` // the newest completed scan began; zero = none has completed
}

// Config says what an Answerer works with.
type Config struct {
	Store  store.Store    // required
	Blobs  graph.Blobs    // required when documents are larger than graph.MaxInlineBytes
	Index  *search.Index  // required
	Embed  graph.Embedder // reads questions whose words alone do not say; nil = those are answered by text
	Logger *slog.Logger   // nil = slog.Default()
}

// Answerer answers questions. Its methods are safe for concurrent use.
type Answerer struct {
	cfg  Config
	log  *slog.Logger
	near nearestShapes
}

// New returns an Answerer.
func New(cfg Config) (*Answerer, error) {
	if cfg.Store == nil || cfg.Index == nil {
		return nil, errors.New("answer: a store and an index are required")
	}
	a := &Answerer{cfg: cfg, log: cfg.Logger}
	if a.log == nil {
		a.log = slog.Default()
	}
	return a, nil
}

// Ask runs all five steps at once.
func (a *Answerer) Ask(ctx context.Context, access graph.Access, q Question) (Answer, error) {
	plan, err := a.Understand(ctx, access, q)
	if err != nil {
		return Answer{}, err
	}
	evidence, err := a.Gather(ctx, access, plan)
	if err != nil {
		return Answer{}, err
	}
	draft, err := a.Compose(plan, evidence)
	if err != nil {
		return Answer{}, err
	}
	if draft, err = a.Verify(draft); err != nil {
		return Answer{}, err
	}
	return a.Cite(ctx, access, draft)
}

// view runs f on a reader of one version.
func (a *Answerer) view(ctx context.Context, access graph.Access, v store.Version, f func(*graph.Reader, store.Snapshot) error) error {
	at := store.At(v)
	if v == 0 {
		at = store.Fresh
	}
	err := a.cfg.Store.View(ctx, at, func(s store.Snapshot) error {
		return f(graph.NewReader(s, access, a.cfg.Blobs), s)
	})
	if errors.Is(err, store.ErrCompacted) {
		return fmt.Errorf("version %d is no longer kept, ask about a later one: %w", v, err)
	}
	return err
}

// freshness lists how fresh the readable sources are, by name.
func freshness(r *graph.Reader) ([]Freshness, error) {
	out := []Freshness{}
	for src, err := range r.Sources() {
		if err != nil {
			return nil, err
		}
		f := Freshness{Source: src.Name}
		w, err := r.Watermark(src.Name)
		switch {
		case err == nil:
			f.AsOf = w.AsOf()
		case !errors.Is(err, store.ErrNotFound):
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}
