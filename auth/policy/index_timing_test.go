package policy

import (
	"fmt"
	"testing"

	"github.com/cedar-policy/cedar-go"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/store"
)

// many is the starter policies and n more of the kinds that a large installation
// has: for one person, for one key, for a role on one source, for one model.
func many(tb testing.TB, n int) *set {
	tb.Helper()
	byID := map[string]*compiled{}
	texts, err := split(Starter)
	if err != nil {
		tb.Fatal(err)
	}
	for i := range n {
		texts = append(texts, []string{
			fmt.Sprintf(`@id("person-%d") permit (principal == User::"u-x%d", action == Action::"model.infer", resource is Model) when { context.reserve_nano_usd < %d };`, i, i, i),
			fmt.Sprintf(`@id("key-%d") forbid (principal == Key::"k-x%d", action in [Action::"source.read", Action::"ask"], resource);`, i, i),
			fmt.Sprintf(`@id("source-%d") forbid (principal in Role::"user", action == Action::"source.read", resource == Source::"s-%d") when { context has labels && context.labels.contains("secret") };`, i, i),
			fmt.Sprintf(`@id("model-%d") forbid (principal is User in Role::"builder", action == Action::"model.infer", resource == Model::"m-%d");`, i, i),
		}[i%4])
	}
	for i, text := range texts {
		c, err := parsed(text)
		if err != nil {
			tb.Fatal(i, err)
		}
		byID[c.ID] = c
	}
	return newSet(byID, map[string]store.Version{}, 1)
}

// parsed is compile without the type check, which is not what is measured and
// takes a while for 10,000 policies.
func parsed(text string) (*compiled, error) {
	list, err := parse(text)
	if err != nil {
		return nil, err
	}
	return &compiled{Policy: Policy{ID: string(list[0].Annotations()["id"]), Text: text}, cedar: list[0]}, nil
}

func TestTenThousandPoliciesEvaluateWhatTenDo(t *testing.T) {
	few, lots := many(t, 10), many(t, 10_000)
	for name, c := range map[string]capability{
		"read":  {person(auth.Asker), auth.SourceRead, auth.Source("wiki"), nil},
		"infer": {person(auth.Builder), auth.ModelInfer, auth.Model("gemma"), nil},
		"key":   {key("ask"), auth.Ask, system, nil},
	} {
		entities, req, err := sceneOf(c.who, c.action, c.on, nil, "")
		if err != nil {
			t.Fatal(err)
		}
		a, b := len(few.index.candidates(entities, req)), len(lots.index.candidates(entities, req))
		if a != b {
			t.Errorf("%s: %d policies are evaluated of 10, %d of 10,000", name, a, b)
		}
		d := lots.decide(c.who, c.action, c.on, nil)
		verdict, _ := cedar.Authorize(candidates(all(lots)), entities, req)
		if d.Allow != (verdict == cedar.Allow) {
			t.Errorf("%s: %+v, the plain authorizer says %v", name, d, verdict)
		}
	}
}

func all(s *set) (list []entry) {
	for id, p := range s.all() {
		list = append(list, entry{id, p})
	}
	return list
}

func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		s := many(b, n)
		b.Run(fmt.Sprintf("person/%d", n), func(b *testing.B) {
			who := person(auth.Builder)
			for b.Loop() {
				if !s.decide(who, auth.ModelInfer, gemma, map[string]any{"reserve_nano_usd": int64(5)}).Allow {
					b.Fatal("refused")
				}
			}
		})
		b.Run(fmt.Sprintf("agent/%d", n), func(b *testing.B) {
			who := agentFor(key("ask"))
			for b.Loop() {
				if !s.decide(who, auth.SourceRead, wiki, nil).Allow {
					b.Fatal("refused")
				}
			}
		})
		b.Run(fmt.Sprintf("plain/%d", n), func(b *testing.B) {
			entities, req, err := sceneOf(person(auth.Builder), auth.ModelInfer, gemma, map[string]any{"reserve_nano_usd": int64(5)}, "")
			if err != nil {
				b.Fatal(err)
			}
			list := candidates(all(s))
			for b.Loop() {
				if d, _ := cedar.Authorize(list, entities, req); d != cedar.Allow {
					b.Fatal("refused")
				}
			}
		})
	}
}
