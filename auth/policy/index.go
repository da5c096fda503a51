package policy

import (
	"iter"
	"slices"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// index finds the policies whose scope can match a request, so that a decision
// costs what its candidates cost, not what all policies cost. A policy that is
// not found has a scope that does not match: the plain authorizer would have
// evaluated its scope to false, before any condition, without error. So
// decision, reasons and errors are the same.
//
// The three levels are action, principal and resource, in this order because
// actions divide policies best. It is immutable once built.
type index map[slot]map[slot]map[slot][]entry

// slot is one form of a scope: anything, a type, one entity, or an entity and
// all below it.
type slot struct {
	form form
	uid  cedar.EntityUID // only the type for ofType, empty for anything
}

type form uint8

const (
	anything form = iota
	ofType
	exactly
	within
)

type entry struct {
	id     cedar.PolicyID
	policy *cedar.Policy
}

func newIndex(policies iter.Seq2[cedar.PolicyID, *cedar.Policy]) index {
	x := index{}
	for id, p := range policies {
		scope := p.AST()
		principal, resource := slotsOf(scope.Principal)[0], slotsOf(scope.Resource)[0]
		for _, action := range slotsOf(scope.Action) {
			x.add(action, principal, resource, entry{id, p})
		}
	}
	return x
}

func (x index) add(action, principal, resource slot, e entry) {
	byPrincipal := x[action]
	if byPrincipal == nil {
		byPrincipal = map[slot]map[slot][]entry{}
		x[action] = byPrincipal
	}
	byResource := byPrincipal[principal]
	if byResource == nil {
		byResource = map[slot][]entry{}
		byPrincipal[principal] = byResource
	}
	byResource[resource] = append(byResource[resource], e)
}

// slotsOf says where a policy with this scope is kept: in one slot, or for a
// set of actions in one for each.
func slotsOf(scope ast.IsScopeNode) []slot {
	switch s := scope.(type) {
	case ast.ScopeTypeEq:
		return []slot{{exactly, s.Entity}}
	case ast.ScopeTypeIn:
		return []slot{{within, s.Entity}}
	case ast.ScopeTypeIsIn:
		return []slot{{within, s.Entity}}
	case ast.ScopeTypeIs:
		return []slot{{ofType, cedar.EntityUID{Type: s.Type}}}
	case ast.ScopeTypeInSet:
		slots := make([]slot, 0, len(s.Entities))
		for _, e := range s.Entities {
			if one := (slot{within, e}); !slices.Contains(slots, one) {
				slots = append(slots, one)
			}
		}
		return slots
	}
	return []slot{{form: anything}}
}

// candidates is the set of policies that one request can match. It implements
// cedar.PolicyIterator.
type candidates []entry

// All implements cedar.PolicyIterator.
func (c candidates) All() iter.Seq2[cedar.PolicyID, *cedar.Policy] {
	return func(yield func(cedar.PolicyID, *cedar.Policy) bool) {
		for _, e := range c {
			if !yield(e.id, e.policy) {
				return
			}
		}
	}
}

func (x index) candidates(entities cedar.EntityGetter, req cedar.Request) candidates {
	principals := matching(entities, req.Principal)
	resources := matching(entities, req.Resource)
	actions := matching(entities, req.Action)
	var found candidates
	hits := 0
	for _, a := range actions {
		byPrincipal, ok := x[a]
		if !ok {
			continue
		}
		hits++
		for _, p := range principals {
			byResource, ok := byPrincipal[p]
			if !ok {
				continue
			}
			for _, r := range resources {
				found = append(found, byResource[r]...)
			}
		}
	}
	if hits > 1 {
		found = found.distinct()
	}
	return found
}

// distinct drops repeats: a policy for a set of actions is kept once for each of
// them, and an action can be within two of the set.
func (c candidates) distinct() candidates {
	seen := make(map[cedar.PolicyID]bool, len(c))
	return slices.DeleteFunc(c, func(e entry) bool {
		was := seen[e.id]
		seen[e.id] = true
		return was
	})
}

// matching lists the slots whose scope the entity matches.
func matching(entities cedar.EntityGetter, uid cedar.EntityUID) []slot {
	slots := make([]slot, 0, 8)
	slots = append(slots, slot{form: anything}, slot{ofType, cedar.EntityUID{Type: uid.Type}}, slot{exactly, uid}, slot{within, uid})
	seen := map[cedar.EntityUID]bool{uid: true} // somebody can be in thousands of groups
	for i := len(slots) - 1; i < len(slots); i++ {
		entity, ok := entities.Get(slots[i].uid)
		if !ok {
			continue
		}
		for parent := range entity.Parents.All() {
			if !seen[parent] {
				seen[parent] = true
				slots = append(slots, slot{within, parent})
			}
		}
	}
	return slots
}

// authorize is cedar.Authorize over the candidates only.
func (x index) authorize(entities cedar.EntityGetter, req cedar.Request) (cedar.Decision, cedar.Diagnostic) {
	return cedar.Authorize(x.candidates(entities, req), entities, req)
}
