// Package graph is the context layer: what the organisation's systems say about
// the organisation, kept as record → claim → entity.
//
// A Record is what one system holds under one native key, never merged. A Claim
// is one property or relation that one record asserts under one mapping rule,
// with valid time. An Entity is a cluster of records that are one thing; its id
// follows from its strongest identifier, so two records with the same verified
// mail are one person without anybody having to merge them.
//
// It promises: whoever reads through a Reader sees only what comes from sources
// their Access names, and what they may not see looks absent; every claim is
// still readable at the version it was true (store.At) inside the retention
// window; a record, all it asserts and the cursor of the sync that read it are
// written together (Writer). No language model is on the write path.
//
// The rooms below: connect brings data in, extract turns documents into text
// with sentence ranges, search and answer read. It may import store, store/blob,
// auth and auth/guard.
package graph

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Type is the kind of thing that an entity is. The set is open.
type Type string

// The types that today's connectors make.
const (
	Person     Type = "Person"
	Repository Type = "Repository"
	Commit     Type = "Commit"
	File       Type = "File"
	Tag        Type = "Tag"
	Document   Type = "Document"
)

// Relation is a directed, named edge between two entities. The set is open.
type Relation string

// The relations that today's connectors make.
const (
	Authored    Relation = "AUTHORED"     // Person → Commit
	Adds        Relation = "ADDS"         // Commit → File
	Modifies    Relation = "MODIFIES"     // Commit → File
	Deletes     Relation = "DELETES"      // Commit → File
	Renames     Relation = "RENAMES"      // Commit → File, the new path; Value is the old path
	RenamedFrom Relation = "RENAMED_FROM" // File (new path) → File (old path)
	Parent      Relation = "PARENT"       // Commit → Commit
	Contains    Relation = "CONTAINS"     // Tag → Commit: the earliest tag that contains the commit
	Points      Relation = "POINTS"       // Tag → Commit it was put on
	PartOf      Relation = "PART_OF"      // Commit, Tag → Repository
)

// Property is a named value of an entity. The set is open.
type Property string

// The properties that today's connectors make.
const (
	Name       Property = "name"        // Person, Repository, Tag, File and Document (last path element)
	Mail       Property = "mail"        // Person
	SHA        Property = "sha"         // Commit
	Subject    Property = "subject"     // Commit, annotated Tag: first line of the message
	Body       Property = "body"        // Commit, annotated Tag: the rest, cut at MaxPropertyBytes
	Author     Property = "author"      // Commit: "Name <mail>" as written
	Time       Property = "time"        // Commit: author time; Tag: tagger's or commit's; RFC 3339 with zone
	Position   Property = "order"       // Commit: its place on the default branch from 1, oldest first; absent elsewhere
	Merge      Property = "merge"       // Commit: a note on what a merge brought in
	Path       Property = "path"        // File, Document: slashes, relative to the source
	Title      Property = "title"       // Document
	Format     Property = "format"      // Document: "markdown", "html", "text"
	ModifiedAt Property = "modified_at" // Document: RFC 3339, UTC
	Head       Property = "head"        // Repository: SHA of the default branch
	Branch     Property = "branch"      // Repository: name of the default branch
)

// MaxPropertyBytes bounds a property's value; what is longer is cut, and its
// Span covers the whole.
const MaxPropertyBytes = 4 << 10

// EntityID names an entity. It is a hash of its strongest identifier, so it is
// the same on every node, in every sync and after a rebuild.
type EntityID [16]byte

// NewEntityID derives the id from a namespace and the parts of an identifier,
// such as ("mail", "ada@example.org") or ("git.sha", source, sha).
func NewEntityID(namespace string, parts ...string) EntityID {
	h := sha256.New()
	for _, p := range append([]string{namespace}, parts...) {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	var id EntityID
	copy(id[:], h.Sum(nil))
	return id
}

// String is the id in lower-case hexadecimal.
func (id EntityID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText makes the id hexadecimal in JSON.
func (id EntityID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText undoes MarshalText.
func (id *EntityID) UnmarshalText(b []byte) (err error) {
	*id, err = ParseEntityID(string(b))
	return err
}

// ParseEntityID undoes String.
func ParseEntityID(s string) (EntityID, error) {
	var id EntityID
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("%q is not an entity's id (32 hexadecimal digits)", s)
	}
	copy(id[:], b)
	return id, nil
}

// Namespaces of identifiers. Values are canonical: mail addresses and names in
// lower case, shas in lower-case hexadecimal, paths with slashes.
const (
	NamespaceMail   = "mail"
	NamespaceSHA    = "git.sha"
	NamespacePath   = "path"
	NamespaceTag    = "git.tag"
	NamespaceSource = "source" // a git source's Repository, by the source's name
)

// Identifier is one name by which an entity is known in one namespace.
type Identifier struct {
	Namespace string
	Value     string
}

// Entity is a cluster of records that are one thing, as far as the reader may see.
type Entity struct {
	ID      EntityID
	Type    Type
	Records []RecordID // those that assert a property of it
	Claims  []Claim    // their properties, by record, then as asserted
}

// Value returns the first value of a property, or "".
func (e Entity) Value(p Property) string {
	for _, c := range e.Claims {
		if c.Property == p {
			return c.Value
		}
	}
	return ""
}

// Embedder turns texts into vectors. graph declares what it needs and node
// joins it with models.
type Embedder interface {
	Embed(ctx context.Context, texts []string) ([][]float32, error)
	Model() string
	Dimensions() int
}
