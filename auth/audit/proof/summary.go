package proof

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Bounds of what a report tells.
const (
	maxKinds    = 200 // distinct rows of a table; the rest counts as "other"
	maxRefusals = 100
)

// summary is what a range of records comes to. Its size is bounded.
type summary struct {
	records     uint64
	first, last time.Time
	kinds       map[string]*uint64
	actions     map[string]*uint64
	outcomes    map[string]*uint64
	refused     uint64
	refusals    []refusal // the first maxRefusals
	jsonBytes   int64
	csvBytes    int64
}

type refusal struct {
	seq              uint64
	time             time.Time
	action, resource string
	actor, policies  string
}

func newSummary() *summary {
	return &summary{kinds: map[string]*uint64{}, actions: map[string]*uint64{}, outcomes: map[string]*uint64{}, csvBytes: int64(len(csvHead))}
}

func (s *summary) add(line Line, l *leaf) {
	if s.records == 0 {
		s.first = line.Time
	}
	s.records++
	s.last = line.Time
	count(s.kinds, l.kind)
	if string(l.kind) != "outcome" {
		count(s.actions, l.action)
	} else {
		count(s.outcomes, l.status)
	}
	if string(l.kind) != "refusal" {
		return
	}
	if s.refused++; len(s.refusals) < maxRefusals {
		s.refusals = append(s.refusals, refusal{
			seq: line.Seq, time: line.Time, action: string(l.action), policies: string(l.policies),
			resource: fmt.Sprintf("%s %s", l.resourceType, l.resourceID), actor: fmt.Sprintf("%s %s", l.actorKind, l.actorID),
		})
	}
}

func count(m map[string]*uint64, name []byte) {
	n := m[string(name)]
	if n == nil {
		key := string(name)
		if len(m) >= maxKinds {
			key = "other"
		}
		if n = m[key]; n == nil {
			n = new(uint64)
			m[key] = n
		}
	}
	*n++
}

type counted struct {
	name string
	n    uint64
}

// sorted lists counts, the largest first.
func sorted(m map[string]*uint64) []counted {
	out := make([]counted, 0, len(m))
	for name := range maps.Keys(m) {
		out = append(out, counted{name, *m[name]})
	}
	slices.SortFunc(out, func(a, b counted) int {
		return cmp.Or(cmp.Compare(b.n, a.n), cmp.Compare(a.name, b.name))
	})
	return out
}
