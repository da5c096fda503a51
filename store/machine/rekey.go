package machine

// keyed is a pair whose databases are encrypted.
type keyed interface {
	Rekey() error
	Keys() ([]uint32, error)
}

// Rekey makes the databases need the ring's active key alone, while they are in
// use. An interrupted one goes on at the next Open.
func (m *Machine) Rekey() error {
	m.syncing.Lock()
	defer m.syncing.Unlock()
	if p, ok := m.cur.pair.(keyed); ok {
		return p.Rekey()
	}
	return nil
}

// Keys are the ids of the ring's keys that the databases need.
func (m *Machine) Keys() ([]uint32, error) {
	m.syncing.Lock()
	defer m.syncing.Unlock()
	if p, ok := m.cur.pair.(keyed); ok {
		return p.Keys()
	}
	return nil, nil
}
