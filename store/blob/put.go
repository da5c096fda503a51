package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
)

// Put stores what r yields and returns its name and size. It is durable when
// Put returns; putting the same bytes again costs no write.
func (s *Store) Put(ctx context.Context, r io.Reader) (Hash, int64, error) {
	return s.put(ctx, r, nil)
}

// PutBytes is Put for bytes at hand: bytes already stored are not written at all.
func (s *Store) PutBytes(ctx context.Context, b []byte) (Hash, error) {
	h := Hash(sha256.Sum256(b))
	if s.holds(h, int64(len(b))) {
		return h, nil
	}
	_, _, err := s.put(ctx, bytes.NewReader(b), &h)
	return h, err
}

// PutHash stores what r yields if it is the blob that want names, and fails
// with ErrCorrupt, storing nothing, if it is not.
func (s *Store) PutHash(ctx context.Context, want Hash, r io.Reader) (int64, error) {
	_, n, err := s.put(ctx, r, &want)
	return n, err
}

func (s *Store) put(ctx context.Context, r io.Reader, want *Hash) (h Hash, n int64, err error) {
	if err := s.writable(); err != nil {
		return h, 0, fmt.Errorf("store a blob: %w", err)
	}
	f, err := s.createFile(s.tmp(), "put-")
	if err != nil {
		return h, 0, fmt.Errorf("store a blob: %w", err)
	}
	h, n, err = s.fill(ctx, f, r)
	if err == nil && want != nil && h != *want {
		err = fmt.Errorf("%w (expected %s, got %s)", ErrCorrupt, want, h)
	}
	if err != nil {
		return h, n, errors.Join(err, f.abort())
	}
	if err = f.commit(true); err != nil {
		return h, n, fmt.Errorf("store a blob: %w", err)
	}
	if s.holds(h, n) {
		return h, n, os.Remove(f.name())
	}
	if err = s.publish(f.name(), h); err != nil {
		return h, n, errors.Join(err, os.Remove(f.name()))
	}
	return h, n, nil
}

// fill copies r to f, hashing, until it ends, the context does, or the bound is
// passed.
func (s *Store) fill(ctx context.Context, f io.Writer, r io.Reader) (h Hash, n int64, err error) {
	sum := sha256.New()
	w := io.MultiWriter(f, sum)
	bounded := io.LimitReader(readerUntil{ctx, s.writable, r}, s.maxBytes+1)
	n, err = io.Copy(w, bounded)
	if err != nil {
		return h, n, fmt.Errorf("store a blob: %w", err)
	}
	if n > s.maxBytes {
		return h, n, fmt.Errorf("%w: at most %d bytes", ErrTooLarge, s.maxBytes)
	}
	sum.Sum(h[:0])
	return h, n, nil
}

// publish gives a synced temporary file its name, durably.
func (s *Store) publish(tmp string, h Hash) error {
	dir := s.folder(h)
	if err := s.makeFolder(dir); err != nil {
		return err
	}
	if err := os.Rename(tmp, s.path(h)); err != nil {
		return fmt.Errorf("store a blob: %w", err)
	}
	if err := syncFolder(dir); err != nil {
		return fmt.Errorf("store a blob: %w", err)
	}
	return nil
}

func (s *Store) makeFolder(dir string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.folders[dir] {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("store a blob: %w", err)
	}
	if err := syncFolder(s.dir); err != nil {
		return fmt.Errorf("store a blob: %w", err)
	}
	s.folders[dir] = true
	return nil
}

// holds reports whether a blob of that name and size is there. Its bytes are
// verified when they are read. The name may be visible before the folder that
// holds it is durable (a concurrent Put), so the folder is synced first.
func (s *Store) holds(h Hash, size int64) bool {
	have, _, err := s.stat(s.path(h))
	return err == nil && have == size && syncFolder(s.folder(h)) == nil
}

// readerUntil stops reading when its context ends or nothing may be written.
type readerUntil struct {
	ctx      context.Context
	writable func() error
	r        io.Reader
}

func (r readerUntil) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	if err := r.writable(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
