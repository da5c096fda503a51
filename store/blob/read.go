package blob

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"time"
)

// File is a blob opened for reading.
type File interface {
	io.ReadSeekCloser
	io.ReaderAt
}

// Open opens a blob for reading, after all of its bytes were found to match its
// name (once for each file as it stands, then remembered).
func (s *Store) Open(h Hash) (f File, size int64, err error) {
	err = s.whole(h, func() error {
		f, size, err = s.OpenLocal(h)
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	return f, size, nil
}

// OpenLocal is Open of what this node holds, without asking another.
func (s *Store) OpenLocal(h Hash) (File, int64, error) {
	f, err := s.openFile(s.path(h))
	if gone(err) {
		return nil, 0, fmt.Errorf("%w: %s", ErrNotFound, h)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read blob %s: %w", h, s.damage(err))
	}
	if err := s.verify(f, h); err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, f.Size(), nil
}

// Verify reads every byte of a blob that this node holds, whatever is known of
// it, and returns its size. What it reads passes through pace, which may wait.
func (s *Store) Verify(h Hash, pace func(bytes int) error) (int64, error) {
	f, err := s.openFile(s.path(h))
	if gone(err) {
		return 0, fmt.Errorf("%w: %s", ErrNotFound, h)
	}
	if err != nil {
		return 0, fmt.Errorf("read blob %s: %w", h, s.damage(err))
	}
	defer f.Close()
	s.forget(h)
	f.pace = pace
	return f.Size(), s.verify(f, h)
}

// ReadRange returns the bytes [start, end) of a blob.
func (s *Store) ReadRange(h Hash, start, end int64) (b []byte, err error) {
	err = s.whole(h, func() error {
		b, err = s.readRange(h, start, end)
		return err
	})
	return b, err
}

func (s *Store) readRange(h Hash, start, end int64) ([]byte, error) {
	f, size, err := s.OpenLocal(h)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if start < 0 || end < start || end > size {
		return nil, fmt.Errorf("read blob %s: there are no bytes [%d, %d) in %d bytes", h, start, end, size)
	}
	b := make([]byte, end-start)
	if _, err := io.ReadFull(io.NewSectionReader(f, start, end-start), b); err != nil {
		return nil, fmt.Errorf("read blob %s: %w", h, s.damage(err))
	}
	return b, nil
}

// Read returns a whole blob, or ErrTooLarge when it holds more than max bytes.
func (s *Store) Read(h Hash, max int64) ([]byte, error) {
	f, size, err := s.Open(h)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("read blob %s: %w", h, err)
	}
	if size > max {
		return nil, fmt.Errorf("%w: blob %s has %d bytes, expected at most %d", ErrTooLarge, h, size, max)
	}
	return s.ReadRange(h, 0, size)
}

// Has reports whether the blob is there; its bytes are not looked at.
func (s *Store) Has(h Hash) bool {
	_, _, err := s.stat(s.path(h))
	return err == nil
}

// Size is the size of a blob that this node holds; its bytes are not looked at.
func (s *Store) Size(h Hash) (int64, error) {
	size, _, err := s.stat(s.path(h))
	if gone(err) {
		return 0, fmt.Errorf("%w: %s", ErrNotFound, h)
	}
	return size, err
}

// Delete removes a blob; removing what is not there is no error. The caller
// knows that no kept version names it.
func (s *Store) Delete(h Hash) error {
	s.forget(h)
	err := os.Remove(s.path(h))
	if gone(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("delete blob %s: %w", h, err)
	}
	return syncFolder(s.folder(h))
}

// Younger reports whether a blob is not here, or was put since a time.
func (s *Store) Younger(h Hash, than time.Time) (bool, error) {
	_, changed, err := s.stat(s.path(h))
	if gone(err) {
		return true, nil
	}
	return !changed.Before(than), err
}

// DeleteOlder is Delete unless the blob was put, or put again, since a time. It
// reports whether the blob is gone: a Put that has returned since then is never
// undone.
func (s *Store) DeleteOlder(h Hash, than time.Time) (bool, error) {
	s.life.Lock()
	defer s.life.Unlock()
	_, changed, err := s.stat(s.path(h))
	if gone(err) {
		return true, nil
	}
	if err != nil || !changed.Before(than) {
		return false, err
	}
	return true, s.Delete(h)
}

// List yields the name and size of every blob, in the order of their names.
func (s *Store) List() iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		for first := range 256 {
			dir := filepath.Join(s.dir, hex.EncodeToString([]byte{byte(first)}))
			entries, err := os.ReadDir(dir)
			if err != nil && !gone(err) {
				yield(Info{}, fmt.Errorf("list blobs: %w", err))
				return
			}
			for _, e := range entries {
				if !s.listOne(e, yield) {
					return
				}
			}
		}
	}
}

// Info is a blob's name and size.
type Info struct {
	Hash    Hash
	Size    int64
	Changed time.Time // when it was last put
}

func (s *Store) listOne(e os.DirEntry, yield func(Info, error) bool) bool {
	h, err := Parse(e.Name())
	if err != nil {
		return true // not ours
	}
	info, err := e.Info()
	if gone(err) {
		return true // deleted in the meantime
	}
	if err != nil {
		return yield(Info{}, fmt.Errorf("list blobs: %w", err))
	}
	return yield(Info{Hash: h, Size: s.plainSize(info.Size()), Changed: info.ModTime()}, nil)
}

// verify hashes the file unless it was verified as it stands, and leaves it at
// its beginning.
func (s *Store) verify(f *input, h Hash) error {
	s.mu.Lock()
	known, ok := s.verified[h]
	s.mu.Unlock()
	if ok && known == f.stamp {
		return nil
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return fmt.Errorf("read blob %s: %w", h, s.damage(err))
	}
	if Hash(sum.Sum(nil)) != h {
		return fmt.Errorf("%w: %s", ErrCorrupt, h)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read blob %s: %w", h, err)
	}
	s.remember(h, f.stamp)
	return nil
}

func (s *Store) remember(h Hash, now stamp) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.verified) >= verifiedMax {
		clear(s.verified)
	}
	s.verified[h] = now
}
