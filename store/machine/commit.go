package machine

import (
	"github.com/cloister-os/cloister/store"
)

// commit writes the group to both databases at its index. A crash between the
// two is healed by the replay, which starts below and writes the same bytes at
// the same version.
func (m *Machine) commit(index uint64, e *evaluation) error {
	for i := range m.batch {
		m.batch[i] = append(m.batch[i][:0], e.puts[i]...)
	}
	for _, w := range e.writes {
		i := dbIndex(store.Database(w.Key[1]))
		m.batch[i] = append(m.batch[i], w)
	}
	err := m.cur.pair.Commit(index, m.batch)
	for i := range m.batch {
		clear(m.batch[i])
	}
	return err
}

// publish makes a committed group visible.
func (m *Machine) publish(e *evaluation, size int) {
	m.mu.Lock()
	m.head = header{version: store.Version(e.index), time: e.time, chain: e.chain, leader: e.leader}
	m.ring.add(&recent{version: m.head.version, time: e.time, raw: e.writes, bytes: size})
	m.cur.retain.note(m.head)
	if e.format != 0 {
		m.format = e.format
	}
	changed := m.changed
	m.changed = make(chan struct{})
	for _, w := range e.writes {
		if string(w.Key[1:]) == string(store.RetentionFloor) {
			m.cur.retain.floor = max(m.cur.retain.floor, min(decodeFloor(w.Value), m.head.version))
		}
	}
	m.mu.Unlock()
	close(changed)
	m.unsynced.Add(int64(size))
	m.bytes.Add(int64(size))
}
