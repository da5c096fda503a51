package policy

import (
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go"

	"github.com/cloister-os/cloister/store"
)

// set is one immutable state of all policies.
type set struct {
	byID    map[string]*compiled
	index   index
	broken  []string                 // ids of stored policies that cannot be read, sorted
	version store.Version            // when they were read together; later changes are dated singly
	removed map[string]store.Version // removals after version
}

// compiled is a policy ready to evaluate; cedar is nil when it is broken.
type compiled struct {
	Policy
	cedar      *cedar.Policy
	obligation string
}

func newSet(byID map[string]*compiled, removed map[string]store.Version, version store.Version) *set {
	s := &set{byID: byID, removed: removed, version: version}
	for id, c := range byID {
		if c.cedar == nil {
			s.broken = append(s.broken, id)
		}
	}
	slices.Sort(s.broken)
	s.index = newIndex(s.all())
	return s
}

func (s *set) all() iter.Seq2[cedar.PolicyID, *cedar.Policy] {
	return func(yield func(cedar.PolicyID, *cedar.Policy) bool) {
		for id, c := range s.byID {
			if c.cedar != nil && !yield(cedar.PolicyID(id), c.cedar) {
				return
			}
		}
	}
}

// change is one committed put or removal; policy is nil for a removal.
type change struct {
	id      string
	policy  *compiled
	version store.Version
	watched bool // it comes from Watch: all earlier changes have come before it
}

// with returns the set after the changes. They come from Put and from Watch, so
// twice and out of order: one that is older than what is known counts for nothing.
func (s *set) with(changes []change) *set {
	byID, removed, version, changed := maps.Clone(s.byID), maps.Clone(s.removed), s.version, false
	for _, c := range changes {
		if c.watched {
			version = max(version, c.version)
		}
		was := byID[c.id]
		known := max(s.version, removed[c.id])
		if was != nil {
			known = max(known, was.Version)
		}
		if c.version < known || same(was, c.policy) {
			continue
		}
		changed = true
		delete(byID, c.id)
		delete(removed, c.id)
		if c.policy != nil {
			byID[c.id] = c.policy
		} else {
			removed[c.id] = c.version
		}
	}
	maps.DeleteFunc(removed, func(_ string, v store.Version) bool { return v <= version })
	if !changed {
		return &set{byID: s.byID, index: s.index, broken: s.broken, removed: removed, version: version}
	}
	return newSet(byID, removed, version)
}

// since is what the set knows that happened after a version.
func (s *set) since(v store.Version) []change {
	var out []change
	for id, c := range s.byID {
		if c.Version > v {
			out = append(out, change{id: id, policy: c, version: c.Version})
		}
	}
	for id, removed := range s.removed {
		if removed > v {
			out = append(out, change{id: id, version: removed})
		}
	}
	return out
}

// same reports whether a change says what is known already.
func same(a, b *compiled) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Version == b.Version && a.Text == b.Text
}

// list returns the policies by id.
func (s *set) list() []Policy {
	out := make([]Policy, 0, len(s.byID))
	for _, c := range s.byID {
		out = append(out, c.Policy)
	}
	slices.SortFunc(out, func(a, b Policy) int { return strings.Compare(a.ID, b.ID) })
	return out
}
