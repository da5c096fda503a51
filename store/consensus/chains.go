package consensus

import (
	"fmt"
	"slices"
	"sync"

	"github.com/cloister-os/cloister/store/machine"
)

// chainEvery is how many entries lie between two comparisons of the chain.
const chainEvery = 1000

// maxLinks bounds the chain's values that are kept for comparison.
const maxLinks = 16

// chains holds the chain over everything decided, every chainEvery entries: the
// value after the first group of each stretch of the log, which is the same
// group on all nodes.
type chains struct {
	mu    sync.Mutex // guards all below
	last  uint64     // the version before the next
	links []chainLink
}

// chainLink is the chain at a version.
type chainLink struct {
	Version uint64   `cbor:"1,keyasint"`
	Chain   [32]byte `cbor:"2,keyasint"`
}

// note is told of each group, by the goroutine that applies.
func (c *chains) note(m *machine.Machine, index uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.last
	c.last = index
	if before == 0 || before/chainEvery == index/chainEvery {
		return // the first group after a start may be in the middle of a stretch
	}
	_, _, chain := m.Head()
	c.links = append(c.links, chainLink{index, chain})
	if len(c.links) > maxLinks {
		c.links = slices.Clone(c.links[1:])
	}
}

// reset forgets everything, when the databases are replaced.
func (c *chains) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last, c.links = 0, nil
}

// all is what can be compared.
func (c *chains) all() []chainLink {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.links)
}

// compare finds nodes that differ from most of the voters, and stops them.
func (c *chains) compare(n *Node) {
	values := map[string][]chainLink{n.cfg.NodeID: c.all()}
	for _, s := range n.servers() {
		if p, ok := n.census.get(string(s.ID)); ok && string(s.ID) != n.cfg.NodeID {
			values[string(s.ID)] = p.Chains
		}
	}
	others, self := n.voters()
	for id, version := range differing(values, (len(others)+self)/2+1) {
		n.log.Error("a node differs from the others and must stop", "member", id, "version", version)
		if id == n.cfg.NodeID {
			n.fail(differs(version))
			continue
		}
		n.visitors.halt(id, version)
	}
}

// differs is why a node that parted from its peers stops.
func differs(version uint64) error {
	return fmt.Errorf("what this node made of the log differs from the other nodes at version %d: its disk or its memory may be damaged. "+
		"Run `cloister node remove` for it on another node, empty its data folder, and join it again", version)
}

// differing finds those whose chain is not the one that a quorum has at the same
// version. Where no value has a quorum nothing can be said.
func differing(values map[string][]chainLink, quorum int) map[string]uint64 {
	counts := map[chainLink]int{}
	for _, links := range values {
		for _, l := range links {
			counts[l]++
		}
	}
	right := map[uint64][32]byte{}
	for l, k := range counts {
		if k >= quorum {
			right[l.Version] = l.Chain
		}
	}
	wrong := map[string]uint64{}
	for id, links := range values {
		for _, l := range links {
			if chain, ok := right[l.Version]; ok && chain != l.Chain {
				wrong[id] = l.Version
				break
			}
		}
	}
	return wrong
}
