package machine

import (
	"context"
	"time"
)

const (
	// paceBytes is how much a stage reads or writes between two looks at whether
	// somebody else wants the machine.
	paceBytes = 128 << 10
	// paceShare is how much longer a stage rests than it works while others write:
	// it takes a fifth of one processor then. A thread of low priority would not do:
	// while the system lets it wait, the runtime's collector waits for it, and with
	// that everybody.
	paceShare = 4
	paceLimit = 100 * time.Millisecond
)

// pace keeps a stage from taking more than its share while transactions are being
// applied. When none are, it does not rest.
type pace struct {
	m       *Machine
	began   time.Time
	applied int64
	bytes   int
}

func (m *Machine) newPace() *pace { return &pace{m: m, began: time.Now(), applied: m.bytes.Load()} }

// worked is told of what the stage has read or written, and rests when it is time to.
func (p *pace) worked(ctx context.Context, n int) error {
	if p.bytes += n; p.bytes < paceBytes {
		return nil
	}
	p.bytes = 0
	if p.m.bytes.Load() != p.applied {
		rest := time.NewTimer(min(paceShare*time.Since(p.began), paceLimit))
		defer rest.Stop()
		select {
		case <-rest.C:
		case <-ctx.Done():
		}
	}
	p.began, p.applied = time.Now(), p.m.bytes.Load()
	return ctx.Err()
}
