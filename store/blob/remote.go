package blob

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Remote is what the other nodes of a cluster do for a Store; package replica
// gives it. A Store without one is a node alone.
type Remote interface {
	// Node is this node's name.
	Node() string
	// Fetch brings a blob that is missing here, or damaged, from another node.
	Fetch(ctx context.Context, h Hash, damaged bool) error
	// Secure returns when min(2, voters) nodes hold each of the blobs, this one
	// among them.
	Secure(ctx context.Context, hashes []Hash) error
	// Stored is told of each blob that a Put has made durable or found. It must
	// not wait.
	Stored(h Hash, size int64)
}

// fetchWithin bounds how long a reader waits for a blob that another node has.
const fetchWithin = 10 * time.Second

// Join gives the Store the other nodes. Call it before the Store is shared.
func (s *Store) Join(r Remote) { s.remote = r }

// Secure returns when what was put is safe enough to be named: min(2, voters)
// nodes hold each of the blobs. On a node alone that is when Put returned.
func (s *Store) Secure(ctx context.Context, hashes ...Hash) error {
	if s.remote == nil || len(hashes) == 0 {
		return nil
	}
	return s.remote.Secure(ctx, hashes)
}

// whole runs a read, and once more when the blob was missing or damaged and
// another node has brought it.
func (s *Store) whole(h Hash, read func() error) error {
	err := read()
	damaged := errors.Is(err, ErrCorrupt)
	if s.remote == nil || !damaged && !errors.Is(err, ErrNotFound) {
		return err
	}
	if damaged {
		s.forget(h)
	}
	ctx, cancel := context.WithTimeout(context.Background(), fetchWithin)
	defer cancel()
	if fetchErr := s.remote.Fetch(ctx, h, damaged); fetchErr != nil {
		return fmt.Errorf("%w, and no other node could give it: %w", err, fetchErr)
	}
	return read()
}

// forget makes the next read look at every byte.
func (s *Store) forget(h Hash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.verified, h)
}
