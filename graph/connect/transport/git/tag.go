package git

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/connect"
)

// maxPeel bounds tags of tags.
const maxPeel = 16

// tag is a tag with what it was the first to contain.
type tag struct {
	name    string
	target  plumbing.Hash // the commit
	tagger  string        // annotated: "Name <mail>"
	tagged  time.Time     // annotated
	subject string        // annotated
	body    string        // annotated
	why     string        // it is no tag of a commit, and so left out
	node    *node
	first   []*node // commits that no earlier tag contains, parents first
}

func (t *tag) shown() string { return connect.Printable(t.name) }

// tag reads a tag: a light one is its commit, an annotated one an object that
// leads to it.
func (r *repo) tag(name string, h plumbing.Hash) (*tag, error) {
	t := &tag{name: name, target: h}
	for range maxPeel {
		obj, err := r.store.EncodedObject(plumbing.AnyObject, t.target)
		if err != nil {
			return nil, &unreadable{"tag " + t.shown() + " (" + t.target.String() + ")", err}
		}
		switch obj.Type() {
		case plumbing.CommitObject:
			return t, nil
		case plumbing.TagObject:
			if err := t.peel(r); err != nil {
				return nil, err
			}
		default:
			t.why = fmt.Sprintf("it names a %s, not a commit", obj.Type())
			return t, nil
		}
	}
	t.why = fmt.Sprintf("it leads through more than %d other tags", maxPeel)
	return t, nil
}

func (t *tag) peel(r *repo) error {
	raw, err := r.bytes(plumbing.TagObject, t.target)
	if err != nil {
		return err
	}
	head, message, _ := bytes.Cut(raw, []byte("\n\n"))
	next := plumbing.ZeroHash
	for line := range bytes.SplitSeq(head, []byte("\n")) {
		key, value, _ := strings.Cut(string(line), " ")
		switch key {
		case "object":
			next = plumbing.NewHash(value)
		case "tagger":
			if t.tagger == "" {
				name, mail, at := signature(value)
				t.tagger, t.tagged = name+" <"+mail+">", at
			}
		}
	}
	if next.IsZero() {
		return fmt.Errorf("tag %s is damaged: it names no object", t.shown())
	}
	if t.subject == "" {
		if i := bytes.Index(message, []byte("-----BEGIN ")); i >= 0 {
			message = message[:i] // a signature
		}
		t.subject, t.body = divide(message)
	}
	t.target = next
	return nil
}

// readTags finds for each commit the earliest tag that contains it. Tags are
// taken in the order of their commits, parents first, so a tag on an ancestor
// always comes before; of several on one commit the lower version comes first.
func (s *scanner) readTags(context.Context) error {
	for _, t := range s.tags {
		t.node = s.nodes[t.target]
	}
	sort.Slice(s.tags, func(i, j int) bool {
		a, b := s.tags[i], s.tags[j]
		if a.node != b.node {
			return a.node.index < b.node.index
		}
		return natural(a.name, b.name)
	})
	for _, t := range s.tags {
		t.first = s.ancestors(t.node, func(n *node) bool { return n.tag == nil })
		sort.Slice(t.first, func(i, j int) bool { return t.first[i].index < t.first[j].index })
		for _, n := range t.first {
			n.tag = t
		}
	}
	return nil
}

// natural orders names with numbers by value: v1.9 before v1.10, and a candidate
// (v1.0-rc1) before its release.
func natural(a, b string) bool {
	for a != "" && b != "" {
		na, nb := digits(a), digits(b)
		if na > 0 && nb > 0 {
			x, y := strings.TrimLeft(a[:na], "0"), strings.TrimLeft(b[:nb], "0")
			if len(x) != len(y) {
				return len(x) < len(y)
			}
			if x != y {
				return x < y
			}
			a, b = a[na:], b[nb:]
			continue
		}
		if a[0] != b[0] {
			return a[0] < b[0]
		}
		a, b = a[1:], b[1:]
	}
	if a == "" {
		return b != "" && b[0] != '-'
	}
	return a[0] == '-'
}

func digits(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}

func (s *scanner) writeTags(ctx context.Context) error {
	known, err := s.knownTags(ctx)
	if err != nil {
		return err
	}
	s.sink.Stage("tags", len(s.tags))
	for _, t := range s.tags {
		s.sink.Done(1)
		digest := t.digest()
		native := graph.NativeKey(t.shown())
		if bytes.Equal(known[native], digest) {
			continue
		}
		a, text := s.tagAssertion(t)
		if a.Record.Payload, err = s.sink.Content(ctx, text.bytes()); err != nil {
			return err
		}
		if err := s.sink.Put(ctx, a, graph.CursorWrite{Parts: []string{cursorTag, native}, Value: digest}); err != nil {
			return err
		}
	}
	return nil
}

func (s *scanner) knownTags(ctx context.Context) (map[string][]byte, error) {
	known := map[string][]byte{}
	err := s.sink.LoadCursor(ctx, func(rest []string, value []byte) error {
		known[rest[0]] = value
		return nil
	}, cursorTag)
	return known, err
}

// digest is a hash of everything that the tag claims.
func (t *tag) digest() []byte {
	h := sha256.New()
	fmt.Fprintf(h, "%s %q %s %d %q %s %q %q\n", RuleTag, t.name, t.target, t.node.order, t.tagger, t.tagged, t.subject, t.body)
	for _, n := range t.first {
		fmt.Fprintf(h, "%s %d\n", n.hash, n.order)
	}
	return h.Sum(nil)
}

func (s *scanner) tagAssertion(t *tag) (graph.Assertion, *payload) {
	text, sha := &payload{}, t.target.String()
	at := t.tagged
	if at.IsZero() {
		at = time.Unix(t.node.timeS, 0).UTC()
	}
	a := graph.Assertion{Record: graph.Record{ID: s.id(graph.StreamTag, t.shown()), Entity: graph.NewEntityID(graph.NamespaceTag, s.src.Name, t.name),
		Type: graph.Tag, Rule: RuleTag, Title: t.shown(), TimeNs: at.UnixNano(), URI: s.uri(t.shown())}}
	say := func(p graph.Property, value string, span graph.Span) {
		a.Properties = append(a.Properties, graph.PropertyClaim{Property: p, Value: value, Span: span})
	}
	say(graph.Name, t.shown(), text.line("tag ", t.shown()))
	target := text.line("Commit: ", sha)
	say(graph.SHA, sha, target)
	if t.tagger != "" {
		say(graph.Author, t.tagger, text.line("Tagger: ", t.tagger))
	}
	date := at.Format(time.RFC3339)
	say(graph.Time, date, text.line("Date: ", date))
	if t.subject != "" {
		text.text("\n")
		say(graph.Subject, t.subject, text.line("", t.subject))
	}
	if t.body != "" {
		text.text("\n")
		say(graph.Body, t.body, text.line("", t.body))
	}
	a.Identifiers = append(a.Identifiers, graph.IdentifierClaim{Identifier: graph.Identifier{Namespace: graph.NamespaceTag, Value: t.shown()}})
	a.Relations = append(a.Relations,
		graph.RelationClaim{Relation: graph.Points, Object: s.commitID(t.target), Rank: t.node.order, From: at, Span: target},
		graph.RelationClaim{Relation: graph.PartOf, Object: s.repository(), Rank: t.node.order, From: at})
	if len(t.first) > 0 {
		text.text("\nThe first tag to contain:\n")
	}
	for _, n := range t.first {
		a.Relations = append(a.Relations, graph.RelationClaim{Relation: graph.Contains, Object: s.commitID(n.hash), Rank: n.order, From: at,
			Span: text.line("", n.hash.String())})
	}
	return a, text
}

func (s *scanner) commitID(h plumbing.Hash) graph.EntityID {
	return graph.NewEntityID(graph.NamespaceSHA, s.src.Name, h.String())
}

func (s *scanner) removeTags(ctx context.Context) error {
	known, err := s.knownTags(ctx)
	if err != nil {
		return err
	}
	for _, t := range s.tags {
		delete(known, graph.NativeKey(t.shown()))
	}
	for native := range known {
		id := graph.RecordID{Source: s.src.Name, Stream: graph.StreamTag, Native: native}
		if err := s.sink.Delete(ctx, id, graph.CursorWrite{Parts: []string{cursorTag, native}}); err != nil {
			return err
		}
	}
	return nil
}

// writeHead writes the repository itself.
func (s *scanner) writeHead(ctx context.Context) error {
	text := &payload{}
	a := graph.Assertion{Record: graph.Record{ID: s.id(graph.StreamHead, "HEAD"), Entity: s.repository(), Type: graph.Repository,
		Rule: RuleHead, Title: s.src.Name, URI: s.uri("HEAD")}}
	say := func(p graph.Property, label, value string) {
		if value != "" {
			a.Properties = append(a.Properties, graph.PropertyClaim{Property: p, Value: value, Span: text.line(label, value)})
		}
	}
	say(graph.Name, "Repository: ", s.src.Name)
	say(graph.Branch, "Branch: ", connect.Printable(s.refs.branch))
	if n := s.nodes[s.refs.head]; n != nil {
		say(graph.Head, "Head: ", n.hash.String())
		a.Record.TimeNs = time.Unix(n.timeS, 0).UnixNano()
	}
	a.Identifiers = append(a.Identifiers, graph.IdentifierClaim{Identifier: graph.Identifier{Namespace: graph.NamespaceSource, Value: s.src.Name}})
	var err error
	if a.Record.Payload, err = s.sink.Content(ctx, text.bytes()); err != nil {
		return err
	}
	return s.sink.Put(ctx, a)
}
