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
	slowFor   = 10 * time.Second // how long a node that did not answer is asked last
)

// doubts are the nodes that sent wrong bytes of a blob, and those that did not
// answer lately.
type doubts struct {
	mu    sync.Mutex
	until map[doubt]time.Time
	slow  map[string]time.Time // node → until when it is asked last
}

type doubt struct {
	node string
	hash blob.Hash
}

func newDoubts() doubts { return doubts{until: map[doubt]time.Time{}, slow: map[string]time.Time{}} }

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

// answered remembers whether a node did.
func (d *doubts) answered(node string, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if ok {
		delete(d.slow, node)
	} else {
		d.slow[node] = time.Now().Add(slowFor)
	}
}

// order is a list of nodes with those last that did not answer lately.
func (d *doubts) order(nodes []string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	var quick, slow []string
	for _, n := range nodes {
		if now.Before(d.slow[n]) {
			slow = append(slow, n)
		} else {
			quick = append(quick, n)
		}
	}
	return append(quick, slow...)
}
