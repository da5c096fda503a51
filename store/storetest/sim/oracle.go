package sim

import (
	"errors"
	"fmt"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/machine"
	"github.com/cloister-os/cloister/store/storetest"
)

// oracle says what a log must make of a state machine: storetest.Model for the
// transactions, and its own plain rule for those that come again.
type oracle struct {
	model    *storetest.Model
	origins  map[string]*originRule
	expected map[uint64][]expectation // by index
}

// originRule is what is known of a node's transactions.
type originRule struct {
	boot    uint64
	floor   uint64
	decided map[uint64]machine.Outcome
}

// expectation is the outcome of one transaction of a group.
type expectation struct {
	outcome machine.Outcome
	orGone  bool // Refused is as good: nobody may ask for it any more
}

func newOracle() *oracle {
	return &oracle{model: storetest.NewModel(nil), origins: map[string]*originRule{}, expected: map[uint64][]expectation{}}
}

// group replays a group that was committed at an index.
func (o *oracle) group(index uint64, data []byte) error {
	g, err := machine.DecodeGroup(data)
	if err != nil {
		return err
	}
	v := store.Version(index)
	head, err := o.model.Replay(v, g.Time, nil)
	if err != nil {
		return err
	}
	valid := make([]bool, len(g.Origins))
	seen := map[string]bool{}
	for i, or := range g.Origins {
		valid[i] = !seen[or.Node] && o.begin(or)
		seen[or.Node] = true
	}
	fresh := map[[2]uint64]bool{} // decided in this group
	out := make([]expectation, len(g.Entries))
	for i, e := range g.Entries {
		rule := o.origins[g.Origins[e.Origin].Node]
		id := [2]uint64{uint64(e.Origin), e.Seq}
		before, known := rule.decided[e.Seq]
		switch {
		case !valid[e.Origin] || fresh[id]:
			out[i].outcome = machine.Outcome{Code: machine.Refused, Version: v, Time: head.Time}
		case known:
			out[i] = expectation{before, e.Seq < rule.floor}
		case e.Seq < rule.floor:
			out[i].outcome = machine.Outcome{Code: machine.Refused, Version: v, Time: head.Time}
		default:
			if out[i].outcome, err = o.decide(v, head, e.Ops); err != nil {
				return err
			}
			rule.decided[e.Seq] = out[i].outcome
			fresh[id] = true
		}
	}
	o.expected[index] = out
	return nil
}

// begin reports whether a node's life may still write.
func (o *oracle) begin(or machine.Origin) bool {
	rule := o.origins[or.Node]
	if rule == nil {
		rule = &originRule{decided: map[uint64]machine.Outcome{}}
		o.origins[or.Node] = rule
	}
	switch {
	case or.Boot < rule.boot:
		return false
	case or.Boot > rule.boot:
		*rule = originRule{boot: or.Boot, decided: map[uint64]machine.Outcome{}}
	}
	rule.floor = max(rule.floor, or.Lowest)
	return true
}

func (o *oracle) decide(v store.Version, head store.Result, ops []store.Op) (machine.Outcome, error) {
	res, err := o.model.Replay(v, head.Time, txOf(ops))
	out := machine.Outcome{Version: v, Time: head.Time}
	var conflict *store.ConflictError
	var over *store.LimitError
	switch {
	case err == nil:
		out.Seqs, out.Sums = res.Seqs, res.Sums
	case errors.As(err, &conflict):
		out.Code, out.Key, out.Current = machine.Conflict, conflict.Key, conflict.Version
	case errors.As(err, &over):
		out.Code, out.Key, out.Sum, out.Limit = machine.Limit, over.Counter, over.Sum, over.Limit
	default:
		return out, err
	}
	return out, nil
}

// check compares what a machine made of a group.
func (o *oracle) check(index uint64, got []machine.Outcome) error {
	want := o.expected[index]
	if len(got) != len(want) {
		return fmt.Errorf("%d outcomes of %d transactions", len(got), len(want))
	}
	for i := range got {
		if want[i].orGone && got[i].Code == machine.Refused {
			continue
		}
		if a, b := outcome(&got[i]), outcome(&want[i].outcome); a != b {
			return fmt.Errorf("transaction %d of group %d ended as %s, the model says %s", i, index, a, b)
		}
	}
	return nil
}

func outcome(o *machine.Outcome) string {
	return fmt.Sprintf("%d seqs %v sums %v key %q at %d sum %d limit %d, version %d time %d",
		o.Code, o.Seqs, o.Sums, o.Key, o.Current, o.Sum, o.Limit, o.Version, o.Time.UnixNano())
}
