package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// stalePartial is when a pull that nobody went on with is thrown away.
const stalePartial = 7 * 24 * time.Hour

// Partial is a blob that arrives in chunks, in any order. What arrived stays
// through a crash, and is verified again before it counts. Different chunks may
// be put at once.
type Partial struct {
	store *Store
	hash  Hash
	dir   string
}

func (s *Store) parts() string { return filepath.Join(s.dir, "part") }

// Partial begins a blob's arrival, or goes on with it.
func (s *Store) Partial(h Hash) (*Partial, error) {
	p := &Partial{store: s, hash: h, dir: filepath.Join(s.parts(), h.String())}
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return nil, fmt.Errorf("store a blob: %w", err)
	}
	return p, nil
}

func (p *Partial) path(i int) string { return filepath.Join(p.dir, strconv.Itoa(i)) }

// Has reports whether a chunk of that hash has arrived.
func (p *Partial) Has(i int, want Hash) bool {
	b, err := p.read(i)
	return err == nil && Hash(sha256.Sum256(b)) == want
}

func (p *Partial) read(i int) ([]byte, error) {
	f, err := p.store.openFile(p.path(i))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if f.Size() > ChunkBytes {
		return nil, fmt.Errorf("%w: chunk %d of %s", ErrTooLarge, i, p.hash)
	}
	return io.ReadAll(f)
}

// Empty reports whether nothing has arrived.
func (p *Partial) Empty() bool {
	list, err := os.ReadDir(p.dir)
	return err == nil && len(list) == 0
}

// Put keeps a chunk that was verified.
func (p *Partial) Put(i int, b []byte) error {
	if err := p.store.writable(); err != nil {
		return fmt.Errorf("store a blob: %w", err)
	}
	f, err := p.store.createFile(p.dir, "new-")
	if err != nil {
		return fmt.Errorf("store a blob: %w", err)
	}
	if _, err := f.Write(b); err != nil {
		return errors.Join(fmt.Errorf("store a blob: %w", err), f.abort())
	}
	if err := f.commit(false); err != nil {
		return fmt.Errorf("store a blob: %w", err)
	}
	return os.Rename(f.name(), p.path(i))
}

// Finish puts the chunks together and gives the blob its name, durably, in place
// of one that is damaged. ErrCorrupt: the chunks are not the blob's.
func (p *Partial) Finish(ctx context.Context, chunks int) error {
	r := &partialReader{partial: p, chunks: chunks}
	if _, err := p.store.Repair(ctx, p.hash, r); err != nil {
		return err
	}
	return p.Drop()
}

// Drop forgets what has arrived.
func (p *Partial) Drop() error {
	if err := os.RemoveAll(p.dir); err != nil {
		return fmt.Errorf("store a blob: %w", err)
	}
	return nil
}

// partialReader reads the chunks one after the other.
type partialReader struct {
	partial      *Partial
	chunks, next int
	now          bytes.Reader
}

func (r *partialReader) Read(b []byte) (int, error) {
	for r.now.Len() == 0 {
		if r.next == r.chunks {
			return 0, io.EOF
		}
		chunk, err := r.partial.read(r.next)
		if err != nil {
			return 0, err
		}
		r.now.Reset(chunk)
		r.next++
	}
	return r.now.Read(b)
}

// sweepPartials removes what pulls left that nobody went on with.
func (s *Store) sweepPartials(before time.Time) error {
	entries, err := os.ReadDir(s.parts())
	if err != nil {
		if gone(err) {
			return nil
		}
		return err
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.ModTime().Before(before) {
			if err := os.RemoveAll(filepath.Join(s.parts(), e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
