package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Put stores what r yields and returns its name and size. It is durable on this
// node when Put returns; putting the same bytes again costs no write.
func (s *Store) Put(ctx context.Context, r io.Reader) (Hash, int64, error) {
	return s.tell(s.put(ctx, r, nil, false))
}

// PutBytes is Put for bytes at hand: bytes already stored are not written at all.
func (s *Store) PutBytes(ctx context.Context, b []byte) (Hash, error) {
	h := Hash(sha256.Sum256(b))
	if s.again(h, int64(len(b))) {
		_, _, err := s.tell(h, int64(len(b)), nil)
		return h, err
	}
	_, _, err := s.tell(s.put(ctx, bytes.NewReader(b), &h, false))
	return h, err
}

// tell tells the other nodes' side of what was put here.
func (s *Store) tell(h Hash, n int64, err error) (Hash, int64, error) {
	if err == nil && s.remote != nil {
		s.remote.Stored(h, n)
	}
	return h, n, err
}

// PutHash stores what r yields if it is the blob that want names, and fails
// with ErrCorrupt, storing nothing, if it is not.
func (s *Store) PutHash(ctx context.Context, want Hash, r io.Reader) (int64, error) {
	_, n, err := s.tell(s.put(ctx, r, &want, false))
	return n, err
}

// Receive is PutBytes of what another node sent as the blob want: ErrCorrupt when
// it is not. Remote.Stored is not told.
func (s *Store) Receive(ctx context.Context, want Hash, b []byte) error {
	if h := Hash(sha256.Sum256(b)); h != want {
		return fmt.Errorf("%w (expected %s, got %s)", ErrCorrupt, want, h)
	}
	if s.again(want, int64(len(b))) {
		return nil
	}
	_, _, err := s.put(ctx, bytes.NewReader(b), &want, false)
	return err
}

// Repair stores what another node sent as the blob want, and replaces a file of
// the name whatever it holds. Remote.Stored is not told.
func (s *Store) Repair(ctx context.Context, want Hash, r io.Reader) (int64, error) {
	_, n, err := s.put(ctx, r, &want, true)
	return n, err
}

func (s *Store) put(ctx context.Context, r io.Reader, want *Hash, replace bool) (h Hash, n int64, err error) {
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
	if !replace && s.again(h, n) {
		return h, n, os.Remove(f.name())
	}
	if err = s.publish(f.name(), h); err != nil {
		return h, n, errors.Join(err, os.Remove(f.name()))
	}
	s.forget(h)
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
	s.life.RLock()
	defer s.life.RUnlock()
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

// again reports whether a blob of that name and size is there, and if so renews
// its age. Its bytes are verified when they are read. The name may be visible
// before the folder that holds it is durable (a concurrent Put), so the folder is
// synced first.
func (s *Store) again(h Hash, size int64) bool {
	s.life.RLock()
	defer s.life.RUnlock()
	have, changed, err := s.stat(s.path(h))
	if err != nil || have != size || syncFolder(s.folder(h)) != nil {
		return false
	}
	if now := time.Now(); now.Sub(changed) > renewAfter {
		if os.Chtimes(s.path(h), time.Time{}, now) != nil {
			return false
		}
	}
	return true
}

// renewAfter is how old a blob may be before putting it again renews its age:
// far less than any time that DeleteOlder is called with.
const renewAfter = time.Second

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
