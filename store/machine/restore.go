package machine

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/dgraph-io/badger/v4"

	"github.com/cloister-os/cloister/store"
)

// Restore replaces the databases by a staged snapshot, which from now on is what
// holds at version at (not below the one it was staged at). It is called by the
// applying goroutine. The new generation is built beside the old one, checked
// against the snapshot's digest, made durable, and made current by the swap of
// one file: a crash at any moment leaves one or the other. Views that are open
// go on reading the old one, which is removed after them. ErrNoData means that
// the snapshot is metadata alone.
func (m *Machine) Restore(r io.Reader, at store.Version) error {
	s, head, err := newStageReader(r)
	if err != nil {
		return err
	}
	if at < head.version {
		return fmt.Errorf("%w: it holds version %d and is to be restored at %d", ErrDamaged, head.version, at)
	}
	m.syncing.Lock()
	defer m.syncing.Unlock()
	old := m.cur
	next, err := m.build(old.number+1, s, head, at)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if err := setGeneration(m.cfg.Dir, next.number); err != nil {
		return errors.Join(err, next.close())
	}
	if err := m.adopt(next); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	idle := m.retire(old)
	m.leaving.Go(func() {
		<-idle
		if err := errors.Join(old.close(), os.RemoveAll(old.dir)); err != nil {
			m.log.Warn("the data from before the restore could not be removed", "error", err)
		}
	})
	return nil
}

// build makes a generation from a snapshot, durable but not current.
func (m *Machine) build(number uint64, s *stageReader, head stageHead, at store.Version) (*generation, error) {
	dir := generationDir(m.cfg.Dir, number)
	if err := os.RemoveAll(dir); err != nil { // an interrupted restore
		return nil, err
	}
	g, err := m.openGeneration(number)
	if err != nil {
		return nil, err
	}
	if err := fill(g, s); err != nil {
		return nil, errors.Join(err, g.close(), os.RemoveAll(dir))
	}
	tables, err := g.syncFiles()
	if err != nil {
		return nil, errors.Join(err, g.close())
	}
	if err := g.marks.write(mark{uint64(at), head.state, head.history, tables}); err != nil {
		return nil, errors.Join(err, g.close())
	}
	return g, nil
}

// fill writes the snapshot's records at their own versions. Such a batch is not
// atomic, which nobody can see: the generation is not current.
func fill(g *generation, s *stageReader) error {
	var batches [2]*badger.WriteBatch
	for i, db := range g.databases() {
		batches[i] = db.NewManagedWriteBatch()
		defer batches[i].Cancel()
	}
	for count := uint64(0); ; count++ {
		b, err := s.next()
		if err != nil {
			return err
		}
		if len(b) == 0 {
			if err := s.finish(count); err != nil {
				return err
			}
			return errors.Join(batches[0].Flush(), batches[1].Flush())
		}
		if err := fillOne(&batches, b); err != nil {
			return err
		}
	}
}

func fillOne(batches *[2]*badger.WriteBatch, b []byte) error {
	r := &reader{b: b}
	r.fixed(5)
	db, key, version, deleted := r.uint(), slices.Clone(r.bytes()), r.uint(), r.uint()
	value := slices.Clone(r.bytes())
	if err := r.end(); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if db > 1 || version == 0 {
		return fmt.Errorf("%w: database %d, version %d", ErrDamaged, db, version)
	}
	if deleted == 1 {
		return batches[db].DeleteAt(key, version)
	}
	return batches[db].SetEntryAt(badger.NewEntry(key, value), version)
}

// Boot is the newest life of a node that the outcomes know of, 0 = none. It is
// called by the applying goroutine, or before there is one.
func (m *Machine) Boot(node string) uint64 {
	if s := m.sessions[node]; s != nil {
		return s.boot
	}
	return 0
}
