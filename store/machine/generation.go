package machine

import (
	"github.com/cloister-os/cloister/store/machine/disk"
	"github.com/cloister-os/cloister/store/machine/kv"
)

// generation is one pair of databases in use. Restore builds the next one beside
// it.
type generation struct {
	number uint64
	pair   kv.Pair

	// Guarded by Machine.mu.
	retain retention
	users  int           // open views
	idle   chan struct{} // made when it is retired, closed when users is 0
}

func (m *Machine) openGeneration(n uint64) (*generation, error) {
	p, err := m.volume.Open(n)
	if err != nil {
		return nil, err
	}
	return &generation{number: n, pair: p}, nil
}

// MakeDir creates a folder and those above it that are missing, for certain: the
// name of each is on disk when it returns.
func MakeDir(dir string) error { return disk.MakeDir(dir) }

// turn is a lock that is held over work on the disk. It is a channel, so that
// those who wait for it are seen to wait by a simulation's clock.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

// Lock waits for the turn.
func (t turn) Lock() { t <- struct{}{} }

// Unlock gives the turn back.
func (t turn) Unlock() { <-t }
