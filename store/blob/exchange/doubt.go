package exchange

import (
	"sync"
	"time"

	"github.com/cloister-os/cloister/store/blob"
)

// Bounds of what is remembered of wrong bytes.
const (
	doubtFor  = 30 * time.Minute // by then the node has repaired its copy
	maxDoubts = 4096
)

// doubts are the nodes that sent wrong bytes of a blob.
type doubts struct {
	mu    sync.Mutex
	until map[doubt]time.Time
}

type doubt struct {
	node string
	hash blob.Hash
}

func newDoubts() doubts { return doubts{until: map[doubt]time.Time{}} }

func (d *doubts) add(node string, h blob.Hash) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.until) >= maxDoubts {
		clear(d.until)
	}
	d.until[doubt{node, h}] = time.Now().Add(doubtFor)
}

func (d *doubts) has(node string, h blob.Hash) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Now().Before(d.until[doubt{node, h}])
}
