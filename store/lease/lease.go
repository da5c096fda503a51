// Package lease holds what every lease in the store rests on. The leases
// themselves, and what they fence, are of the rooms that have them.
//
// A lease is a key that one worker of all the nodes' processes keeps renewing. It
// promises: its life is measured, never compared. Whoever would take over waits
// until it has stood unchanged for the whole of it by one monotonic clock, and its
// worker stops at two thirds, counted from when it sent the last renewal that
// succeeded. So no wall clock matters, and two workers are not at the same thing
// together. It may import store.
package lease

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/cloister-os/cloister/store"
)

// Sure is for how long after it was sent a renewal makes its worker the only one.
func Sure(life time.Duration) time.Duration { return life * 2 / 3 }

// Sightings is since when this process has seen the leases of others unchanged. The
// zero value has seen none. It is safe for concurrent use.
type Sightings struct {
	mu  sync.Mutex // guards all
	all map[string]sighting
}

// sighting is when a lease was first seen at a version, by this process's own clock.
type sighting struct {
	version store.Version
	since   time.Time
}

// Dead notes that a lease stands at a version, and reports whether it has for longer
// than its life.
func (s *Sightings) Dead(name string, v store.Version, life time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	last, ok := s.all[name]
	if !ok || last.version != v {
		if s.all == nil {
			s.all = map[string]sighting{}
		}
		last = sighting{v, time.Now()}
		s.all[name] = last
	}
	return time.Since(last.since) > life
}

// Keep forgets all leases but those that are still there.
func (s *Sightings) Keep(there map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.all {
		if !there[name] {
			delete(s.all, name)
		}
	}
}

// Applier is the store, as Insist needs it.
type Applier interface {
	Apply(ctx context.Context, tx *store.Tx) (store.Result, error)
}

// Insist applies a transaction until its outcome is known or the context ends: after
// an unknown one the same transaction is sent again.
func Insist(ctx context.Context, st Applier, tx *store.Tx) (store.Result, error) {
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		res, err := st.Apply(ctx, tx)
		if !errors.Is(err, store.ErrUnknown) || !Wait(ctx, pause) {
			return res, err
		}
	}
}

// Wait returns false when the context ended first.
func Wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
