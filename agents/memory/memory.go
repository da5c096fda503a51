// Package memory keeps what people told, for themselves alone.
//
// It promises: only a person's own typed words become a memory, never text of a
// source or of an answer; nobody but that person is shown one or answered from
// one, for every read and write is of the caller's own and passes the guard; a
// newer fact takes the place of the older, which stays until it is forgotten; each
// memory explains itself by the words it was made of, when and in which run.
//
// What is remembered lies in history, sealed with a key of its own; the key lies,
// sealed under the root key, in state, where a deleted value does not linger. To
// forget is to destroy the key: whatever still holds the sealed bytes (past
// versions, the log, snapshots) holds nothing that can be read. A backup holds both
// as they were; the ledger of what was forgotten (Ledger) lies outside of what a
// restore replaces, so that what a restore brings back is forgotten again before
// anybody can read it. Runs hold no words of a memory, only its id.
//
// It may import store, auth and agents/memory/speech.
package memory

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cloister-os/cloister/agents/memory/speech"
	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/store"
)

// Bounds of what one person's memory holds.
const (
	MaxPerPerson = 1000            // memories, those that others took the place of included
	MaxBytes     = speech.MaxBytes // of what was said
	maxOnce      = 200             // bytes of an idempotency key
)

// The kinds of what cannot be remembered. Each is a store.ErrInvalid whose text is
// for the person.
var (
	ErrWords  = fmt.Errorf("say it as a fact in one sentence of at most %d bytes, such as “our release day is Thursday”: %w", MaxBytes, store.ErrInvalid)
	ErrSecret = fmt.Errorf("this looks like a password or a key, and those are not remembered: keep it in your organisation's vault, and replace it if others may have seen it: %w", store.ErrInvalid)
	ErrFull   = fmt.Errorf("there are %d memories, and that is the most that are kept: forget some on the page Memory: %w", MaxPerPerson, store.ErrInvalid)
	ErrOld    = fmt.Errorf("a newer memory has taken the place of this one: change that one: %w", store.ErrInvalid)
	ErrNobody = fmt.Errorf("memories are kept for people who are signed in, not for programs: %w", store.ErrInvalid)
)

// Sealer seals memories' keys. *seal.Keys is one.
type Sealer interface {
	Seal(aad, plain []byte) ([]byte, error)
	Open(aad, sealed []byte) ([]byte, error)
}

// Evidence is where a memory comes from: bytes of what the person typed.
type Evidence struct {
	Run   string // the run in which it was said; "" = written on the page Memory, or by its command
	Said  string // all that was typed
	Start int    // bytes of Said
	End   int
}

// Memory is a fact that a person told.
type Memory struct {
	ID        string
	Words     string // the person's own
	Subject   string // "I", "we", or "" for a thing that is named
	Attribute string
	Value     string
	From      time.Time // when it begins to hold; zero = it is not said
	Until     time.Time // when it ends to hold; zero = it is not said
	Evidence  Evidence
	Created   time.Time
	By        string // id of the person, or of the agent that acted for them

	DerivedFrom  string // the memory that it is a correction of; "" = none
	Supersedes   string // the memory whose place it took; "" = none
	SupersededBy string // the memory that took its place; "" = it is in force
	Superseded   time.Time

	Uses int64     // answers that it was used in
	Last time.Time // the last of them

	slot string
	held bool // said and not yet kept
}

// Current reports whether nothing has taken its place.
func (m Memory) Current() bool { return m.SupersededBy == "" }

// Over reports whether it has ended to hold.
func (m Memory) Over(now time.Time) bool { return !m.Until.IsZero() && !now.Before(m.Until) }

// Sentence says the memory to whom it belongs.
func (m Memory) Sentence() string {
	return "You told me on " + Day(m.Created) + ": " + m.Words + m.holds() + "."
}

// Day is a date for people, in UTC.
func Day(t time.Time) string { return t.UTC().Format("2 January 2006") }

// holds says for how long, when that is known.
func (m Memory) holds() string {
	if m.Until.IsZero() {
		return ""
	}
	last := m.Until.Add(-time.Second)
	if m.From.IsZero() || Day(m.From) == Day(m.Created) || m.From.Before(m.Created) {
		return " (until " + Day(last) + ")"
	}
	return " (" + Day(m.From) + " to " + Day(last) + ")"
}

// Config is what a Service needs. Store, Door and Sealer are required.
type Config struct {
	Store  store.Store
	Door   guard.Door
	Sealer Sealer
	Ledger *Ledger          // nil = a restore brings back what was forgotten
	Now    func() time.Time // nil = time.Now; nodes that share a store give a store.Clock
	Logger *slog.Logger     // nil = slog.Default()
}

// Service keeps memories. It is safe for concurrent use.
type Service struct{ cfg Config }

// New returns a Service.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Door == nil || cfg.Sealer == nil {
		return nil, errors.New("memories need a store, the guard and a sealer")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	return &Service{cfg}, nil
}

func (s *Service) now() time.Time { return s.cfg.Now().UTC() }

// owner is whose memories somebody works with: always their own, or those of the
// person that they act for. The guard refuses who can have none; see person.
func owner(p auth.Principal) (string, error) {
	root := p.Root()
	if root.ID == "" {
		return "", ErrNobody
	}
	return root.ID, nil
}

// person refuses, behind the door, programs that a policy has let through.
func person(p auth.Principal) error {
	if k := p.Root().Kind; k != auth.User && k != auth.System { // the node forgets again
		return ErrNobody
	}
	return nil
}

// May reports, without a record, whether somebody has memories at all.
func (s *Service) May(ctx context.Context, p auth.Principal, a auth.Action) bool {
	id, err := owner(p)
	return err == nil && p.Root().Kind == auth.User && s.cfg.Door.Decide(ctx, guard.Request{Principal: p, Action: a, Resource: auth.Memory(all, id)}) == nil
}

// all names a person's memories as a whole.
const all = "own"

func (s *Service) request(p auth.Principal, a auth.Action, id, owner, what, run string) guard.Request {
	return guard.Request{Principal: p, Action: a, Resource: auth.Memory(id, owner), Run: run, Detail: map[string]any{"what": what}}
}
