package history

import (
	"fmt"
	"sort"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/cloister-os/cloister/test/kvnode/wire"
)

// patience bounds the search for an order of one key's operations. A search that
// takes longer proves nothing, and finds nothing.
const patience = 20 * time.Second

// access is one operation on one register. Values are used once, so a value
// stands for the version that it had.
type access struct {
	write   bool
	cas     bool // with write: only when the value is expect
	expect  string
	value   string // written or read
	happens Outcome
	op      *Op
}

// register is the model of a key: it holds the value that was written last.
var register = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, in, _ any) (bool, any) {
		a, have := in.(access), state.(string)
		switch {
		case !a.write:
			return a.value == have, have
		case a.happens == Refused: // a conflict
			return a.expect != have, have
		case a.happens == Unknown && a.cas && a.expect != have:
			return true, have
		case a.cas && a.expect != have:
			return false, have
		default:
			return true, a.value
		}
	},
	Equal: func(a, b any) bool { return a == b },
	DescribeOperation: func(in, _ any) string {
		return fmt.Sprint(in.(access).op)
	},
}

// checkRegisters searches for each register an order of its operations that
// explains all that was seen and agrees with real time.
func (h *History) checkRegisters(r *report) {
	byKey := map[string][]porcupine.Operation{}
	for _, o := range h.Ops {
		for key, a := range accesses(o) {
			byKey[key] = append(byKey[key], porcupine.Operation{ClientId: o.Client, Input: a, Call: o.Call, Return: o.Return})
		}
	}
	keys := make([]string, 0, len(byKey))
	for k := range byKey {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		if porcupine.CheckOperationsTimeout(register, byKey[k], patience) == porcupine.Illegal {
			r.add("not linearizable", "no order explains the %d operations on %s", len(byKey[k]), k)
		}
	}
}

// accesses are what an operation did to registers. Reads of the past and what
// never happened say nothing.
func accesses(o *Op) map[string]access {
	out := map[string]access{}
	switch {
	case o.Tx != nil:
		if o.Outcome == Refused && o.Kind != wire.Conflict {
			return nil
		}
		for _, w := range o.Tx.Puts {
			if registerKey(w.Key) {
				out[w.Key] = access{write: true, cas: len(o.Tx.Checks) > 0, expect: o.Expect, value: w.Value, happens: o.Outcome, op: o}
			}
		}
	case o.Outcome == OK && !o.Read.Local:
		for _, k := range o.Read.Keys {
			if registerKey(k) {
				out[k] = access{op: o}
			}
		}
		for _, item := range o.View.Items {
			if a, ok := out[item.Key]; ok {
				a.value = item.Value
				out[item.Key] = a
			}
		}
	}
	return out
}
