package proof

import (
	"cmp"
	"maps"
	"slices"
	"strings"
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
	kinds       map[string]uint64
	actions     map[string]uint64
	outcomes    map[string]uint64
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
	return &summary{kinds: map[string]uint64{}, actions: map[string]uint64{}, outcomes: map[string]uint64{}, csvBytes: int64(len(csvHead))}
}

func (s *summary) add(line Line, l *leaf) {
	if s.records == 0 {
		s.first = line.Time
	}
	s.records++
	s.last = line.Time
	count(s.kinds, l.kind)
	if l.kind != "outcome" {
		count(s.actions, l.action)
	} else {
		count(s.outcomes, l.status)
	}
	if l.kind != "refusal" {
		return
	}
	if s.refused++; len(s.refusals) < maxRefusals {
		s.refusals = append(s.refusals, refusal{
			seq: line.Seq, time: line.Time, action: strings.Clone(l.action), resource: l.resourceType + " " + l.resourceID,
			actor: l.actorKind + " " + l.actorID, policies: strings.Clone(l.policies),
		})
	}
}

func count(m map[string]uint64, name string) {
	if _, ok := m[name]; !ok && len(m) >= maxKinds {
		name = "other"
	}
	m[name]++
}

type counted struct {
	name string
	n    uint64
}

// sorted lists counts, the largest first.
func sorted(m map[string]uint64) []counted {
	out := make([]counted, 0, len(m))
	for name := range maps.Keys(m) {
		out = append(out, counted{name, m[name]})
	}
	slices.SortFunc(out, func(a, b counted) int {
		return cmp.Or(cmp.Compare(b.n, a.n), cmp.Compare(a.name, b.name))
	})
	return out
}
