package graph

import (
	"time"

	"github.com/cloister-os/cloister/store"
)

// Span is the byte range [Start, End) of the record's payload that holds a fact.
// The zero Span is "not in one place".
type Span struct {
	Start int
	End   int
}

// Claim is one property or one relation of Subject, asserted by one record under
// one rule.
type Claim struct {
	Subject EntityID

	Property Property // of a property claim; else ""
	Relation Relation // of a relation claim; else ""
	Object   EntityID // of a relation
	Value    string   // of a property; of a relation: what it carries, if anything
	Rank     uint64   // of a relation: its place among its kind (a commit's Position); 0 = none

	Record  RecordID
	Rule    string
	From    time.Time     // valid from; zero = always
	To      time.Time     // valid until; zero = still
	Span    Span          // where the record's payload says so
	Version store.Version // that wrote it
}

// Assertion is what a connector says about one record: its new state and all
// that it claims. Writer turns it into keys.
type Assertion struct {
	Record      Record // ID, Entity, Type, Rule and the contents are the connector's; the rest is filled in
	Properties  []PropertyClaim
	Relations   []RelationClaim
	Identifiers []IdentifierClaim
}

// PropertyClaim is a property claim in the making. The zero Subject is the
// record's own entity.
type PropertyClaim struct {
	Subject  EntityID
	Type     Type // of the subject, when it is not the record's own
	Property Property
	Value    string
	Span     Span
}

// RelationClaim is a relation claim in the making. The zero Subject is the
// record's own entity.
type RelationClaim struct {
	Subject  EntityID
	Relation Relation
	Object   EntityID
	Value    string
	Rank     uint64
	From     time.Time
	To       time.Time
	Span     Span
}

// IdentifierClaim says that an entity is known by an identifier. The zero
// Subject is the record's own entity.
type IdentifierClaim struct {
	Subject EntityID
	Identifier
}
