package machine

import (
	"encoding/binary"
	"fmt"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/machine/kv"
)

// Format is the cluster format at the newest version: see store.ClusterFormat.
func (m *Machine) Format() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.format
}

// decodeFormat reads the value of store.ClusterFormat; without one the cluster
// works at format 1.
func decodeFormat(b []byte) (int, error) {
	if b == nil {
		return 1, nil
	}
	if len(b) != 8 || binary.BigEndian.Uint64(b) > 1<<20 {
		return 0, fmt.Errorf("%w: a cluster format of %d bytes", errMalformed, len(b))
	}
	return int(binary.BigEndian.Uint64(b)), nil
}

// checkFormat stops a program that the group leaves behind: from this group on the
// log may hold what it cannot read. It stops before anything of the group is kept,
// so that a newer program goes on from here.
func (e *evaluation) checkFormat() error {
	for i := range e.writes {
		w := &e.writes[i]
		if string(w.Key[1:]) != string(store.ClusterFormat) {
			continue
		}
		if w.Deleted {
			return fmt.Errorf("%w: the cluster format cannot be taken back", store.ErrFormat)
		}
		format, err := decodeFormat(w.Value)
		if err != nil {
			return err
		}
		if err := store.CheckFormat(format); err != nil {
			return fmt.Errorf("the cluster was raised to a format that this program does not know: %w", err)
		}
		e.format = format
	}
	return nil
}

// Led is the node that led when the newest version at or below v was made, ""
// where it was not kept: see store.FormatLeader.
func (m *Machine) Led(v store.Version) (leader string, err error) {
	g, at, low, err := m.pin(v)
	if err != nil {
		return "", err
	}
	defer m.unpin(g, at)
	if at < low[1] {
		return "", fmt.Errorf("%w: version %d was asked for, history begins at %d", store.ErrCompacted, at, low[1])
	}
	r := g.pair.At(kv.History, uint64(at))
	defer r.Close()
	h, err := readHeader(r)
	return h.leader, err
}
