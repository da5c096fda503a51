package measure

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/cloister-os/cloister/graph"
)

// Commit is a commit to be loaded. Commits are given oldest first.
type Commit struct {
	Author  string // "Name <mail>"
	Time    time.Time
	Subject string
	Changes []Change
	Tag     string // put on this commit
}

// Change is what a commit does to a file.
type Change struct {
	Kind graph.Relation // Adds, Modifies, Deletes, Renames
	Path string
	Old  string // of a rename
}

// SHA is the hash that the n-th commit of a source is given.
func SHA(source string, n int) string {
	sum := sha1.Sum(fmt.Appendf(nil, "%s %d", source, n))
	return hex.EncodeToString(sum[:])
}

// Commits writes a repository's history into a source as the git connector does.
func (l Loader) Commits(ctx context.Context, source string, asOf time.Time, commits ...Commit) error {
	w := graph.NewWriter(l.Store, l.Blobs, source)
	released := 0 // commits before this index are in a release
	for i, c := range commits {
		if err := l.commit(ctx, w, source, i, c); err != nil {
			return fmt.Errorf("load commit %d: %w", i, err)
		}
		if c.Tag == "" {
			continue
		}
		if err := l.tag(ctx, w, source, c, released, i); err != nil {
			return fmt.Errorf("load tag %s: %w", c.Tag, err)
		}
		released = i + 1
	}
	return w.Finish(ctx, graph.Watermark{AsOfNs: asOf.UnixNano()})
}

func commitEntity(source string, n int) graph.EntityID {
	return graph.NewEntityID(graph.NamespaceSHA, source, SHA(source, n))
}

func fileEntity(source, path string) graph.EntityID {
	return graph.NewEntityID(graph.NamespacePath, source, path)
}

// payload builds a record's payload and remembers where things stand in it.
type payload struct{ b strings.Builder }

func (p *payload) line(label, value string) graph.Span {
	p.b.WriteString(label)
	s := graph.Span{Start: p.b.Len()}
	p.b.WriteString(value)
	s.End = p.b.Len()
	p.b.WriteByte('\n')
	return s
}

func (l Loader) commit(ctx context.Context, w *graph.Writer, source string, n int, c Commit) error {
	sha, when := SHA(source, n), c.Time.Format(time.RFC3339)
	rank := uint64(n + 1)
	var p payload
	own := graph.Assertion{Record: graph.Record{
		ID:     graph.RecordID{Source: source, Stream: graph.StreamCommit, Native: sha},
		Entity: commitEntity(source, n), Type: graph.Commit, Rule: "measure.commit/1",
		Title: c.Subject, URI: "git:" + source + "/" + sha, TimeNs: c.Time.UnixNano(),
	}}
	own.Properties = []graph.PropertyClaim{
		{Property: graph.SHA, Value: sha, Span: p.line("commit ", sha)},
		{Property: graph.Author, Value: c.Author, Span: p.line("author ", c.Author)},
		{Property: graph.Time, Value: when, Span: p.line("time ", when)},
		{Property: graph.Subject, Value: c.Subject, Span: p.line("\n", c.Subject)},
		{Property: graph.Position, Value: fmt.Sprint(rank)},
	}
	own.Identifiers = []graph.IdentifierClaim{{Identifier: graph.Identifier{Namespace: graph.NamespaceSHA, Value: sha}}}
	name, mail, _ := strings.Cut(strings.TrimSuffix(c.Author, ">"), " <")
	person := graph.NewEntityID(graph.NamespaceMail, strings.ToLower(mail))
	own.Relations = append(own.Relations, graph.RelationClaim{Subject: person, Relation: graph.Authored, Object: own.Record.Entity, Rank: rank, From: c.Time})
	for _, ch := range c.Changes {
		file := fileEntity(source, ch.Path)
		span := p.line(string(ch.Kind)+" ", ch.Path)
		own.Relations = append(own.Relations, graph.RelationClaim{Relation: ch.Kind, Object: file, Rank: rank, Value: ch.Old, From: c.Time, Span: span})
		own.Properties = append(own.Properties, graph.PropertyClaim{Subject: file, Type: graph.File, Property: graph.Path, Value: ch.Path, Span: span})
		own.Identifiers = append(own.Identifiers, graph.IdentifierClaim{Subject: file, Identifier: graph.Identifier{Namespace: graph.NamespacePath, Value: ch.Path}})
		if ch.Kind == graph.Renames {
			own.Relations = append(own.Relations, graph.RelationClaim{Subject: file, Relation: graph.RenamedFrom, Object: fileEntity(source, ch.Old), Rank: rank, From: c.Time,
				Span: p.line("from ", ch.Old)})
		}
	}
	var err error
	if own.Record.Payload, err = w.Content(ctx, []byte(p.b.String())); err != nil {
		return err
	}
	if err := w.Put(ctx, own); err != nil {
		return err
	}
	return l.person(ctx, w, source, person, name, mail)
}

func (l Loader) person(ctx context.Context, w *graph.Writer, source string, id graph.EntityID, name, mail string) error {
	var p payload
	a := graph.Assertion{Record: graph.Record{
		ID:     graph.RecordID{Source: source, Stream: graph.StreamPerson, Native: strings.ToLower(mail)},
		Entity: id, Type: graph.Person, Rule: "measure.person/1", Title: name,
	}}
	a.Properties = []graph.PropertyClaim{
		{Property: graph.Name, Value: name, Span: p.line("name ", name)},
		{Property: graph.Mail, Value: mail, Span: p.line("mail ", mail)},
	}
	a.Identifiers = []graph.IdentifierClaim{{Identifier: graph.Identifier{Namespace: graph.NamespaceMail, Value: strings.ToLower(mail)}}}
	var err error
	if a.Record.Payload, err = w.Content(ctx, []byte(p.b.String())); err != nil {
		return err
	}
	return w.Put(ctx, a)
}

func (l Loader) tag(ctx context.Context, w *graph.Writer, source string, c Commit, first, last int) error {
	var p payload
	when := c.Time.Format(time.RFC3339)
	a := graph.Assertion{Record: graph.Record{
		ID:     graph.RecordID{Source: source, Stream: graph.StreamTag, Native: c.Tag},
		Entity: graph.NewEntityID(graph.NamespaceTag, source, c.Tag), Type: graph.Tag, Rule: "measure.tag/1",
		Title: c.Tag, TimeNs: c.Time.UnixNano(),
	}}
	a.Properties = []graph.PropertyClaim{
		{Property: graph.Name, Value: c.Tag, Span: p.line("tag ", c.Tag)},
		{Property: graph.Time, Value: when, Span: p.line("time ", when)},
	}
	a.Identifiers = []graph.IdentifierClaim{{Identifier: graph.Identifier{Namespace: graph.NamespaceTag, Value: c.Tag}}}
	for i := first; i <= last; i++ {
		a.Relations = append(a.Relations, graph.RelationClaim{Relation: graph.Contains, Object: commitEntity(source, i), Rank: uint64(i + 1)})
	}
	var err error
	if a.Record.Payload, err = w.Content(ctx, []byte(p.b.String())); err != nil {
		return err
	}
	return w.Put(ctx, a)
}
