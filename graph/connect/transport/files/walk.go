package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/connect"
	"github.com/cloister-os/cloister/graph/connect/fence"
	"github.com/cloister-os/cloister/graph/extract"
)

// file is a document that the walk found.
type file struct {
	path   string // as the system has it, relative to the folder
	native string // the record's native key
	format extract.Format
	stamp  stamp
}

// stamp tells whether a file has changed. The change time is part of it because
// nobody can set it back.
type stamp struct {
	_       struct{} `cbor:",toarray"`
	Size    int64
	MtimeNs int64
	CtimeNs int64
	Inode   uint64
	Device  uint64
}

func stampOf(info fs.FileInfo) stamp {
	s := stamp{Size: info.Size(), MtimeNs: info.ModTime().UnixNano()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		s.CtimeNs, s.Inode, s.Device = sys.Ctim.Nano(), sys.Ino, uint64(sys.Dev)
	}
	return s
}

// walk lists the documents of a folder in the order of their paths.
type walk struct {
	ctx   context.Context
	root  *os.Root
	line  fence.Line
	sink  *connect.Sink
	found []file
	blind []string // paths that could not be looked at, and so all below them
}

func (w *walk) folder(dir string, depth int) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	if depth > maxDepth {
		w.leave(dir, fmt.Sprintf("folders are read %d levels deep", maxDepth))
		return nil
	}
	entries, err := w.list(dir)
	if errors.Is(err, fence.ErrClosed) {
		w.sink.Skip(connect.Printable(dir), err.Error())
		return nil
	}
	if err != nil {
		if dir == "." || gone(err) && depth == 0 {
			return err
		}
		w.leave(dir, "the folder cannot be listed: "+reason(err))
		return nil
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if err := w.entry(path.Join(dir, e.Name()), e, depth); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) list(dir string) ([]fs.DirEntry, error) {
	f, err := w.root.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	var entries []fs.DirEntry
	info, err := f.Stat()
	if err == nil && w.line.Closes(info) {
		err = fence.ErrClosed
	}
	if err == nil {
		entries, err = f.ReadDir(MaxFiles + 1)
	}
	err = errors.Join(ignoreEnd(err), f.Close())
	if err == nil && len(entries) > MaxFiles {
		err = fmt.Errorf("it holds more than %d entries", MaxFiles)
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, err
}

func (w *walk) entry(name string, e fs.DirEntry, depth int) error {
	switch {
	case e.IsDir():
		return w.folder(name, depth+1)
	case e.Type()&fs.ModeSymlink != 0:
		w.link(name)
		return nil
	}
	format, ok := extract.FormatOf(name)
	if !ok {
		return nil
	}
	info, err := e.Info()
	switch {
	case gone(err):
		return nil // it went while we looked
	case err != nil:
		w.leave(name, "it cannot be looked at: "+reason(err))
		return nil
	case !info.Mode().IsRegular():
		w.sink.Skip(connect.Printable(name), "it is no regular file")
		return nil
	case w.line.Closes(info):
		w.sink.Skip(connect.Printable(name), fence.ErrClosed.Error())
		return nil
	}
	if len(w.found) == MaxFiles {
		return fmt.Errorf("it holds more than %d documents: add its folders as several sources", MaxFiles)
	}
	w.found = append(w.found, file{path: name, native: graph.NativeKey(connect.Printable(name)), format: format, stamp: stampOf(info)})
	w.sink.Done(1)
	return nil
}

// link reports a symbolic link. None is followed: what lies inside the folder is
// read under its own name, and what lies outside is not ours to read.
func (w *walk) link(name string) {
	info, err := w.root.Stat(name)
	_, document := extract.FormatOf(name)
	switch {
	case err == nil && (info.IsDir() || document):
		w.sink.Skip(connect.Printable(name), "it is a link to what is read under its own name")
	case err != nil && gone(err):
		w.sink.Skip(connect.Printable(name), "it is a link that leads nowhere")
	case err != nil:
		w.sink.Skip(connect.Printable(name), "it is a link that leaves the folder; it is not followed")
	}
}

// leave reports what could not be looked at, whose records therefore stay.
func (w *walk) leave(name, why string) {
	w.blind = append(w.blind, name)
	w.sink.Skip(connect.Printable(name), why+"; what was read of it before is kept")
}

// unseen reports whether the walk could not look where the path would be.
func (w *walk) unseen(name string) bool {
	return slices.ContainsFunc(w.blind, func(b string) bool { return name == b || strings.HasPrefix(name, b+"/") })
}

func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) }

func ignoreEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// reason is the innermost error: the path is reported beside it.
func reason(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	return connect.Printable(err.Error())
}
