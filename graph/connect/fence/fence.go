// Package fence keeps connectors out of folders that no source may read: the
// node's own, which holds its keys.
//
// It promises: what is closed is told by what it is (device and inode), not by
// what it is called, so no link, mount or ".." leads round it; an open folder is
// looked at with all folders above it, as they are, not as its path says. It may
// import nothing of Cloister but store, for its errors.
package fence

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/cloister-os/cloister/store"
)

// Bounds of one look.
const (
	maxEntries = 4096 // of a closed folder that are known one by one
	maxAbove   = 512  // folders above an open one
)

// ErrClosed is the refusal of what belongs to Cloister itself.
var ErrClosed = fmt.Errorf("it belongs to Cloister itself and is never read: %w", store.ErrInvalid)

// Fence names what is closed. The zero value closes nothing.
type Fence struct{ dirs []string }

// New returns a fence around folders. What lies in them directly is closed one by
// one as well, so that neither a hard link to it nor a mount of it elsewhere is
// read; name a folder further below to have the same for what is in it.
func New(dirs ...string) Fence { return Fence{dirs} }

type identity struct{ device, inode uint64 }

// Line is a fence as the disk is now.
type Line struct{ closed map[identity]bool }

// Look reads what is closed now. A folder that does not exist closes nothing.
func (f Fence) Look() (Line, error) {
	l := Line{closed: map[identity]bool{}}
	for _, dir := range f.dirs {
		info, err := os.Stat(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return Line{}, fmt.Errorf("look at what is closed: %w", err)
		}
		l.close(info)
		if err := l.closeInside(dir); err != nil {
			return Line{}, fmt.Errorf("look at what is closed: %w", err)
		}
	}
	return l, nil
}

func (l Line) closeInside(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	names, err := f.Readdirnames(maxEntries)
	if err != nil && len(names) > 0 {
		return err
	}
	for _, name := range names {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			continue // it went, or is a link that leads nowhere
		}
		l.close(info)
	}
	return nil
}

func (l Line) close(info fs.FileInfo) {
	if id, ok := identify(info); ok {
		l.closed[id] = true
	}
}

func identify(info fs.FileInfo) (identity, bool) {
	sys, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return identity{}, false
	}
	return identity{uint64(sys.Dev), sys.Ino}, true
}

// Closes reports whether a file or folder is one of those that are closed. It
// says nothing of the folders above it.
func (l Line) Closes(info fs.FileInfo) bool {
	id, ok := identify(info)
	return ok && l.closed[id]
}

// Outside is ErrClosed when an open folder is closed, or lies in one that is.
func (l Line) Outside(dir *os.File) error {
	if len(l.closed) == 0 {
		return nil
	}
	at, err := unix.FcntlInt(dir.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("look at the folders above: %w", err)
	}
	defer func() { unix.Close(at) }()
	var below identity
	for range maxAbove {
		var st unix.Stat_t
		if err := unix.Fstat(at, &st); err != nil {
			return fmt.Errorf("look at the folders above: %w", err)
		}
		here := identity{uint64(st.Dev), st.Ino}
		if l.closed[here] {
			return ErrClosed
		}
		if here == below {
			return nil // the root is its own parent
		}
		up, err := unix.Openat(at, "..", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("look at the folders above: %w", err)
		}
		unix.Close(at)
		at, below = up, here
	}
	return fmt.Errorf("it lies more than %d folders deep: %w", maxAbove, store.ErrInvalid)
}
