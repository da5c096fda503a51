package connect

import (
	"context"

	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/store"
)

// Sink takes what a scan finds. Put, Delete, Cursor and Flush are for one
// goroutine; Content, Outline, Body and the counters may be used by several.
type Sink struct {
	source  string
	store   store.Store
	writer  *graph.Writer
	tracker *tracker
}

// Put writes a record with all it asserts and the cursor entries that say it was
// read.
func (s *Sink) Put(ctx context.Context, a graph.Assertion, cursor ...graph.CursorWrite) error {
	if err := s.writer.Put(ctx, a, cursor...); err != nil {
		return err
	}
	s.tracker.record(s.writer.Claims())
	return nil
}

// Delete removes a record, its claims and its cursor entries. A connector calls
// it only once it knows that the record is gone.
func (s *Sink) Delete(ctx context.Context, id graph.RecordID, cursor ...graph.CursorWrite) error {
	if err := s.writer.Delete(ctx, id, cursor...); err != nil {
		return err
	}
	s.tracker.record(s.writer.Claims())
	return nil
}

// Cursor writes cursor entries that speak of no record.
func (s *Sink) Cursor(ctx context.Context, cursor ...graph.CursorWrite) error {
	return s.writer.Cursor(ctx, cursor...)
}

// Flush waits until all that was written is durable.
func (s *Sink) Flush(ctx context.Context) error { return s.writer.Flush(ctx) }

// Content keeps a record's bytes; they are durable when it returns.
func (s *Sink) Content(ctx context.Context, b []byte) (graph.Content, error) {
	return s.writer.Content(ctx, b)
}

// Outline keeps a document's outline.
func (s *Sink) Outline(ctx context.Context, o graph.Outline) (graph.Content, error) {
	return s.writer.EncodeOutline(ctx, o)
}

// LoadCursor calls f for each cursor entry below the parts, in order.
func (s *Sink) LoadCursor(ctx context.Context, f func(rest []string, value []byte) error, parts ...string) error {
	prefix := graph.SpaceCursor.Prefix(append([]string{s.source}, parts...)...)
	return s.store.View(ctx, store.Fresh, func(snap store.Snapshot) error {
		for item, err := range snap.Scan(prefix, "") {
			if err != nil {
				return err
			}
			rest, ok := graph.SpaceCursor.Parts(item.Key)
			if !ok || len(rest) < 1+len(parts) {
				continue
			}
			if err := f(rest[1+len(parts):], item.Value); err != nil {
				return err
			}
		}
		return nil
	})
}

// Stage begins a stage of the scan; total 0 = not known.
func (s *Sink) Stage(name string, total int) { s.tracker.stage(name, int64(total)) }

// Done says that n more of the stage are done.
func (s *Sink) Done(n int) { s.tracker.done(int64(n)) }

// Body counts something whose bytes were read.
func (s *Sink) Body() { s.tracker.body() }

// Skip reports something that was left out, and why.
func (s *Sink) Skip(what, reason string) { s.tracker.skip(what, reason) }
