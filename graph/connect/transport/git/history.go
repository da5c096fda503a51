package git

import (
	"container/heap"
	"context"
	"fmt"
	"sort"

	"github.com/fxamacker/cbor/v2"
	"github.com/go-git/go-git/v5/plumbing"

	"github.com/cloister-os/cloister/graph"
)

// The cursor: the references as they were, and one entry for each commit, tag
// and person that was written.
const (
	cursorRefs   = "refs"
	cursorCommit = "commit"
	cursorTag    = "tag"
	cursorPerson = "person"
)

// commitEntry is what is kept of a commit so that the next scan needs not read it.
type commitEntry struct {
	V       uint   `cbor:"0,keyasint"`
	Rule    string `cbor:"1,keyasint"`
	Parents []byte `cbor:"2,keyasint,omitempty"` // hashes, one after the other
	TimeS   int64  `cbor:"3,keyasint"`
	Author  string `cbor:"4,keyasint"` // key of the person
	Order   uint64 `cbor:"5,keyasint,omitempty"`
	Name    string `cbor:"6,keyasint,omitempty"` // of the author, as spelled
	AuthorS int64  `cbor:"7,keyasint"`           // author time
	Cut     bool   `cbor:"8,keyasint,omitempty"` // a shallow clone ended here
}

const cursorV = 1

// node is a commit in the graph of all that is reachable.
type node struct {
	hash    plumbing.Hash
	parents []plumbing.Hash
	timeS   int64         // committer time
	author  string        // key of the person
	name    string        // of the author, as spelled
	authorS int64         // author time
	known   bool          // written by an earlier scan
	wrote   uint64        // the order it was written with
	order   uint64        // place on the default branch from 1; 0 = not on it
	cut     bool          // a shallow clone ends here, so its parents are not known
	tree    plumbing.Hash // zero when the commit was not read in this scan
	index   int           // among all reachable commits, parents first
	reached bool
	on      bool // on the default branch
	tag     *tag // the earliest that contains it
}

// load reads what earlier scans wrote. A commit where a shallow clone ended and
// no longer does is taken for unread. A commit whose parents were not written
// (a scan was cut off with several transactions under way) is taken for unread,
// and so are its descendants: they will be written again, with places that fit.
func (s *scanner) load(ctx context.Context) error {
	err := s.sink.LoadCursor(ctx, func(rest []string, value []byte) error {
		e := commitEntry{}
		if err := cbor.Unmarshal(value, &e); err != nil {
			return fmt.Errorf("the cursor of commit %q: %w", rest, err)
		}
		n := &node{hash: plumbing.NewHash(rest[0]), timeS: e.TimeS, authorS: e.AuthorS, author: s.one(e.Author), name: s.one(e.Name),
			cut: e.Cut, wrote: e.Order, order: e.Order}
		n.known = e.Rule == RuleCommit && e.Cut == s.refs.cut[n.hash]
		for p := e.Parents; len(p) >= len(n.hash); p = p[len(n.hash):] {
			n.parents = append(n.parents, plumbing.Hash(p[:len(n.hash)]))
		}
		s.nodes[n.hash] = n
		return nil
	}, cursorCommit)
	if err != nil {
		return err
	}
	s.forgetOrphans()
	return nil
}

// one keeps a single copy of a string that many commits have.
func (s *scanner) one(text string) string {
	if known, ok := s.strings[text]; ok {
		return known
	}
	s.strings[text] = text
	return text
}

func (s *scanner) forgetOrphans() {
	children := map[plumbing.Hash][]*node{}
	var stack []*node
	for _, n := range s.nodes {
		if !n.known {
			stack = append(stack, n)
			continue
		}
		for _, p := range n.parents {
			if s.nodes[p] == nil {
				stack = append(stack, n)
				break
			}
		}
	}
	if len(stack) == 0 {
		return
	}
	for _, n := range s.nodes {
		for _, p := range n.parents {
			children[p] = append(children[p], n)
		}
	}
	seen := map[*node]bool{}
	for len(stack) > 0 {
		n := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if seen[n] {
			continue
		}
		seen[n] = true
		n.known, n.order = false, 0
		stack = append(stack, children[n.hash]...)
	}
}

// discover walks from all branches and tags, reading the commits that are not
// known, and orders what it reached.
func (s *scanner) discover(ctx context.Context) error {
	stack, err := s.tips()
	if err != nil {
		return err
	}
	var reached []*node
	for len(stack) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		h := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		n, err := s.visit(h)
		if err != nil {
			return err
		}
		if n.reached {
			continue
		}
		n.reached = true
		if reached = append(reached, n); len(reached) > MaxCommits {
			return fmt.Errorf("the repository %s holds more than %d commits", s.src.Path, MaxCommits)
		}
		stack = append(stack, n.parents...)
	}
	return s.sort(reached)
}

// visit returns the node of a commit, read from the repository unless known.
func (s *scanner) visit(h plumbing.Hash) (*node, error) {
	n := s.nodes[h]
	if n != nil && (n.known || n.reached) {
		return n, nil
	}
	c, err := s.repo.commit(h)
	if err != nil {
		return nil, err
	}
	s.sink.Body()
	s.sink.Done(1)
	if n == nil {
		n = &node{hash: h}
		s.nodes[h] = n
	}
	n.parents, n.timeS, n.authorS = c.parents, c.committed.Unix(), c.authored.Unix()
	n.tree = c.tree
	n.author, n.name = s.one(keyOf(c.author, c.mail)), s.one(c.author)
	if n.cut = s.refs.cut[h]; n.cut {
		n.parents = nil
	}
	return n, nil
}

// tips are the commits that branches and tags lead to, and it notes the tags.
func (s *scanner) tips() ([]plumbing.Hash, error) {
	var out []plumbing.Hash
	for _, h := range s.refs.heads {
		out = append(out, h)
	}
	if !s.refs.head.IsZero() {
		out = append(out, s.refs.head)
	}
	names := make([]string, 0, len(s.refs.tags))
	for name := range s.refs.tags {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		t, err := s.repo.tag(name, s.refs.tags[name])
		if err != nil {
			return nil, err
		}
		if t.why != "" {
			s.sink.Skip("tag "+t.shown(), t.why)
			continue
		}
		s.tags = append(s.tags, t)
		out = append(out, t.target)
	}
	return out, nil
}

// sort orders the reached commits: parents first, else by time, else by hash.
func (s *scanner) sort(reached []*node) error {
	waiting := make(map[*node]int, len(reached))
	children := make(map[*node][]*node, len(reached))
	ready := &nodeHeap{}
	for _, n := range reached {
		for _, p := range n.parents {
			parent := s.nodes[p]
			children[parent] = append(children[parent], n)
		}
		if waiting[n] = len(n.parents); len(n.parents) == 0 {
			heap.Push(ready, n)
		}
	}
	for ready.Len() > 0 {
		n := heap.Pop(ready).(*node)
		n.index = len(s.order)
		s.order = append(s.order, n)
		for _, c := range children[n] {
			if waiting[c]--; waiting[c] == 0 {
				heap.Push(ready, c)
			}
		}
	}
	if len(s.order) != len(reached) {
		return fmt.Errorf("the repository %s is damaged: its commits are their own ancestors", s.src.Path)
	}
	return nil
}

// nodeHeap is a heap of commits by time and hash.
type nodeHeap []*node

func (h nodeHeap) Len() int { return len(h) }

func (h nodeHeap) Less(i, j int) bool {
	if h[i].timeS != h[j].timeS {
		return h[i].timeS < h[j].timeS
	}
	return string(h[i].hash[:]) < string(h[j].hash[:])
}

func (h nodeHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *nodeHeap) Push(x any) { *h = append(*h, x.(*node)) }

// Pop implements heap.Interface.
func (h *nodeHeap) Pop() any {
	old := *h
	n := old[len(old)-1]
	*h = old[:len(old)-1]
	return n
}

// number gives the default branch's commits their places: along first parents
// from the oldest, each merge after what it brought in. Those that have a place
// keep it.
func (s *scanner) number(context.Context) error {
	tip := s.nodes[s.refs.head]
	last := uint64(0)
	for _, n := range s.ancestors(tip, func(*node) bool { return true }) {
		n.on = true
		last = max(last, n.order)
	}
	for _, n := range s.order {
		if !n.on {
			n.order = 0
		}
	}
	var chain []*node
	for n := tip; n != nil && n.order == 0; {
		chain = append(chain, n)
		if len(n.parents) == 0 {
			break
		}
		n = s.nodes[n.parents[0]]
	}
	for i := len(chain) - 1; i >= 0; i-- {
		n := chain[i]
		var brought []*node
		for _, p := range n.parents {
			brought = append(brought, s.ancestors(s.nodes[p], func(n *node) bool { return n.order == 0 })...)
		}
		sort.Slice(brought, func(i, j int) bool { return brought[i].index < brought[j].index })
		for _, b := range append(brought, n) {
			if b.order == 0 {
				last++
				b.order = last
			}
		}
	}
	return nil
}

// ancestors lists a commit and its ancestors, going on only where follow says.
func (s *scanner) ancestors(from *node, follow func(*node) bool) (out []*node) {
	seen := map[*node]bool{}
	stack := []*node{from}
	for len(stack) > 0 {
		n := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if n == nil || seen[n] || !follow(n) {
			continue
		}
		seen[n] = true
		out = append(out, n)
		for _, p := range n.parents {
			stack = append(stack, s.nodes[p])
		}
	}
	return out
}

func (n *node) entry() ([]byte, error) {
	e := commitEntry{V: cursorV, Rule: RuleCommit, TimeS: n.timeS, Author: n.author, Order: n.order, Name: n.name, AuthorS: n.authorS, Cut: n.cut}
	for _, p := range n.parents {
		e.Parents = append(e.Parents, p[:]...)
	}
	return encode(e)
}

func encode(v any) ([]byte, error) {
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return nil, err
	}
	return mode.Marshal(v)
}

// remove removes what is no longer reachable: a force-push or a deleted branch.
// Everything else has been written by now.
func (s *scanner) remove(ctx context.Context) error {
	var vanished []*node
	for _, n := range s.nodes {
		if !n.reached {
			vanished = append(vanished, n)
		}
	}
	sort.Slice(vanished, func(i, j int) bool { return string(vanished[i].hash[:]) < string(vanished[j].hash[:]) })
	s.sink.Stage("removing", len(vanished))
	for _, n := range vanished {
		sha := n.hash.String()
		if err := s.sink.Delete(ctx, s.id(graph.StreamCommit, sha), graph.CursorWrite{Parts: []string{cursorCommit, sha}}); err != nil {
			return err
		}
		s.sink.Done(1)
	}
	if err := s.removeTags(ctx); err != nil {
		return err
	}
	return s.removePeople(ctx)
}
