package policy

import (
	"context"
	"iter"
	"sync/atomic"
	"testing"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/store"
)

const noAsking = `@id("no-asking") forbid (principal, action == Action::"ask", resource);`

func mayAsk(p *Policies) bool { return p.Decide(person(auth.Asker), auth.Ask, system, nil).Allow }

// follow runs p until the test ends.
func follow(t *testing.T, p *Policies) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for !ok() {
		if t.Context().Err() != nil {
			t.Fatal(what)
		}
	}
}

func TestAnotherNodeFollows(t *testing.T) {
	a, st := open(t)
	b, err := New(context.Background(), st, nil)
	if err != nil {
		t.Fatal(err)
	}
	follow(t, b)
	follow(t, a)
	id := put(t, a, st, noAsking)
	eventually(t, "the forbid does not reach the other node", func() bool { return !mayAsk(b) })
	tx := store.NewTx()
	if err := b.Remove(tx, id); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Apply(context.Background(), tx); err != nil {
		t.Fatal(err)
	}
	if !mayAsk(b) {
		t.Error("a node does not see its own removal at once")
	}
	eventually(t, "the removal does not reach the other node", func() bool { return mayAsk(a) })
}

// compacting loses the history that the first Watch asks for.
type compacting struct {
	store.Store
	watched atomic.Int32
}

func (c *compacting) Watch(ctx context.Context, prefix store.Key, from store.Version) iter.Seq2[store.Change, error] {
	if c.watched.Add(1) > 1 {
		return c.Store.Watch(ctx, prefix, from)
	}
	return func(yield func(store.Change, error) bool) { yield(store.Change{}, store.ErrCompacted) }
}

func TestANodeThatFellBehindReadsAnew(t *testing.T) {
	a, st := open(t)
	b, err := New(context.Background(), &compacting{Store: st}, nil)
	if err != nil {
		t.Fatal(err)
	}
	put(t, a, st, noAsking)
	if !mayAsk(b) {
		t.Fatal("it is not behind")
	}
	follow(t, b)
	eventually(t, "it stays behind", func() bool { return !mayAsk(b) })
}

func TestChangesCountByVersionNotByArrival(t *testing.T) {
	c, err := compile(noAsking)
	if err != nil {
		t.Fatal(err)
	}
	at := func(v store.Version) *compiled {
		dated := *c
		dated.Version = v
		return &dated
	}
	base := newSet(map[string]*compiled{}, map[string]store.Version{}, 5)
	has := func(s *set) bool { return s.byID["no-asking"] != nil }
	if has(base.with([]change{{"no-asking", at(4), 4, true}})) {
		t.Error("what was read already came back")
	}
	removed := base.with([]change{{"no-asking", at(6), 6, false}, {"no-asking", nil, 8, false}})
	if has(removed) || has(removed.with([]change{{"no-asking", at(6), 6, true}})) {
		t.Error("a late put brought a removed policy back")
	}
	caughtUp := removed.with([]change{{"no-asking", at(6), 6, true}, {"no-asking", nil, 8, true}})
	if has(caughtUp) || len(caughtUp.removed) != 0 || caughtUp.version != 8 {
		t.Errorf("after catching up: %+v", caughtUp)
	}
	if !has(caughtUp.with([]change{{"no-asking", at(9), 9, false}})) {
		t.Error("it cannot be put again")
	}
}

func TestSeedWritesOnce(t *testing.T) {
	p, st := open(t)
	tx := store.NewTx()
	if err := p.Remove(tx, "people-ask"); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Apply(context.Background(), tx); err != nil {
		t.Fatal(err)
	}
	if err := p.Seed(context.Background()); err != nil {
		t.Fatal(err)
	}
	if mayAsk(p) {
		t.Error("a removed starter policy came back")
	}
}
