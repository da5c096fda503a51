package machine

import (
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"github.com/cloister-os/cloister/store"
)

// commit writes the group to both databases at its index, side by side. A crash
// between the two is healed by the replay, which starts below and writes the
// same bytes at the same version.
func (m *Machine) commit(index uint64, e *evaluation) error {
	var txns [2]*badger.Txn
	for i, db := range m.cur.databases() {
		txns[i] = db.NewTransactionAt(index-1, true)
		defer txns[i].Discard()
	}
	for i := range e.writes {
		w := &e.writes[i]
		if err := set(txns[dbIndex(store.Database(w.key[1]))], w.key, w.value, w.deleted); err != nil {
			return err
		}
	}
	for i, puts := range e.puts {
		for _, p := range puts {
			if err := set(txns[i], p.key, p.value, p.deleted); err != nil {
				return err
			}
		}
	}
	done := make(chan error, 2)
	for _, t := range txns {
		if err := t.CommitAt(index, func(err error) { done <- err }); err != nil {
			return err
		}
	}
	for range txns {
		if err := <-done; err != nil {
			return fmt.Errorf("commit: %w", err)
		}
	}
	return nil
}

func set(t *badger.Txn, key, value []byte, deleted bool) error {
	if deleted {
		return t.Delete(key)
	}
	return t.SetEntry(badger.NewEntry(key, value))
}

// publish makes a committed group visible.
func (m *Machine) publish(e *evaluation, size int) {
	m.mu.Lock()
	m.head = header{version: store.Version(e.index), time: e.time, chain: e.chain}
	m.ring.add(&recent{version: m.head.version, time: e.time, raw: e.writes, bytes: size})
	m.cur.retain.note(m.head)
	changed := m.changed
	m.changed = make(chan struct{})
	for _, w := range e.writes {
		if string(w.key[1:]) == string(store.RetentionFloor) {
			m.cur.retain.floor = max(m.cur.retain.floor, min(decodeFloor(w.value), m.head.version))
		}
	}
	m.mu.Unlock()
	close(changed)
	m.unsynced.Add(int64(size))
	m.bytes.Add(int64(size))
}
