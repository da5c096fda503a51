package store

import (
	"errors"
	"fmt"
)

// The kinds of failure. ErrConflict, ErrLimit, ErrTooLarge, ErrInvalid,
// ErrBusy and ErrReadOnly are definite: nothing happened. After ErrUnknown only
// the same Tx may be sent again.
var (
	ErrConflict  = errors.New("changed by someone else in the meantime")
	ErrLimit     = errors.New("limit reached")
	ErrTooLarge  = errors.New("too large")
	ErrInvalid   = errors.New("invalid")
	ErrBusy      = errors.New("too busy, try again in a moment")
	ErrUnknown   = errors.New("outcome unknown")
	ErrReadOnly  = errors.New("read-only")
	ErrNotFound  = errors.New("not found")
	ErrCompacted = errors.New("that version is no longer kept")
	ErrClosed    = errors.New("store is closed")
	ErrFormat    = errors.New("another format")
)

// ConflictError says which precondition did not hold. It matches ErrConflict.
type ConflictError struct {
	Key     Key
	Version Version // the key's current version, 0 = does not exist
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("key %q is at version %d: %v", e.Key, e.Version, ErrConflict)
}

// Is makes errors.Is(err, ErrConflict) true.
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }

// LimitError says which counter would have passed its limit. It matches ErrLimit.
type LimitError struct {
	Counter Key
	Sum     int64 // before the refused addition
	Limit   int64
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("counter %q is at %d of %d: %v", e.Counter, e.Sum, e.Limit, ErrLimit)
}

// Is makes errors.Is(err, ErrLimit) true.
func (e *LimitError) Is(target error) bool { return target == ErrLimit }
