package machine

import (
	"errors"
	"fmt"
	"io"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/machine/kv"
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
	if err := m.volume.SetCurrent(next.number); err != nil {
		return errors.Join(err, next.pair.Close())
	}
	if err := m.adopt(next); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	idle := m.retire(old)
	m.leaving.Go(func() {
		<-idle
		if err := errors.Join(old.pair.Close(), m.volume.Remove(old.number)); err != nil {
			m.log.Warn("the data from before the restore could not be removed", "error", err)
		}
	})
	return nil
}

// build makes a generation from a snapshot, durable but not current.
func (m *Machine) build(number uint64, s *stageReader, head stageHead, at store.Version) (*generation, error) {
	if err := m.volume.Remove(number); err != nil { // an interrupted restore
		return nil, err
	}
	g, err := m.openGeneration(number)
	if err != nil {
		return nil, err
	}
	if err := fill(g.pair, s); err != nil {
		return nil, errors.Join(err, g.pair.Close(), m.volume.Remove(number))
	}
	err = g.pair.Sync()
	if err == nil {
		err = g.pair.SetMark(kv.Mark{Index: uint64(at), State: head.state, History: head.history})
	}
	if err != nil {
		return nil, errors.Join(err, g.pair.Close())
	}
	return g, nil
}

// fill writes the snapshot's records at their own versions.
func fill(p kv.Pair, s *stageReader) error {
	l := p.Load()
	defer l.Abort()
	for count := uint64(0); ; count++ {
		b, err := s.next()
		if err != nil {
			return err
		}
		if len(b) == 0 {
			if err := s.finish(count); err != nil {
				return err
			}
			return l.Finish()
		}
		if err := fillOne(l, b); err != nil {
			return err
		}
	}
}

func fillOne(l kv.Loader, b []byte) error {
	r := &reader{b: b}
	r.fixed(5)
	db, key, version, deleted := r.uint(), r.bytes(), r.uint(), r.uint()
	value := r.bytes()
	if err := r.end(); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if db > 1 || version == 0 {
		return fmt.Errorf("%w: database %d, version %d", ErrDamaged, db, version)
	}
	return l.Add(int(db), version, kv.Write{Key: key, Value: value, Deleted: deleted == 1})
}

// Boot is the newest life of a node that the outcomes know of, 0 = none. It is
// called by the applying goroutine, or before there is one.
func (m *Machine) Boot(node string) uint64 {
	if s := m.sessions[node]; s != nil {
		return s.boot
	}
	return 0
}
