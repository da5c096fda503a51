package exchange

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/cloister-os/cloister/store/blob"
)

// session is one blob as one node's list of chunks describes it. Until the whole
// has been verified a chunk that does not match the list leaves open who is
// wrong: the node that sent it or the one that gave the list. So the sender is
// only passed over; the verdict comes with the whole.
type session struct {
	client *Client
	hash   blob.Hash
	from   []string // nodes to ask first
	list   blob.Chunks
	giver  string // of the list

	mu       sync.Mutex
	suspects []string // sent a chunk that is not as listed
}

// open asks one node after the other for a blob's list.
func (c *Client) open(ctx context.Context, h blob.Hash, from []string, max int64) (*session, error) {
	var all reasons
	for _, node := range c.trusted(h, from) {
		list, err := c.list(ctx, node, h, max)
		if err == nil {
			return &session{client: c, hash: h, from: from, list: list, giver: node}, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if !errors.Is(err, errNotHeld) {
			all = append(all, err)
		}
	}
	return nil, nowhere(h, all)
}

// chunk asks one node after the other for a chunk, beginning with another one for
// each chunk, and returns it as listed. errWrong: the list's giver is a liar, and
// another list is to be asked for.
func (s *session) chunk(ctx context.Context, i int) ([]byte, error) {
	var all reasons
	nodes := s.nodes()
	for k := range nodes {
		node := nodes[(k+i)%len(nodes)]
		b, err := s.client.chunk(ctx, node, s.hash, s.list, i)
		switch {
		case err == nil:
			return b, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, errWrong) && node == s.giver:
			s.client.distrust(ctx, node, s.hash)
			return nil, err
		case errors.Is(err, errWrong):
			s.suspect(node)
		}
		all = append(all, err)
	}
	return nil, nowhere(s.hash, all)
}

func (s *session) nodes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(s.client.trusted(s.hash, s.from), func(n string) bool { return slices.Contains(s.suspects, n) })
}

func (s *session) suspect(node string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.suspects, node) {
		s.suspects = append(s.suspects, node)
	}
}

// verdict ends a session whose whole was verified: it matched, so the suspects
// lied; or it did not, so the list did.
func (s *session) verdict(ctx context.Context, right bool) {
	liars := []string{s.giver}
	if right {
		s.mu.Lock()
		liars = slices.Clone(s.suspects)
		s.mu.Unlock()
	}
	for _, node := range liars {
		s.client.distrust(ctx, node, s.hash)
	}
}
