// Package search finds things in the graph by what they say and what they are
// called: a BM25 index of passages and commit messages, sentence vectors, and an
// index of names.
//
// It promises: every query reads through a graph.Reader, so it sees one version
// and only the sources that the caller may read; each source has a partition of
// its own, so what is found, counted and ranked is the same whether or not a
// source that may not be read exists; a hit is checked against the store at the
// reader's version, so what was deleted is gone at that version and still found
// below it. Indexes are node-local tailers of store.Watch: each stores the
// version it has reached with the data it holds, can be deleted at any time, and
// is rebuilt. With a Ring, no file holds a word of what is indexed; but the name of
// a source is the name of its folder.
//
// Without an Embedder everything works from text alone. It may import store,
// store/sealed, graph and the packages below it. Only it imports bleve.
package search

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/sealed"
)

// Config says where an Index lives and what it follows.
type Config struct {
	Dir      string         // created when missing; holds text/ and vectors/
	Store    store.Store    // required
	Blobs    graph.Blobs    // required when documents are larger than graph.MaxInlineBytes
	Embedder graph.Embedder // nil = text only
	Logger   *slog.Logger   // nil = slog.Default()
	Ring     sealed.Ring    // encrypts the files; nil leaves them plain
}

// Index is the text, vector and name index of one node. Its methods are safe for
// concurrent use.
type Index struct {
	cfg  Config
	log  *slog.Logger
	keys *sealed.Folder // of the files; nil = they are plain
	done func()         // ends the sealing of bleve's files

	mu       sync.RWMutex // guards all below
	parts    map[string]*partition
	applied  store.Version
	moved    chan struct{} // closed and replaced when applied or embedded grows
	closed   bool
	embedder graph.Embedder
	embedded store.Version // version up to which nothing waits for its vectors
	wake     chan struct{} // holds one token when there may be something to embed
}

// format is the layout of the index files; another one is rebuilt.
const format = "1"

// Open opens the index in cfg.Dir, or begins a new one when there is none or it
// cannot be used. It does not read the store: Run catches up.
func Open(cfg Config) (*Index, error) {
	x := &Index{cfg: cfg, log: cfg.Logger, parts: map[string]*partition{}, moved: make(chan struct{}),
		embedder: cfg.Embedder, wake: make(chan struct{}, 1), done: func() {}}
	if x.log == nil {
		x.log = slog.Default()
	}
	for _, dir := range []string{x.textDir(), x.vectorDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("open the search index: %w", err)
		}
	}
	applied, err := x.open()
	if err != nil {
		x.log.Info("search index begins anew", "reason", err)
		if err := x.wipe(); err != nil {
			return nil, err
		}
		return x, nil
	}
	x.applied = applied
	return x, nil
}

// open opens what is there, as far as it can be used.
func (x *Index) open() (store.Version, error) {
	if err := x.openKeys(); err != nil {
		return 0, err
	}
	applied, err := x.readMark()
	if err != nil {
		return 0, err
	}
	return applied, x.openParts(applied)
}

func (x *Index) textDir() string   { return filepath.Join(x.cfg.Dir, "text") }
func (x *Index) vectorDir() string { return filepath.Join(x.cfg.Dir, "vectors") }

func (x *Index) openParts(mark store.Version) error {
	entries, err := os.ReadDir(x.textDir())
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		p, err := openPartition(filepath.Join(x.textDir(), e.Name()), e.Name())
		if err != nil {
			return fmt.Errorf("partition %s: %w", e.Name(), err)
		}
		x.parts[e.Name()] = p
		if p.applied < mark {
			return fmt.Errorf("partition %s is at version %d, below the index's mark %d", e.Name(), p.applied, mark)
		}
	}
	return nil
}

// wipe closes and removes every partition.
func (x *Index) wipe() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	for name, p := range x.parts {
		p.close()
		delete(x.parts, name)
	}
	x.applied = 0
	for _, dir := range []string{x.textDir(), x.vectorDir()} {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("begin the search index anew: %w", err)
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("begin the search index anew: %w", err)
		}
	}
	return nil
}

// Close closes the files. Run must have returned.
func (x *Index) Close() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return nil
	}
	x.closed = true
	x.signal()
	var errs []error
	for _, p := range x.parts {
		errs = append(errs, p.close())
	}
	x.done()
	return errors.Join(errs...)
}

// SetEmbedder gives the index an embedder, or takes it away with nil: a model
// was imported or removed. Vectors of another model are made anew.
func (x *Index) SetEmbedder(e graph.Embedder) {
	x.mu.Lock()
	x.embedder, x.embedded = e, 0
	x.mu.Unlock()
	x.wakeEmbedding()
}

// WaitForVectors returns when every sentence that is indexed now has its vector,
// or at once when there is no embedder. Answers need not wait for it.
func (x *Index) WaitForVectors(ctx context.Context) error {
	need := x.Applied()
	for {
		x.mu.RLock()
		embedded, moved, closed, none := x.embedded, x.moved, x.closed, x.embedder == nil
		x.mu.RUnlock()
		switch {
		case closed:
			return store.ErrClosed
		case none || embedded >= need:
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("wait for vectors: %w", ctx.Err())
		}
	}
}

// Vectors is how many sentences of what may be read have a vector.
func (x *Index) Vectors(a graph.Access) int {
	n := 0
	for _, p := range x.readable(a) {
		if f := p.vectorFile(); f != nil {
			n += f.Count()
		}
	}
	return n
}

func (x *Index) currentEmbedder() graph.Embedder {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.embedder
}

// Applied is the version up to which the store has been followed.
func (x *Index) Applied() store.Version {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.applied
}

// WaitFor returns when everything that the graph held at version v is indexed.
// It waits for vectors never: text stands in for those that are still missing.
func (x *Index) WaitFor(ctx context.Context, v store.Version) error {
	need, err := x.lastChange(ctx, v)
	if err != nil {
		return err
	}
	for {
		x.mu.RLock()
		applied, moved, closed := x.applied, x.moved, x.closed
		x.mu.RUnlock()
		switch {
		case closed:
			return store.ErrClosed
		case applied >= need:
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("wait until version %d is indexed: %w", need, ctx.Err())
		}
	}
}

// advance publishes a version as applied.
func (x *Index) advance(v store.Version) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if v <= x.applied {
		return
	}
	x.applied = v
	x.signal()
}

// signal wakes those who wait; x.mu is held.
func (x *Index) signal() {
	close(x.moved)
	x.moved = make(chan struct{})
}

// noteEmbedded publishes that nothing up to a version waits for its vectors.
func (x *Index) noteEmbedded(v store.Version, with graph.Embedder) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.embedder == with && v > x.embedded {
		x.embedded = v
		x.signal()
	}
}

// readable returns the partitions that the access covers, in the order of their
// names.
func (x *Index) readable(a graph.Access) []*partition {
	x.mu.RLock()
	defer x.mu.RUnlock()
	out := make([]*partition, 0, len(x.parts))
	for name, p := range x.parts {
		if a.May(name) {
			out = append(out, p)
		}
	}
	sortPartitions(out)
	return out
}
