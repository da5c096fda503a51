// Package files reads a folder of documents: Markdown, HTML and plain text.
//
// It promises: nothing outside the folder is ever opened, whatever links it
// holds, and nothing behind the fence, wherever it is found; a file that has not changed (size, times, inode) is not opened again; a
// record goes only when the walk saw its whole folder and not the file; a file
// that is too large, is no text or cannot be read is left out with a reason and
// holds up no other.
//
// It may import graph, graph/connect, graph/connect/fence, graph/extract, auth and
// auth/guard.
package files

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/connect"
	"github.com/cloister-os/cloister/graph/connect/fence"
)

// Kind is what a source names this connector by.
const Kind = "files"

// Rule is the mapping rule of the records that this package writes.
const Rule = "files.document/1"

// Bounds of one folder.
const (
	MaxFiles      = 1_000_000
	maxDepth      = 128
	readersAtOnce = 4
)

var _ connect.Connector = (*Connector)(nil)

// Connector reads folders.
type Connector struct{ fence fence.Fence }

// New returns the connector.
func New() *Connector { return &Connector{} }

// Except returns a connector that does not read what is behind the fence.
func (*Connector) Except(f fence.Fence) *Connector { return &Connector{f} }

// Kind implements connect.Connector.
func (*Connector) Kind() string { return Kind }

// Check implements connect.Connector: the path is a folder that can be listed.
func (c *Connector) Check(_ context.Context, permit *guard.Permit, src graph.Source) error {
	if err := permit.Covers(auth.SourceFetch, graph.SourceResource(src)); err != nil {
		return err
	}
	line, err := c.fence.Look()
	if err != nil {
		return err
	}
	root, err := open(src.Path, line)
	if err != nil {
		return err
	}
	return root.Close()
}

// Scan implements connect.Connector.
func (c *Connector) Scan(ctx context.Context, permit *guard.Permit, src graph.Source, sink *connect.Sink) error {
	if err := permit.Covers(auth.SourceFetch, graph.SourceResource(src)); err != nil {
		return err
	}
	return c.scan(ctx, src, sink)
}

func (c *Connector) scan(ctx context.Context, src graph.Source, sink *connect.Sink) error {
	line, err := c.fence.Look()
	if err != nil {
		return err
	}
	root, err := open(src.Path, line)
	if err != nil {
		return err
	}
	defer root.Close()
	known, err := load(ctx, sink)
	if err != nil {
		return err
	}
	sink.Stage("looking", 0)
	w := walk{ctx: ctx, root: root, line: line, sink: sink}
	if err := w.folder(".", 0); err != nil {
		return fmt.Errorf("read the folder %s: %w", src.Path, err)
	}
	if err := mounted(ctx, root, src, sink, len(w.found), known); err != nil {
		return err
	}
	s := scanner{src: src, root: root, line: line, sink: sink, known: known}
	if err := s.read(ctx, s.changed(w.found)); err != nil {
		return err
	}
	return s.remove(ctx, w)
}

// open opens the folder such that nothing outside of it can be reached. One that
// lies behind the fence is refused.
func open(path string, line fence.Line) (*os.Root, error) {
	root, err := os.OpenRoot(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no folder %s: check the path on the node", path)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("the folder %s may not be read by the node: give its user access", path)
	case err != nil:
		return nil, fmt.Errorf("%s cannot be opened as a folder: %w", path, err)
	}
	f, err := root.Open(".")
	if err == nil {
		if err = line.Outside(f); err == nil {
			_, err = f.ReadDir(1)
		}
		err = errors.Join(ignoreEnd(err), f.Close())
	}
	if errors.Is(err, fence.ErrClosed) {
		return nil, errors.Join(fmt.Errorf("the folder %s cannot be a source: %w", path, err), root.Close())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the folder %s cannot be listed: %w", path, err), root.Close())
	}
	return root, nil
}

// remove removes the records of files that the walk did not find, unless it
// could not look where they would be.
func (s *scanner) remove(ctx context.Context, w walk) error {
	for _, f := range w.found {
		delete(s.known, f.native)
	}
	sink := s.sink
	sink.Stage("removing", len(s.known))
	for _, native := range sorted(s.known) {
		if w.unseen(string(s.known[native].Path)) {
			continue
		}
		if err := sink.Delete(ctx, s.record(native), graph.CursorWrite{Parts: []string{cursorFile, native}}); err != nil {
			return err
		}
		sink.Done(1)
	}
	return sink.Flush(ctx)
}

func (s *scanner) record(native string) graph.RecordID {
	return graph.RecordID{Source: s.src.Name, Stream: graph.StreamDocument, Native: native}
}
