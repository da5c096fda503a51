package files

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/connect"
	"github.com/cloister-os/cloister/graph/connect/fence"
	"github.com/cloister-os/cloister/graph/extract"
)

// maxBytesAtOnce bounds the documents in memory together.
const maxBytesAtOnce = extract.MaxTextBytes + 16<<20

// scanner reads the files that have changed.
type scanner struct {
	src   graph.Source
	root  *os.Root
	line  fence.Line
	sink  *connect.Sink
	known map[string]entry
}

// outcome is what became of one file.
type outcome struct {
	file      file
	entry     entry
	assertion *graph.Assertion // nil when there is nothing new to say
	skip      string           // why there is no document
	gone      bool
}

// changed picks the files to open, and reports again what was left out before.
func (s *scanner) changed(found []file) (out []file) {
	for _, f := range found {
		e, ok := s.known[f.native]
		if !ok || e.Stamp != f.stamp || e.Rules != rules || e.Racy {
			out = append(out, f)
			continue
		}
		if e.Skipped != "" {
			s.sink.Skip(connect.Printable(f.path), e.Skipped)
		}
	}
	return out
}

// read opens the files, several at a time, and writes what they say.
func (s *scanner) read(ctx context.Context, files []file) error {
	s.sink.Stage("reading", len(files))
	group, inner := errgroup.WithContext(ctx)
	work, done := make(chan file), make(chan outcome)
	room := semaphore.NewWeighted(maxBytesAtOnce)
	group.Go(func() error {
		defer close(work)
		for _, f := range files {
			select {
			case work <- f:
			case <-inner.Done():
				return inner.Err()
			}
		}
		return nil
	})
	readers, inner2 := errgroup.WithContext(inner)
	for range readersAtOnce {
		readers.Go(func() error { return s.reader(inner2, room, work, done) })
	}
	group.Go(func() error {
		defer close(done)
		return readers.Wait()
	})
	group.Go(func() error {
		for o := range done {
			if err := s.write(inner, o); err != nil {
				return err
			}
			s.sink.Done(1)
		}
		return nil
	})
	return group.Wait()
}

func (s *scanner) reader(ctx context.Context, room *semaphore.Weighted, work <-chan file, done chan<- outcome) error {
	for f := range work {
		size := min(f.stamp.Size, maxBytesAtOnce) + 1
		if err := room.Acquire(ctx, min(size, maxBytesAtOnce)); err != nil {
			return err
		}
		o, err := s.one(ctx, f)
		room.Release(min(size, maxBytesAtOnce))
		if err != nil {
			return err
		}
		select {
		case done <- o:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// one opens a file and extracts what it says.
func (s *scanner) one(ctx context.Context, f file) (outcome, error) {
	const tries = 3
	for range tries {
		if err := settled(ctx, f.stamp); err != nil {
			return outcome{}, err
		}
		raw, now, err := s.bytes(f)
		var left leftOut
		switch {
		case gone(err):
			return outcome{file: f, gone: true}, nil
		case errors.As(err, &left):
			return outcome{file: f, skip: string(left), entry: entry{Path: []byte(f.path), Stamp: now, Skipped: string(left)}}, nil
		case err != nil:
			return outcome{file: f, skip: "it cannot be read: " + reason(err) + "; what was read of it before is kept"}, nil
		case raw == nil:
			f.stamp = now
			continue // it changed while it was read
		}
		f.stamp = now
		return s.document(ctx, f, raw)
	}
	return outcome{file: f, skip: "it changed while it was read; the next sync tries again"}, nil
}

// leftOut is why a file is no document, as long as it does not change.
type leftOut string

func (l leftOut) Error() string { return string(l) }

// bytes reads a file; nil bytes mean that it changed meanwhile. The stamp is the
// one that the bytes belong to.
func (s *scanner) bytes(f file) ([]byte, stamp, error) {
	h, err := s.root.OpenFile(f.path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, f.stamp, err
	}
	defer h.Close()
	info, err := h.Stat()
	if err != nil {
		return nil, f.stamp, err
	}
	before, most := stampOf(info), extract.MaxBytes(f.format)
	switch {
	case !info.Mode().IsRegular():
		return nil, before, leftOut("it is no regular file")
	case s.line.Closes(info):
		return nil, before, leftOut(fence.ErrClosed.Error())
	case before.Size > most:
		return nil, before, leftOut(fmt.Sprintf("it has %d MiB, and %s files are read up to %d MiB: divide it", before.Size>>20, f.format, most>>20))
	}
	s.sink.Body()
	raw, err := io.ReadAll(io.LimitReader(h, most+1))
	if err != nil {
		return nil, before, err
	}
	if info, err = h.Stat(); err != nil {
		return nil, before, err
	}
	if after := stampOf(info); after != before || int64(len(raw)) != before.Size {
		return nil, after, nil
	}
	return raw, before, nil
}

// Clocks of file systems tick, so a change within the tick of the last one would
// not show in the times. A file is read only once its tick is over.
const (
	tick       = 20 * time.Millisecond // of Linux file systems, and more
	coarseTick = 2 * time.Second       // of those that keep whole seconds
)

// settled waits until the file's tick is over.
func settled(ctx context.Context, s stamp) error {
	t := time.NewTimer(wait(s, time.Now()))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func wait(s stamp, now time.Time) time.Duration {
	window := tick
	if s.CtimeNs%int64(time.Second) == 0 {
		window = coarseTick
	}
	age := now.Sub(time.Unix(0, s.CtimeNs))
	if age < 0 {
		return 0 // a clock that runs ahead: see entry.Racy
	}
	return max(0, window-age)
}

// document turns a file's bytes into what the graph is told.
func (s *scanner) document(ctx context.Context, f file, raw []byte) (outcome, error) {
	e := entry{Path: []byte(f.path), Stamp: f.stamp, Hash: sha256.Sum256(raw), Racy: f.stamp.CtimeNs > time.Now().UnixNano()}
	if was, ok := s.known[f.native]; ok && was.Hash == e.Hash && was.Rules == rules && was.Skipped == "" {
		return outcome{file: f, entry: e}, nil
	}
	doc, err := extract.Extract(f.format, connect.Printable(f.path), raw)
	if err != nil {
		e.Skipped = "it is left out: " + err.Error()
		return outcome{file: f, entry: e, skip: e.Skipped}, nil
	}
	a := s.assertion(f, doc.Title)
	if a.Record.Payload, err = s.sink.Content(ctx, raw); err != nil {
		return outcome{}, err
	}
	if a.Record.Text, err = s.sink.Content(ctx, []byte(doc.Text)); err != nil {
		return outcome{}, err
	}
	a.Record.Outline, err = s.sink.Outline(ctx, doc.Outline)
	return outcome{file: f, entry: e, assertion: &a}, err
}

func (s *scanner) assertion(f file, title string) graph.Assertion {
	shown := connect.Printable(f.path)
	modified := time.Unix(0, f.stamp.MtimeNs).UTC()
	return graph.Assertion{
		Record: graph.Record{
			ID: s.record(f.native), Entity: graph.NewEntityID(graph.NamespacePath, s.src.Name, shown), Type: graph.Document,
			Rule: Rule, Title: title, TimeNs: f.stamp.MtimeNs, Extract: extract.Version,
			URI: (&url.URL{Scheme: "file", Path: filepath.Join(s.src.Path, f.path)}).String(),
		},
		Properties: []graph.PropertyClaim{
			{Property: graph.Title, Value: title},
			{Property: graph.Name, Value: path.Base(shown)},
			{Property: graph.Path, Value: shown},
			{Property: graph.Format, Value: string(f.format)},
			{Property: graph.ModifiedAt, Value: modified.Format(time.RFC3339)},
		},
		Identifiers: []graph.IdentifierClaim{{Identifier: graph.Identifier{Namespace: graph.NamespacePath, Value: shown}}},
	}
}

// write brings what became of a file into the store.
func (s *scanner) write(ctx context.Context, o outcome) error {
	if o.skip != "" {
		s.sink.Skip(connect.Printable(o.file.path), o.skip)
	}
	id := s.record(o.file.native)
	if o.gone {
		return s.sink.Delete(ctx, id, graph.CursorWrite{Parts: []string{cursorFile, o.file.native}})
	}
	if o.entry.Path == nil {
		return nil // not read: what is known of it stays
	}
	cursor, err := o.entry.write(o.file.native)
	switch {
	case err != nil:
		return err
	case o.assertion != nil:
		return s.sink.Put(ctx, *o.assertion, cursor)
	case o.entry.Skipped != "":
		return s.sink.Delete(ctx, id, cursor)
	}
	return s.sink.Cursor(ctx, cursor)
}
