package git

import (
	"context"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"golang.org/x/sync/errgroup"

	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/connect"
	"github.com/cloister-os/cloister/store/threads"
)

// runLength is how many commits one reader takes at a time: neighbours share
// trees.
const runLength = 32

// writeCommits reads and writes the commits that are new or have another place
// on the default branch than they were written with.
func (s *scanner) writeCommits(ctx context.Context) error {
	var todo []*node
	for _, n := range s.order {
		if !n.known || n.order != n.wrote {
			todo = append(todo, n)
		}
	}
	s.sink.Stage("commits", len(todo))
	group, inner := errgroup.WithContext(ctx)
	runs, done := make(chan []*node), make(chan written, runLength)
	group.Go(func() error {
		defer close(runs)
		for len(todo) > 0 {
			n := min(runLength, len(todo))
			select {
			case runs <- todo[:n]:
				todo = todo[n:]
			case <-inner.Done():
				return inner.Err()
			}
		}
		return nil
	})
	readers, reading := errgroup.WithContext(inner)
	for range min(4, threads.Processors()) {
		readers.Go(func() error { return s.reader(reading, runs, done) })
	}
	group.Go(func() error {
		defer close(done)
		return readers.Wait()
	})
	group.Go(func() error {
		for w := range done {
			if err := s.sink.Put(inner, w.assertion, w.cursor); err != nil {
				return err
			}
			s.sink.Done(1)
		}
		return nil
	})
	return group.Wait()
}

// written is a commit ready to be written.
type written struct {
	assertion graph.Assertion
	cursor    graph.CursorWrite
}

// reader reads runs of commits with a view of the repository of its own.
func (s *scanner) reader(ctx context.Context, runs <-chan []*node, done chan<- written) (err error) {
	r := openAt(s.repo.dir)
	defer func() {
		if closed := r.close(); err == nil {
			err = closed
		}
	}()
	for run := range runs {
		for _, n := range run {
			w, err := s.write(ctx, r, n)
			if err != nil {
				return err
			}
			select {
			case done <- w:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

func (s *scanner) write(ctx context.Context, r *repo, n *node) (written, error) {
	c, err := r.commit(n.hash)
	if err != nil {
		return written{}, err
	}
	changes, note, err := s.changes(r, c, n.parents)
	if err != nil {
		return written{}, err
	}
	a, t := s.assertion(n, c, changes, note)
	if a.Record.Payload, err = s.sink.Content(ctx, t.bytes()); err != nil {
		return written{}, err
	}
	value, err := n.entry()
	return written{a, graph.CursorWrite{Parts: []string{cursorCommit, n.hash.String()}, Value: value}}, err
}

// changes lists what a commit changed. parents are those that the repository
// holds: a shallow clone's last commit has none and so adds everything. Of a
// merge only files count that differ from all parents; the note says what it
// brought in.
func (s *scanner) changes(r *repo, c *commit, parents []plumbing.Hash) (own []change, note string, err error) {
	for i, p := range parents {
		tree, err := s.treeOf(r, p)
		if err != nil {
			return nil, "", err
		}
		diff, err := r.diff(tree, c.tree)
		if err != nil {
			return nil, "", err
		}
		if i == 0 {
			own = diff
			continue
		}
		if i == 1 {
			note = fmt.Sprintf("merges %s into %s and brings %d changed files", p.String()[:12], parents[0].String()[:12], len(own))
		}
		own = both(own, diff)
	}
	switch {
	case len(parents) == 0:
		own, err = r.diff(plumbing.ZeroHash, c.tree)
	case len(parents) == 1:
		own = r.renames(own)
	}
	return own, note, err
}

// treeOf is a commit's tree, read only when the walk did not read it.
func (s *scanner) treeOf(r *repo, h plumbing.Hash) (plumbing.Hash, error) {
	if n := s.nodes[h]; n != nil && !n.tree.IsZero() {
		return n.tree, nil
	}
	c, err := r.commit(h)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	return c.tree, nil
}

// both keeps the changes of a that b has as well.
func both(a, b []change) (out []change) {
	in := make(map[string]bool, len(b))
	for _, c := range b {
		in[c.path] = true
	}
	for _, c := range a {
		if in[c.path] {
			out = append(out, c)
		}
	}
	return out
}

// assertion is what a commit claims, and the text that says it.
func (s *scanner) assertion(n *node, c *commit, changes []change, note string) (graph.Assertion, *payload) {
	t, sha := &payload{}, c.hash.String()
	id := graph.NewEntityID(graph.NamespaceSHA, s.src.Name, sha)
	a := graph.Assertion{Record: graph.Record{ID: s.id(graph.StreamCommit, sha), Entity: id, Type: graph.Commit, Rule: RuleCommit,
		Title: c.subject, TimeNs: c.authored.UnixNano(), URI: s.uri(sha)}}
	say := func(p graph.Property, value string, span graph.Span) {
		a.Properties = append(a.Properties, graph.PropertyClaim{Property: p, Value: value, Span: span})
	}
	say(graph.SHA, sha, t.line("commit ", sha))
	if note != "" {
		say(graph.Merge, note, t.line("Merge: ", note))
	}
	author := c.author + " <" + c.mail + ">"
	wrote := t.line("Author: ", author)
	say(graph.Author, author, wrote)
	date := c.authored.Format(time.RFC3339)
	say(graph.Time, date, t.line("Date: ", date))
	t.text("\n")
	if c.subject != "" {
		say(graph.Subject, c.subject, t.line("", c.subject))
	}
	if c.body != "" {
		t.text("\n")
		say(graph.Body, c.body, t.line("", c.body))
	}
	if n.order > 0 {
		say(graph.Position, fmt.Sprint(n.order), graph.Span{})
	}
	a.Identifiers = append(a.Identifiers, graph.IdentifierClaim{Identifier: graph.Identifier{Namespace: graph.NamespaceSHA, Value: sha}})
	a.Relations = append(a.Relations,
		graph.RelationClaim{Subject: personID(s.src.Name, n.author), Relation: graph.Authored, Object: id, Rank: n.order, From: c.authored, Span: wrote},
		graph.RelationClaim{Relation: graph.PartOf, Object: s.repository(), Rank: n.order, From: c.authored})
	for i, p := range n.parents {
		a.Relations = append(a.Relations, graph.RelationClaim{Relation: graph.Parent, Object: graph.NewEntityID(graph.NamespaceSHA, s.src.Name, p.String()), Rank: uint64(i + 1)})
	}
	s.claimChanges(&a, t, changes, n.order, c.authored)
	return a, t
}

// verbs are the words for what was done to a file.
var verbs = map[op]string{added: "added ", modified: "modified ", deleted: "deleted ", renamed: "renamed "}

var relations = map[op]graph.Relation{added: graph.Adds, modified: graph.Modifies, deleted: graph.Deletes, renamed: graph.Renames}

func (s *scanner) claimChanges(a *graph.Assertion, t *payload, changes []change, order uint64, at time.Time) {
	if len(changes) > 0 {
		t.text("\nChanges:\n")
	}
	for _, c := range changes {
		shown := connect.Printable(c.path)
		file := s.file(shown)
		claim := graph.RelationClaim{Relation: relations[c.op], Object: file, Rank: order, From: at}
		switch c.op {
		case renamed:
			from := connect.Printable(c.from)
			claim.Value = from
			claim.Span = t.line("", fmt.Sprintf("%s%s to %s", verbs[c.op], from, shown))
			a.Relations = append(a.Relations, graph.RelationClaim{Subject: file, Relation: graph.RenamedFrom, Object: s.file(from),
				Value: from, Rank: order, From: at, Span: claim.Span})
			if c.similarity < 100 {
				a.Relations = append(a.Relations, graph.RelationClaim{Relation: graph.Modifies, Object: file, Rank: order, From: at, Span: claim.Span})
			}
		default:
			claim.Span = t.line("", verbs[c.op]+shown)
		}
		a.Relations = append(a.Relations, claim)
		if c.op == added || c.op == renamed {
			a.Properties = append(a.Properties,
				graph.PropertyClaim{Subject: file, Type: graph.File, Property: graph.Path, Value: shown, Span: claim.Span},
				graph.PropertyClaim{Subject: file, Type: graph.File, Property: graph.Name, Value: path.Base(shown), Span: claim.Span})
			a.Identifiers = append(a.Identifiers, graph.IdentifierClaim{Subject: file, Identifier: graph.Identifier{Namespace: graph.NamespacePath, Value: shown}})
		}
	}
}

// file is the entity of a path in this repository.
func (s *scanner) file(shown string) graph.EntityID {
	return graph.NewEntityID(graph.NamespacePath, s.src.Name, shown)
}

func (s *scanner) repository() graph.EntityID {
	return graph.NewEntityID("git.repository", s.src.Name)
}

func (s *scanner) uri(what string) string {
	return "git+file://" + strings.ReplaceAll(s.src.Path, " ", "%20") + "#" + what
}
