// Package git reads a git repository, bare or with a work tree, on the node's
// disk: people, commits with the files they add, change, rename and delete, and
// tags with what they were the first to contain.
//
// It promises: it reads objects and references only (no hook, no configuration
// that could run something, no network); a commit is read once; a repository
// whose references have not moved costs one look at them; what a force-push made
// unreachable goes, with all it claimed, once everything else has been read.
//
// Positions: the default branch's commits are numbered in the order in which
// they came into it along first parents, so a number never changes while its
// commit stays and a parent's is always smaller. A merge claims only what its
// author changed in it: files that differ from all parents.
//
// It may import graph, graph/connect, auth, auth/guard and store/threads.
package git

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/connect"
)

// Kind is what a source names this connector by.
const Kind = "git"

// The mapping rules of the records that this package writes.
const (
	RuleCommit = "git.commit/1"
	RulePerson = "git.person/1"
	RuleTag    = "git.tag/1"
	RuleHead   = "git.head/1"
)

// Bounds of one repository.
const (
	MaxCommits   = 1_000_000
	MaxRefs      = 200_000
	maxPathDepth = 256
)

var _ connect.Connector = (*Connector)(nil)

// Connector reads repositories.
type Connector struct{}

// New returns the connector.
func New() *Connector { return &Connector{} }

// Kind implements connect.Connector.
func (*Connector) Kind() string { return Kind }

// Check implements connect.Connector: the path is a repository whose references
// can be read.
func (*Connector) Check(_ context.Context, permit *guard.Permit, src graph.Source) error {
	if err := permit.Covers(auth.SourceFetch, graph.SourceResource(src)); err != nil {
		return err
	}
	r, err := open(src.Path)
	if err != nil {
		return err
	}
	_, err = r.refs()
	return errors.Join(err, r.close())
}

// Scan implements connect.Connector. A repository that is packed anew while it
// is read loses objects from under us, so one failure of that kind is tried
// again.
func (*Connector) Scan(ctx context.Context, permit *guard.Permit, src graph.Source, sink *connect.Sink) error {
	if err := permit.Covers(auth.SourceFetch, graph.SourceResource(src)); err != nil {
		return err
	}
	err := scan(ctx, src, sink)
	if errors.Is(err, plumbing.ErrObjectNotFound) {
		err = scan(ctx, src, sink)
	}
	if bad := (*unreadable)(nil); errors.As(err, &bad) {
		return fmt.Errorf("the repository %s is damaged or incomplete, \"git fsck\" there says more: %w", src.Path, err)
	}
	return err
}

// scanner is one scan of one repository.
type scanner struct {
	src    graph.Source
	sink   *connect.Sink
	repo   *repo
	refs   refs
	nodes  map[plumbing.Hash]*node
	order  []*node            // reachable ones, parents first
	people map[string]*person // by key
	tags   []*tag

	strings map[string]string // see one
}

func scan(ctx context.Context, src graph.Source, sink *connect.Sink) (err error) {
	sink.Stage("looking", 0)
	r, err := open(src.Path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	s := &scanner{src: src, sink: sink, repo: r, nodes: map[plumbing.Hash]*node{}, strings: map[string]string{}}
	if s.refs, err = r.refs(); err != nil {
		return err
	}
	seen, err := s.seen(ctx)
	if err != nil || seen {
		return err
	}
	steps := []func(context.Context) error{s.load, s.discover, s.number, s.readTags, s.writePeople, s.writeCommits, s.writeTags, s.writeHead, s.remove}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if err := sink.Flush(ctx); err != nil {
		return err
	}
	return sink.Cursor(ctx, graph.CursorWrite{Parts: []string{cursorRefs}, Value: s.refs.digest()})
}

// seen reports whether the references are those of the last completed scan.
func (s *scanner) seen(ctx context.Context) (bool, error) {
	seen := false
	err := s.sink.LoadCursor(ctx, func(_ []string, value []byte) error {
		seen = string(value) == string(s.refs.digest())
		return nil
	}, cursorRefs)
	return seen, err
}

func (s *scanner) id(stream, native string) graph.RecordID {
	return graph.RecordID{Source: s.src.Name, Stream: stream, Native: graph.NativeKey(native)}
}
