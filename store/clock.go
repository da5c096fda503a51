package store

import (
	"context"
	"sync/atomic"
	"time"
)

// Bounds of a Clock.
const (
	clockAge   = 30 * time.Second // a reading older than this is taken anew when somebody asks
	clockTrip  = time.Second      // a reading that took longer says too little
	clockRetry = time.Second      // between attempts that failed
	clockWait  = 10 * time.Second // for one attempt
)

// Clock tells leader time between transactions. Whatever several nodes must
// agree on (when a session ends, whether an act is over, on which day money was
// spent) is judged by it: a node whose own clock is an hour off says the same as
// the others. It counts on from its last reading by the machine's monotonic
// clock, so it is off by less than the reading's round trip.
//
// It is safe for concurrent use. Without Run, and before the first reading, it
// is the node's own clock.
type Clock struct {
	store  Store
	last   atomic.Pointer[reading]
	wanted chan struct{} // filled when somebody asked and the reading is old
}

type reading struct {
	leader time.Time
	taken  time.Time // by this node's monotonic clock
}

// NewClock returns a Clock of the store's leader time. Call Run to have it read.
func NewClock(st Store) *Clock { return &Clock{store: st, wanted: make(chan struct{}, 1)} }

// Now is leader time, UTC. It never waits.
func (c *Clock) Now() time.Time {
	r := c.last.Load()
	if r == nil {
		c.want()
		return time.Now().UTC()
	}
	gone := time.Since(r.taken)
	if gone > clockAge || paused(r.taken, gone) {
		c.want()
	}
	return r.leader.Add(gone)
}

// paused reports whether the machine stood still, so that its monotonic clock
// counted less than has passed, or somebody moved the wall clock.
func paused(taken time.Time, gone time.Duration) bool {
	wall := time.Now().Round(0).Sub(taken.Round(0))
	return wall-gone > clockTrip || gone-wall > clockTrip
}

func (c *Clock) want() {
	select {
	case c.wanted <- struct{}{}:
	default:
	}
}

// Run reads leader time with an empty transaction whenever Now was asked for and
// the last reading is old, until the context ends (nil). A store that nobody
// asks the time of gets none.
func (c *Clock) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.wanted:
		}
		for !c.read(ctx) {
			t := time.NewTimer(clockRetry)
			select {
			case <-ctx.Done():
				t.Stop()
				return nil
			case <-t.C:
			}
		}
	}
}

// read takes one reading. One that took long is better than none.
func (c *Clock) read(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, clockWait)
	defer cancel()
	began := time.Now()
	res, err := c.store.Apply(ctx, NewTx())
	taken := time.Now()
	if err != nil || res.Time.IsZero() || taken.Sub(began) > clockTrip && c.last.Load() != nil {
		return false
	}
	c.last.Store(&reading{leader: res.Time.UTC(), taken: taken})
	return true
}
