// Package audit is the append-only record of what was decided and done.
//
// It promises: a record enters the log in the same transaction as what it tells
// of, so neither exists without the other; the log is a Merkle tree whose
// signed checkpoints never contradict each other; an export can be verified
// with auth/audit/proof on a machine that has never seen the cluster; a person
// can be forgotten (Log.Forget) while the log still verifies.
//
// A leaf is the record as canonical JSON (see Record) and nothing else; its
// sequence, version and time are assigned by the store and exported beside it.
// Reads here are plain: whoever serves people goes through auth/guard.
//
// It may import store, auth and auth/audit/proof.
package audit

import (
	"crypto/rand"
	"fmt"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/store"
)

// LogName is the store's name for the audit log.
const LogName = "audit"

// Kind says what a record tells of.
type Kind string

// The kinds of record. An intent is a permitted act about to begin; its outcome
// names it. A refusal is an act that was not permitted. An event is anything
// else worth keeping: a key rotated, an epoch opened, a person forgotten.
const (
	Intent  Kind = "intent"
	Outcome Kind = "outcome"
	Refusal Kind = "refusal"
	Event   Kind = "event"
)

// Bounds of a record. A record past them is refused, and so the act with it.
const (
	MaxLeafBytes = 16 << 10
	maxText      = 4 << 10 // bytes of any one string
	maxDepth     = 4       // of nested lists and maps in Detail
	maxSafeInt   = 1<<53 - 1
)

// Actor is who acted. It holds opaque ids, never a name or an address.
type Actor struct {
	Kind       auth.Kind
	ID         string
	OnBehalfOf *Actor
}

// ActorOf is the actor for a principal.
func ActorOf(p auth.Principal) Actor {
	a := Actor{Kind: p.Kind, ID: p.ID}
	if p.OnBehalfOf != nil {
		o := ActorOf(*p.OnBehalfOf)
		a.OnBehalfOf = &o
	}
	return a
}

// Resource is what was acted on.
type Resource struct {
	Type string
	ID   string
}

// Record is one entry of the log.
//
// Its leaf is canonical JSON as in RFC 8785 with these narrowings: member names
// are lower-case ASCII, numbers are integers whose magnitude is below 2^53,
// empty members are left out ("v", "id", "kind", "actor", "action" and
// "resource" always stand), and what is not valid UTF-8 becomes U+FFFD. The
// members are:
//
//	v              1
//	id             unique; an outcome's is its own, not its intent's
//	kind           intent | outcome | refusal | event
//	actor          {kind, id, on_behalf_of}
//	action         as in package auth, or "audit.…" for the log's own events
//	resource       {type, id}
//	decision       allow | deny
//	policies       the ids of the policies that decided
//	args_sha256    SHA-256 (hex) of the arguments' canonical JSON
//	run, use_case  attribution
//	detail         short facts: strings, booleans, integers, lists and maps of them
//	intent         outcome: the id of its intent
//	status, error  outcome: ok | failed | in-doubt, and one line
//	cost_nano_usd  outcome: settled cost
//	usage          outcome: counted units
//	personal       field -> commitment; see Log.Personal
//	node           the node that proposed the record
type Record struct {
	ID          string // "" = a new one
	Kind        Kind
	Actor       Actor
	Action      auth.Action
	Resource    Resource
	Decision    string
	Policies    []string
	ArgsSHA256  string
	Run         string
	UseCase     string
	Detail      map[string]any
	Intent      string
	Status      string
	Error       string
	CostNanoUSD int64
	Usage       map[string]int64
	Personal    map[string]string
	Node        string
}

// Append adds the record to the transaction as a leaf of the log. The error is
// store.ErrInvalid or store.ErrTooLarge; the transaction must then not be
// applied, for its act would go unrecorded.
func Append(tx *store.Tx, r Record) error {
	if r.ID == "" {
		r.ID = NewID()
	}
	leaf, err := r.Leaf()
	if err != nil {
		return err
	}
	tx.Append(LogName, leaf)
	return tx.Err()
}

// NewID returns an id that is unique without asking anybody.
func NewID() string { return rand.Text() }

// Leaf returns the record's canonical JSON.
func (r *Record) Leaf() ([]byte, error) {
	if err := r.valid(); err != nil {
		return nil, fmt.Errorf("audit record of %s: %w", r.Action, err)
	}
	leaf, err := r.encode()
	if err != nil {
		return nil, fmt.Errorf("audit record of %s: %w", r.Action, err)
	}
	if len(leaf) > MaxLeafBytes {
		return nil, fmt.Errorf("audit record of %s: %w: a record holds at most %d bytes, this one has %d", r.Action, store.ErrTooLarge, MaxLeafBytes, len(leaf))
	}
	return leaf, nil
}

func (r *Record) valid() error {
	switch r.Kind {
	case Intent, Outcome, Refusal, Event:
	default:
		return fmt.Errorf("%w: kind %q is none of intent, outcome, refusal, event", store.ErrInvalid, r.Kind)
	}
	if r.ID == "" || r.Action == "" || r.Actor.Kind == "" {
		return fmt.Errorf("%w: id, action and the actor's kind must stand", store.ErrInvalid)
	}
	if r.Kind == Outcome && r.Intent == "" {
		return fmt.Errorf("%w: an outcome names its intent", store.ErrInvalid)
	}
	return nil
}
