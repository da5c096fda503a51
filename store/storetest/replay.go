package storetest

import (
	"fmt"
	"time"

	"github.com/cloister-os/cloister/store"
)

// Replay applies a transaction at a version and time of another store, so that
// its history can be replayed: transactions of one version in the order in which
// they were decided, versions growing. A nil transaction only makes the version.
func (m *Model) Replay(v store.Version, at time.Time, tx *store.Tx) (store.Result, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if v < m.version {
		return store.Result{}, fmt.Errorf("%w: version %d is replayed after %d", store.ErrInvalid, v, m.version)
	}
	at = at.UTC()
	if at.Before(m.last) {
		at = m.last
	}
	if v > m.version {
		m.advance(v, at)
	}
	if tx == nil {
		return store.Result{Version: v, Time: m.last}, nil
	}
	p := pending{m: m, version: v, time: m.last, keys: map[store.Key]revision{}, sums: map[string]int64{}}
	for _, op := range tx.Ops() {
		if err := p.do(op); err != nil {
			return store.Result{}, err
		}
	}
	p.commit()
	return store.Result{Version: v, Time: m.last, Seqs: p.seqs, Sums: p.totals}, nil
}

// Snapshot is a version as a View shows it, whatever the retention floor says.
func (m *Model) Snapshot(v store.Version) store.Snapshot { return m.snapshot(v) }

// Changes are what Watch yields in (from, to].
func (m *Model) Changes(prefix store.Key, from, to store.Version) []store.Change {
	var out []store.Change
	for v := from + 1; v <= min(to, m.Applied()); v++ {
		if c := m.change(prefix, v); len(c.Writes) > 0 {
			out = append(out, c)
		}
	}
	return out
}
