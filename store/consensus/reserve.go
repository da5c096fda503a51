package consensus

import (
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cloister-os/cloister/store"
)

const (
	reserveEvery = 10 * time.Millisecond // between looks at the disk: statfs takes a microsecond
	reserveLarge = 64 << 10              // a transaction of this size looks first
	aloneFloor   = 4 << 20               // below it nothing is written at all
)

// reserve refuses writes while the disk is nearly full: a log that meets a full
// disk cannot go on, and a database's file that does ends the process.
type reserve struct {
	cfg  Config
	mu   sync.Mutex // one look at a time
	next atomic.Int64
	free atomic.Int64
}

func newReserve(cfg Config) *reserve {
	r := &reserve{cfg: cfg}
	r.free.Store(cfg.ReserveBytes)
	return r
}

// check returns store.ErrReadOnly when too little space is left.
func (r *reserve) check(size int) error {
	if r.cfg.ReserveBytes < 0 {
		return nil
	}
	if size >= reserveLarge || time.Now().UnixNano() >= r.next.Load() {
		r.look()
	}
	if free := r.free.Load(); free < r.cfg.ReserveBytes {
		return fmt.Errorf("%w: the disk of %s has %d MiB free and keeps %d MiB in reserve; free some space and writing goes on by itself",
			store.ErrReadOnly, r.cfg.Dir, free>>20, r.cfg.ReserveBytes>>20)
	}
	return nil
}

// floor returns store.ErrReadOnly when so little of the reserve is left that the
// log itself must not grow. A node that is the only voter must be able to take the
// few bytes of its own lead, or it could not even be read: for it the floor is
// lower. It looks each time, since what it lets through meets the disk at once.
func (r *reserve) floor(alone bool) error {
	if r.cfg.ReserveBytes < 0 {
		return nil
	}
	r.look()
	limit := r.cfg.ReserveBytes / 4
	if alone {
		limit = min(limit, aloneFloor)
	}
	if free := r.free.Load(); free < limit {
		return fmt.Errorf("%w: the disk of %s has %d MiB free, so this node takes no entries; free some space and it goes on by itself",
			store.ErrReadOnly, r.cfg.Dir, free>>20)
	}
	return nil
}

// look measures the free space. A disk that cannot be asked is not called full:
// the write itself will tell.
func (r *reserve) look() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next.Store(time.Now().Add(reserveEvery).UnixNano())
	if free, err := r.cfg.FreeBytes(r.cfg.Dir); err == nil {
		r.free.Store(free)
	}
}

func freeBytes(dir string) (int64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, fmt.Errorf("ask for the free space of %s: %w", dir, err)
	}
	return int64(s.Bavail) * s.Bsize, nil
}

// Writable returns nil, or store.ErrReadOnly with the reason why nothing can be
// written now.
func (n *Node) Writable() error { return n.reserve.check(0) }
