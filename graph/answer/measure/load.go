// Package measure says how good answers are: it fills a store with documents and
// commits whose facts are known, asks, and counts what was right.
//
// test/bench NAME=answer runs it; the tests of graph/answer use its worlds. It
// may import store, graph and the packages below it.
package measure

import (
	"context"
	"fmt"
	"path"
	"time"

	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/extract"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/blob"
)

// File is a document to be loaded.
type File struct {
	Path string
	Body string
}

// Loader writes sources into a store as the connectors do.
type Loader struct {
	Store store.Store
	Blobs *blob.Store
}

// Source defines a source, without which an index does not look for records.
func (l Loader) Source(ctx context.Context, name, kind string) error {
	tx := store.NewTx()
	if err := graph.PutSource(tx, graph.Source{Name: name, Kind: kind, Path: "/" + name}, nil); err != nil {
		return err
	}
	_, err := l.Store.Apply(ctx, tx)
	return err
}

// Documents writes files into a source and completes the scan at asOf.
func (l Loader) Documents(ctx context.Context, source string, asOf time.Time, files ...File) error {
	w := graph.NewWriter(l.Store, l.Blobs, source)
	for _, f := range files {
		if err := l.document(ctx, w, source, f, asOf); err != nil {
			return fmt.Errorf("load %s: %w", f.Path, err)
		}
	}
	return w.Finish(ctx, graph.Watermark{AsOfNs: asOf.UnixNano()})
}

// Delete removes documents and completes the scan at asOf.
func (l Loader) Delete(ctx context.Context, source string, asOf time.Time, paths ...string) error {
	w := graph.NewWriter(l.Store, l.Blobs, source)
	for _, p := range paths {
		if err := w.Delete(ctx, graph.RecordID{Source: source, Stream: graph.StreamDocument, Native: p}); err != nil {
			return err
		}
	}
	return w.Finish(ctx, graph.Watermark{AsOfNs: asOf.UnixNano()})
}

func (l Loader) document(ctx context.Context, w *graph.Writer, source string, f File, at time.Time) error {
	format, ok := extract.FormatOf(f.Path)
	if !ok {
		return fmt.Errorf("%s is not a document", f.Path)
	}
	doc, err := extract.Extract(format, f.Path, []byte(f.Body))
	if err != nil {
		return err
	}
	rec := graph.Record{
		ID:     graph.RecordID{Source: source, Stream: graph.StreamDocument, Native: f.Path},
		Entity: graph.NewEntityID("document", source, f.Path), Type: graph.Document, Rule: "measure.document/1",
		Title: doc.Title, URI: "file:///" + source + "/" + f.Path, TimeNs: at.UnixNano(), Extract: extract.Version,
	}
	if rec.Payload, err = w.Content(ctx, []byte(f.Body)); err != nil {
		return err
	}
	if rec.Text, err = w.Content(ctx, []byte(doc.Text)); err != nil {
		return err
	}
	if rec.Outline, err = w.EncodeOutline(ctx, doc.Outline); err != nil {
		return err
	}
	return w.Put(ctx, graph.Assertion{
		Record: rec,
		Properties: []graph.PropertyClaim{
			{Property: graph.Path, Value: f.Path}, {Property: graph.Title, Value: doc.Title},
			{Property: graph.Name, Value: path.Base(f.Path)},
		},
		Identifiers: []graph.IdentifierClaim{{Identifier: graph.Identifier{Namespace: graph.NamespacePath, Value: f.Path}}},
	})
}
