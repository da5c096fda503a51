package history

import (
	"encoding/json"
	"sort"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/test/kvnode/wire"
)

// past is what the replay of TxLog gives: every value that a key had, and every
// sum of a counter, in order.
type past struct {
	values map[string][]revision
	sums   map[string][]revision
}

type revision struct {
	version store.Version
	value   string
	sum     int64
}

func newPast() *past { return &past{values: map[string][]revision{}, sums: map[string][]revision{}} }

// at is the newest revision at or below a version; the zero one when none.
func at(revs []revision, v store.Version) revision {
	i := sort.Search(len(revs), func(i int) bool { return revs[i].version > v })
	if i == 0 {
		return revision{}
	}
	return revs[i-1]
}

func last(revs []revision) revision {
	if len(revs) == 0 {
		return revision{}
	}
	return revs[len(revs)-1]
}

// replay does what TxLog says in its order and finds each transaction whose
// preconditions did not hold, each refusal that nothing explains, and each read
// of the replayed keys and counters that no version explains.
func (h *History) replay(r *report) {
	p := newPast()
	for _, l := range h.Logs[TxLog] {
		var e Entry
		if err := json.Unmarshal([]byte(l.Data), &e); err != nil {
			r.add("log", "leaf %d of %q: %v", l.Seq, TxLog, err)
			continue
		}
		p.apply(r, e, l)
	}
	for _, o := range h.Ops {
		switch {
		case o.Tx != nil && appendsTo(o, TxLog) >= 0:
			p.checkTx(r, o)
		case o.Read != nil && o.Outcome == OK:
			p.checkRead(r, o)
		}
	}
}

func (p *past) apply(r *report, e Entry, l wire.Leaf) {
	for _, c := range e.Checks {
		if have := last(p.values[c.Key]).version; have != c.Version {
			r.add("lost update", "transaction %s at %d of version %d needs %s at %d, it was at %d", e.ID, l.Seq, l.Version, c.Key, c.Version, have)
		}
	}
	for _, w := range e.Puts {
		p.values[w.Key] = append(p.values[w.Key], revision{version: l.Version, value: w.Value})
	}
	for _, a := range e.Adds {
		sum := last(p.sums[a.Counter]).sum + a.Delta
		if sum > a.Limit {
			r.add("overspent", "transaction %s at %d brings %s to %d of %d", e.ID, l.Seq, a.Counter, sum, a.Limit)
		}
		p.sums[a.Counter] = append(p.sums[a.Counter], revision{version: l.Version, sum: sum})
	}
}

// checkTx judges the answer to a transaction. Counters only grow and versions
// only go up, so a refusal needs a cause that is still there at the end.
func (p *past) checkTx(r *report, o *Op) {
	switch {
	case o.Outcome == OK && !o.Done.Duplicate:
		for i, a := range o.Tx.Adds {
			if i >= len(o.Done.Sums) || o.Done.Sums[i] > a.Limit || !p.had(a.Counter, o.Done.Version, o.Done.Sums[i]) {
				r.add("wrong sum", "%v was told sums %v at version %d", o, o.Done.Sums, o.Done.Version)
			}
		}
	case o.Outcome == Refused && o.Kind == wire.Conflict:
		for _, c := range o.Tx.Checks {
			if last(p.values[c.Key]).version != c.Version {
				return
			}
		}
		r.add("refused without cause", "%v met a conflict (%s), and nobody changed what it needs", o, o.Why)
	case o.Outcome == Refused && o.Kind == wire.Limit:
		for _, a := range o.Tx.Adds {
			if last(p.sums[a.Counter]).sum+a.Delta > a.Limit {
				return
			}
		}
		r.add("refused without cause", "%v met a limit (%s), and it was never reached", o, o.Why)
	}
}

// had reports whether a counter had a sum within a version, which may hold many
// transactions.
func (p *past) had(counter string, v store.Version, sum int64) bool {
	for _, s := range p.sums[counter] {
		if s.version == v && s.sum == sum {
			return true
		}
	}
	return false
}

// checkRead compares what a read saw of the replayed keys with the version that
// it names.
func (p *past) checkRead(r *report, o *Op) {
	seen := map[string]wire.Item{}
	for _, item := range o.View.Items {
		seen[item.Key] = item
	}
	keys := map[string]bool{}
	for _, k := range o.Read.Keys {
		keys[k] = true
	}
	for k := range p.values {
		for _, prefix := range o.Read.Prefixes {
			if len(k) >= len(prefix) && k[:len(prefix)] == prefix {
				keys[k] = true
			}
		}
	}
	for k := range keys {
		if !replayedKey(k) {
			continue
		}
		want := at(p.values[k], o.View.Version)
		if got := seen[k]; got.Value != want.value || got.Version != want.version {
			r.add("no such snapshot", "%v at version %d saw %s = %q of version %d, which was %q of %d", o, o.View.Version, k, got.Value, got.Version, want.value, want.version)
		}
	}
	for i, c := range o.Read.Counters {
		if want := at(p.sums[c], o.View.Version).sum; replayedKey(c) && (i >= len(o.View.Sums) || o.View.Sums[i] != want) {
			r.add("no such snapshot", "%v at version %d saw sums %v, %s was %d", o, o.View.Version, o.View.Sums, c, want)
		}
	}
}

// checkReads: no read misses a write that was acknowledged at or below the
// version it names, and a Local read has at least the version it asked for.
func (h *History) checkReads(r *report) {
	acked := map[string][]revision{}
	for _, o := range h.Ops {
		if o.Tx == nil || o.Outcome != OK {
			continue
		}
		for _, w := range o.Tx.Puts {
			acked[w.Key] = append(acked[w.Key], revision{version: o.Done.Version, value: w.Value})
		}
	}
	for _, revs := range acked {
		sort.SliceStable(revs, func(i, j int) bool { return revs[i].version < revs[j].version })
	}
	for _, o := range h.Ops {
		if o.Read == nil || o.Outcome != OK {
			continue
		}
		if o.View.Version < o.Read.Least {
			r.add("read of the past", "%v saw version %d and had asked for %d", o, o.View.Version, o.Read.Least)
		}
		seen := map[string]store.Version{}
		for _, item := range o.View.Items {
			seen[item.Key] = item.Version
			if item.Version > o.View.Version {
				r.add("no such snapshot", "%v at version %d saw %s of version %d", o, o.View.Version, item.Key, item.Version)
			}
		}
		for _, k := range o.Read.Keys {
			if w := at(acked[k], o.View.Version); seen[k] < w.version {
				r.add("lost", "%v at version %d saw %s of version %d, it was written at %d", o, o.View.Version, k, seen[k], w.version)
			}
		}
	}
}
