package seal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Holder keeps something on the disk that is sealed with data keys.
type Holder interface {
	// Rekey seals everything anew that was sealed with another key than the
	// active one. It may be ended at any moment and is called again.
	Rekey(ctx context.Context) error
	// Keys are the ids of the data keys that are needed to read what is there. It
	// looks at the disk, so that it is right after any crash.
	Keys(ctx context.Context) ([]uint32, error)
}

// Named is a holder by what people call it.
type Named struct {
	Name string // "the log and the databases"
	Holder
}

// Rotation changes a node's data key while the node works: a new key becomes the
// active one, each holder seals anew what it keeps, and the old key is dropped
// when none needs it any more. All that it remembers is the keyring: a keyring
// with more than one key is a rotation under way, so a node that dies in the
// middle goes on where it was. It is safe for concurrent use.
type Rotation struct {
	ring    *Keyring
	holders []Named
	log     *slog.Logger
	wake    chan struct{} // holds one token when there may be something to do

	mu    sync.Mutex // guards all below
	step  string     // holder at work
	left  []string   // holders that still needed an old key when last looked at
	cause string     // why the last round ended early
}

// ErrRotating says that a rotation is under way already.
var ErrRotating = errors.New("a rotation is under way: see cloister seal status")

// NewRotation returns the rotation of a keyring. Run does the work.
func NewRotation(ring *Keyring, log *slog.Logger, holders ...Named) *Rotation {
	return &Rotation{ring: ring, holders: holders, log: log, wake: make(chan struct{}, 1)}
}

// RotationStatus says how far a rotation is.
type RotationStatus struct {
	Active   DataKey   `json:"active"`
	Old      []DataKey `json:"old,omitempty"`     // still in the keyring, newest first
	Rotating bool      `json:"rotating"`          // there are old keys
	Step     string    `json:"step,omitempty"`    // what is being sealed anew now
	Waiting  []string  `json:"waiting,omitempty"` // what still needed an old key when last looked at
	Problem  string    `json:"problem,omitempty"` // why it does not go on; it is tried again
}

// Status says how far the rotation is.
func (r *Rotation) Status() RotationStatus {
	keys := r.ring.Keys()
	r.mu.Lock()
	defer r.mu.Unlock()
	s := RotationStatus{Active: keys[0], Old: keys[1:], Rotating: len(keys) > 1}
	if s.Rotating {
		s.Step, s.Waiting, s.Problem = r.step, slices.Clone(r.left), r.cause
	}
	return s
}

// Start makes a new data key the active one. The rest is done by Run.
func (r *Rotation) Start() (DataKey, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.ring.Keys()) > 1 {
		return DataKey{}, ErrRotating
	}
	key, err := r.ring.Add()
	if err != nil {
		return DataKey{}, err
	}
	r.left, r.cause = nil, ""
	select {
	case r.wake <- struct{}{}:
	default:
	}
	return key, nil
}

// How long Run waits before it looks again at what still needs an old key.
const (
	firstPause = time.Second
	lastPause  = time.Minute
)

// Run does what a rotation needs until the context ends; it begins with what an
// earlier life of the node left.
func (r *Rotation) Run(ctx context.Context) error {
	pause := firstPause
	for ctx.Err() == nil {
		err := r.round(ctx)
		if err != nil && ctx.Err() == nil {
			r.log.Warn("the rotation of the data key waits", "error", err)
		}
		var again <-chan time.Time
		if len(r.ring.Keys()) > 1 {
			again = time.After(pause)
			pause = min(2*pause, lastPause)
		} else {
			pause = firstPause
		}
		select {
		case <-ctx.Done():
		case <-again:
		case <-r.wake:
			pause = firstPause
		}
	}
	return nil
}

// round has every holder seal anew what it keeps, and drops what none needs.
func (r *Rotation) round(ctx context.Context) (err error) {
	keys := r.ring.Keys()
	if len(keys) == 1 {
		return nil
	}
	defer func() { r.note("", func() { r.cause = text(err) }) }()
	for _, h := range r.holders {
		r.note(h.Name, nil)
		if err := h.Rekey(ctx); err != nil {
			return fmt.Errorf("seal %s anew: %w", h.Name, err)
		}
	}
	needed, left, err := r.needed(ctx, keys[0].ID)
	if err != nil {
		return err
	}
	r.note("", func() { r.left = left })
	var drop []uint32
	for _, k := range keys[1:] {
		if !needed[k.ID] {
			drop = append(drop, k.ID)
		}
	}
	if len(drop) == 0 {
		return nil
	}
	if err := r.ring.Drop(drop...); err != nil {
		return err
	}
	r.log.Info("old data keys were dropped: nothing needs them any more", "keys", drop, "active", keys[0].ID)
	return nil
}

// needed asks every holder which keys it needs, and which holders need another
// than the active one.
func (r *Rotation) needed(ctx context.Context, active uint32) (map[uint32]bool, []string, error) {
	needed, left := map[uint32]bool{}, []string(nil)
	for _, h := range r.holders {
		ids, err := h.Keys(ctx)
		if err != nil {
			return nil, nil, fmt.Errorf("look at the keys of %s: %w", h.Name, err)
		}
		for _, id := range ids {
			needed[id] = true
			if id != active && !slices.Contains(left, h.Name) {
				left = append(left, h.Name)
			}
		}
	}
	return needed, left, nil
}

func (r *Rotation) note(step string, also func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.step = step
	if also != nil {
		also()
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
