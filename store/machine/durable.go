package machine

import "github.com/cloister-os/cloister/store"

// Unsynced is how many bytes of groups were applied since the last Sync began.
func (m *Machine) Unsynced() int64 { return m.unsynced.Load() }

// Bytes is how many bytes of groups were applied since Open.
func (m *Machine) Bytes() int64 { return m.bytes.Load() }

// Mark is the durable mark. The log must be kept above it.
func (m *Machine) Mark() store.Version {
	m.syncing.Lock()
	defer m.syncing.Unlock()
	return store.Version(m.cur.pair.Mark().Index)
}

// Sync makes all that is applied durable and moves the durable mark there.
// Only when the new mark is durable as well may versions below it be discarded.
// An error is fatal: after a failed sync the kernel may have dropped the pages,
// so trying again proves nothing.
func (m *Machine) Sync() error {
	m.syncing.Lock()
	defer m.syncing.Unlock()
	m.mu.Lock()
	g, head := m.cur, m.head
	m.mu.Unlock()
	next := g.pair.Mark()
	if uint64(head.version) == next.Index {
		return nil
	}
	m.unsynced.Store(0)
	next.Index = uint64(head.version)
	if err := g.pair.Sync(); err != nil {
		return err
	}
	m.mu.Lock()
	next = g.retain.next(next, head)
	m.mu.Unlock()
	if err := g.pair.SetMark(next); err != nil {
		return err
	}
	g.pair.Discard(next.State, next.History)
	return nil
}
