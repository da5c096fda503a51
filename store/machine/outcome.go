package machine

import (
	"errors"
	"fmt"
	"time"

	"github.com/cloister-os/cloister/store"
)

// Code is the kind of an outcome.
type Code uint8

// The codes. They are stored: never renumber.
const (
	Done     Code = 0
	Conflict Code = 1
	Limit    Code = 2
	// Refused: the sequence is older than the lowest that its origin still
	// answers for, so whether it was applied is not known here any more. It was
	// not applied now. It is never stored.
	Refused Code = 3
)

// Outcome is what became of one transaction of a group.
type Outcome struct {
	Code    Code
	Seqs    []uint64      // Done: one for each Append
	Sums    []int64       // Done: one for each Add
	Key     store.Key     // Conflict, Limit
	Current store.Version // Conflict: the key's version
	Sum     int64         // Limit: before the refused addition
	Limit   int64         // Limit
	// Version and Time are those of the group that decided, which is an earlier
	// one when a sequence was repeated.
	Version store.Version
	Time    time.Time
}

// Result is the outcome as callers of the store see it.
func (o *Outcome) Result() (store.Result, error) {
	switch o.Code {
	case Done:
		return store.Result{Version: o.Version, Time: o.Time, Seqs: o.Seqs, Sums: o.Sums}, nil
	case Conflict:
		return store.Result{}, &store.ConflictError{Key: o.Key, Version: o.Current}
	case Limit:
		return store.Result{}, &store.LimitError{Counter: o.Key, Sum: o.Sum, Limit: o.Limit}
	case Refused:
		return store.Result{}, fmt.Errorf("%w: it was sent again too late to be told apart from a new one", store.ErrUnknown)
	default:
		return store.Result{}, errors.New("an outcome of a later version of this program")
	}
}

// append writes [code, …] without version and time, which the record holds once.
func (o *Outcome) append(b []byte) []byte {
	switch o.Code {
	case Done:
		b = appendUint(appendArray(b, 3), uint64(Done))
		b = appendArray(b, len(o.Seqs))
		for _, s := range o.Seqs {
			b = appendUint(b, s)
		}
		b = appendArray(b, len(o.Sums))
		for _, s := range o.Sums {
			b = appendInt(b, s)
		}
	case Conflict:
		b = appendUint(appendArray(b, 3), uint64(Conflict))
		b = appendUint(appendBytes(b, o.Key), uint64(o.Current))
	default:
		b = appendUint(appendArray(b, 4), uint64(o.Code))
		b = appendInt(appendInt(appendBytes(b, o.Key), o.Sum), o.Limit)
	}
	return b
}

func readOutcome(r *reader) Outcome {
	n := r.array()
	o := Outcome{Code: Code(r.uint())}
	want := 3
	switch o.Code {
	case Done:
		for range r.array() {
			o.Seqs = append(o.Seqs, r.uint())
		}
		for range r.array() {
			o.Sums = append(o.Sums, r.int())
		}
	case Conflict:
		o.Key, o.Current = store.Key(r.bytes()), store.Version(r.uint())
	default:
		want = 4
		o.Key, o.Sum, o.Limit = store.Key(r.bytes()), r.int(), r.int()
	}
	if r.err == nil && n != want {
		r.fail("outcome %d of %d parts", o.Code, n)
	}
	return o
}
