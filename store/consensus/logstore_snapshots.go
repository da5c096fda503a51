package consensus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/cloister-os/cloister/store/sealed"
)

// sealedSnapshots seals the state files of raft's snapshots. What goes in and
// comes out, and every size that raft sees, is plain: raft tells a follower how
// many bytes will come.
type sealedSnapshots struct {
	raft.SnapshotStore
	ring sealed.Ring
	dir  string // with a folder for each snapshot

	mu   sync.Mutex
	open map[uint32]int // snapshots being written, by the key they are sealed with
}

func sealSnapshots(s raft.SnapshotStore, dir string, ring sealed.Ring) *sealedSnapshots {
	return &sealedSnapshots{SnapshotStore: s, ring: ring, dir: dir, open: map[uint32]int{}}
}

func (s *sealedSnapshots) state(id string) string { return filepath.Join(s.dir, id, "state.bin") }

func snapshotAAD(id string) []byte { return []byte("snapshot/" + id) }

// Create implements raft.SnapshotStore.
func (s *sealedSnapshots) Create(v raft.SnapshotVersion, index, term uint64, c raft.Configuration, ci uint64, t raft.Transport) (raft.SnapshotSink, error) {
	sink, err := s.SnapshotStore.Create(v, index, term, c, ci, t)
	if err != nil {
		return nil, err
	}
	w, err := sealed.NewWriter(sink, s.ring, snapshotAAD(sink.ID()))
	if err != nil {
		return nil, errors.Join(err, sink.Cancel())
	}
	s.writing(w.Key(), 1)
	return &sealedSink{SnapshotSink: sink, w: w, end: sync.OnceFunc(func() { s.writing(w.Key(), -1) })}, nil
}

func (s *sealedSnapshots) writing(key uint32, by int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[key] += by; s.open[key] == 0 {
		delete(s.open, key)
	}
}

// Open implements raft.SnapshotStore.
func (s *sealedSnapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	meta, raw, err := s.SnapshotStore.Open(id) // which compares the checksum
	if err != nil || s.ring == nil {
		return meta, raw, err
	}
	if err := raw.Close(); err != nil {
		return nil, nil, fmt.Errorf("open the snapshot %s: %w", id, err)
	}
	f, err := os.Open(s.state(id))
	if err != nil {
		return nil, nil, fmt.Errorf("open the snapshot %s: %w", id, err)
	}
	r, err := sealed.NewReader(f, meta.Size, s.ring, snapshotAAD(id))
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open the snapshot %s: %w", id, err), f.Close())
	}
	own := *meta
	own.Size = r.Size()
	return &own, sealedSnapshot{r, f}, nil
}

// Keys are the ids of the ring's keys that the snapshots, also those being
// written, are sealed with.
func (s *sealedSnapshots) Keys(context.Context) ([]uint32, error) {
	if s.ring == nil {
		return nil, nil
	}
	var ids []uint32
	s.mu.Lock()
	for id := range s.open {
		ids = append(ids, id)
	}
	s.mu.Unlock()
	list, err := s.List()
	if err != nil {
		return nil, fmt.Errorf("list the snapshots: %w", err)
	}
	for _, m := range list {
		f, err := os.Open(s.state(m.ID))
		if errors.Is(err, os.ErrNotExist) {
			continue // a newer one took its place
		}
		if err != nil {
			return nil, err
		}
		id, err := sealed.FileKey(f)
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("look at the snapshot %s: %w", m.ID, err)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// sealedSnapshot is a snapshot being read.
type sealedSnapshot struct {
	*sealed.Reader
	file *os.File
}

// Close implements io.Closer.
func (s sealedSnapshot) Close() error { return s.file.Close() }

// sealedSink is a snapshot being written.
type sealedSink struct {
	raft.SnapshotSink
	w   *sealed.Writer
	end func()
}

// Write implements io.Writer.
func (s *sealedSink) Write(b []byte) (int, error) { return s.w.Write(b) }

// Close implements raft.SnapshotSink.
func (s *sealedSink) Close() error {
	defer s.end()
	if err := s.w.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return errors.Join(err, s.SnapshotSink.Cancel())
	}
	return s.SnapshotSink.Close()
}

// Cancel implements raft.SnapshotSink.
func (s *sealedSink) Cancel() error {
	defer s.end()
	return s.SnapshotSink.Cancel()
}
