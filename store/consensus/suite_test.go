package consensus_test

import (
	"testing"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/consensus"
	"github.com/cloister-os/cloister/store/storetest"
)

func TestNode(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		return open(t, consensus.Config{Dir: t.TempDir()})
	})
}

// With a ring that holds next to nothing, watchers read the databases.
func TestNodeWithoutRing(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		c := consensus.Config{Dir: t.TempDir()}
		c.Machine.RingBytes = 1
		return open(t, c)
	})
}
