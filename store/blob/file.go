package blob

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/cloister-os/cloister/store/sealed"
)

// This file is the only one of the package that makes, opens and measures files
// of bytes: what else a file on disk may hold beside the blob's own bytes is
// known here alone.

// input is a stored file opened for reading. Its bytes, its size and its offsets
// are the blob's.
type input struct {
	*io.SectionReader
	file  *os.File
	stamp stamp
	pace  func(bytes int) error // when set, called after each Read
}

// Read implements io.Reader.
func (in *input) Read(b []byte) (int, error) {
	n, err := in.SectionReader.Read(b)
	if in.pace != nil && n > 0 {
		if paceErr := in.pace(n); paceErr != nil {
			return n, paceErr
		}
	}
	return n, err
}

// Close closes the file.
func (in *input) Close() error { return in.file.Close() }

// openFile opens a stored file; a missing one is fs.ErrNotExist.
func (s *Store) openFile(path string) (*input, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	r, err := sealed.NewReader(f, info.Size(), s.ring, fileAAD())
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &input{
		SectionReader: io.NewSectionReader(r, 0, r.Size()), file: f,
		stamp: stamp{info.Size(), info.ModTime().UnixNano()},
	}, nil
}

// fileAAD is bound into every file. A file takes its name only when it is whole,
// and the name is the hash of what it holds: so nothing more needs to be bound.
func fileAAD() []byte { return []byte("blob") }

// output is a file being written. Exactly one of commit and abort ends it.
type output struct {
	*sealed.Writer
	store *Store
	file  *os.File
}

// createFile makes a new file of its own name in a folder.
func (s *Store) createFile(dir, pattern string) (*output, error) {
	f, err := os.CreateTemp(dir, pattern)
	if err != nil {
		return nil, err
	}
	w, err := sealed.NewWriter(f, s.ring, fileAAD())
	if err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	s.writing(w.Key(), 1)
	return &output{Writer: w, store: s, file: f}, nil
}

// name is the file's path.
func (o *output) name() string { return o.file.Name() }

// commit ends the writing, and makes what was written durable when durable is
// true. After an error the file is gone.
func (o *output) commit(durable bool) error {
	defer o.store.writing(o.Key(), -1)
	err := o.Writer.Close()
	if err == nil && durable {
		err = o.file.Sync()
	}
	if err = errors.Join(err, o.file.Close()); err != nil {
		return errors.Join(err, os.Remove(o.name()))
	}
	return nil
}

// abort ends the writing and removes the file.
func (o *output) abort() error {
	defer o.store.writing(o.Key(), -1)
	return errors.Join(o.file.Close(), os.Remove(o.name()))
}

// plainSize is how many bytes of a blob a file of so many bytes holds, -1 when it
// cannot be one.
func (s *Store) plainSize(onDisk int64) int64 {
	n, err := sealed.PlainSize(s.ring, onDisk)
	if err != nil {
		return -1
	}
	return n
}

// stat measures a stored file without opening it.
func (s *Store) stat(path string) (size int64, changed time.Time, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, time.Time{}, err
	}
	return s.plainSize(info.Size()), info.ModTime(), nil
}

// damage turns an error of reading a file's bytes into ErrCorrupt where it says
// that they are not what was written.
func (s *Store) damage(err error) error {
	if errors.Is(err, sealed.ErrDamaged) || errors.Is(err, sealed.ErrNotSealed) {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return err
}

func (s *Store) tmp() string { return filepath.Join(s.dir, "tmp") }

func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) }

func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = f.Sync()
	return errors.Join(err, f.Close())
}
