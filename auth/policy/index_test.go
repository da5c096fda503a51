package policy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cedar-policy/cedar-go"
	"pgregory.net/rapid"
)

// TestTheIndexFindsWhatAScanFinds draws sets of policies of every form of scope,
// with hierarchies of principals, actions and resources, and compares.
func TestTheIndexFindsWhatAScanFinds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		entities := drawEntities(t)
		var text strings.Builder
		for range rapid.IntRange(1, 25).Draw(t, "policies") {
			fmt.Fprintf(&text, "%s(%s, %s, %s)%s;\n",
				rapid.SampledFrom([]string{"permit", "forbid"}).Draw(t, "effect"),
				drawScope(t, "principal", "P"), drawAction(t), drawScope(t, "resource", "R"),
				rapid.SampledFrom([]string{"", " when { context.n > 2 }", " when { context.missing == 1 }", " unless { principal == resource }"}).Draw(t, "condition"))
		}
		set, err := cedar.NewPolicySetFromBytes("", []byte(text.String()))
		if err != nil {
			t.Fatalf("%v\n%s", err, &text)
		}
		req := cedar.Request{
			Principal: uid("P", drawN(t)), Action: uid("Action", drawN(t)), Resource: uid("R", drawN(t)),
			Context: cedar.NewRecord(cedar.RecordMap{"n": cedar.Long(drawN(t))}),
		}
		x := newIndex(set.All())
		got, want := asVerdict(x.authorize(entities, req)), asVerdict(cedar.Authorize(set, entities, req))
		if !got.equal(want) {
			t.Fatalf("the index says %+v, a scan %+v of %+v in\n%s", got, want, req, &text)
		}
	})
}

const universe = 6

func drawN(t *rapid.T) int { return rapid.IntRange(0, universe-1).Draw(t, "n") }

func uid(typ string, n int) cedar.EntityUID {
	return cedar.NewEntityUID(cedar.EntityType(typ), cedar.String(fmt.Sprint(n)))
}

// drawEntities draws parents within each type, cycles included: Cedar bears them.
func drawEntities(t *rapid.T) cedar.EntityMap {
	m := cedar.EntityMap{}
	for _, typ := range []string{"P", "Action", "R"} {
		for i := range universe {
			var parents []cedar.EntityUID
			for range rapid.IntRange(0, 2).Draw(t, "parents") {
				parents = append(parents, uid(typ, drawN(t)))
			}
			if rapid.IntRange(0, 5).Draw(t, "known") > 0 {
				m[uid(typ, i)] = cedar.Entity{UID: uid(typ, i), Parents: cedar.NewEntityUIDSet(parents...)}
			}
		}
	}
	return m
}

func drawScope(t *rapid.T, name, typ string) string {
	n := drawN(t)
	other := rapid.SampledFrom([]string{"P", "R"}).Draw(t, "type")
	return rapid.SampledFrom([]string{
		name, fmt.Sprintf(`%s == %s::"%d"`, name, typ, n), fmt.Sprintf(`%s in %s::"%d"`, name, typ, n),
		fmt.Sprintf(`%s is %s`, name, other), fmt.Sprintf(`%s is %s in %s::"%d"`, name, other, typ, n),
	}).Draw(t, name)
}

func drawAction(t *rapid.T) string {
	a, b := drawN(t), drawN(t)
	return rapid.SampledFrom([]string{
		"action", fmt.Sprintf(`action == Action::"%d"`, a), fmt.Sprintf(`action in Action::"%d"`, a),
		fmt.Sprintf(`action in [Action::"%d", Action::"%d"]`, a, b), "action in []",
	}).Draw(t, "action")
}
