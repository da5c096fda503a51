// Package run is the journaled run engine: it takes an agent's steps one after
// the other and writes down each before the next begins.
//
// It promises: a run, once started, goes on whatever process dies; a step whose
// result is in the journal is never executed again; a run has exactly one final
// event; a worker that lost its lease cannot commit; every step passed the
// guard, and a step's result, its outcome and the next step's intent are one
// transaction, so that a run of three steps is four commits.
//
// What was begun and not journaled when a process died is begun again, or, when
// the step says that this would do harm, left in doubt: that is effectively
// once, and exactly once is possible only inside our own store.
//
// Nothing is replayed: the journal holds each step's result, and the next step
// reads it from there. Large results are blobs.
//
// Runs of one owner in a row are a conversation: a run can read what the turns
// before it left, and nobody but the owner can find, change or delete it.
//
// It may import store and auth, and nothing else of Cloister.
package run

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// ID names a run. IDs sort by the time their run was started.
type ID string

// State is where a run stands.
type State string

// The states. All but Running are final.
const (
	Running   State = "running"
	Done      State = "done"
	Failed    State = "failed"
	Cancelled State = "cancelled"
)

// Run is what is known of a run.
type Run struct {
	ID ID
	// Conversation is the ID of its first run, which is this one's when it was
	// started outside of any other.
	Conversation ID
	Agent        string // the agent's name
	Version      string // the digest of the agent's version that this run is pinned to
	Owner        string // the ID of the principal that started it
	State        State
	Step         string // the step being done, or the one it ended in
	Started      time.Time
	Ended        time.Time       // zero while running
	Error        string          // one line, when failed
	Cost         int64           // nano-dollars charged by the steps so far
	Result       json.RawMessage // the last step's result, when done

	input []byte
}

// Restate changes what Input decodes, in this copy of what is known.
func (r *Run) Restate(v any) (err error) {
	r.input, err = encode(v)
	return err
}

// Input decodes what the run was started with.
func (r Run) Input(v any) error { return decode(r.input, v) }

// The bounds of a run. Config can tighten those that it names.
const (
	MaxSteps    = 64       // of an agent
	MaxEvents   = 1000     // of a run
	MaxInput    = 32 << 10 // bytes of a run's encoded input
	MaxAttempts = 8        // at one step, each ended by a dying process
	inlineBytes = 40 << 10 // a larger result is a blob
)

// The kinds of failure.
var (
	ErrNotFound  = errors.New("there is no such run")
	ErrUnknown   = errors.New("there is no such agent")
	ErrBusy      = errors.New("too many runs at once, try again in a moment")
	ErrStopping  = errors.New("the node is stopping, try again in a moment")
	ErrEnded     = errors.New("the run has already ended")
	ErrCancelled = errors.New("cancelled")
	ErrTooLong   = errors.New("the run took longer than it may")
	ErrTurn      = errors.New("the question before is still being worked on: wait for its answer, or stop it")
	ErrFull      = fmt.Errorf("the conversation has %d questions already, which is as many as it may have: begin another", MaxTurns)
	ErrMany      = fmt.Errorf("there are %d conversations of more than one question already: delete some", MaxConversations)
	ErrInDoubt   = errors.New("the step may or may not have happened before the node stopped; look before starting it again")
)
