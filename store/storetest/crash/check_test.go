package crash

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/storetest"
)

// A check that cannot fail proves nothing.
func TestCheckSees(t *testing.T) {
	apply := func(m *storetest.Model, build func(*store.Tx)) {
		tx := store.NewTx()
		build(tx)
		if _, err := m.Apply(t.Context(), tx); err != nil {
			t.Fatal(err)
		}
	}
	count := func(tx *store.Tx) {
		tx.Add(stateCount, 1, store.NoLimit, 0)
		tx.Add(historyCount, 1, store.NoLimit, 0)
	}
	both := func(tx *store.Tx, id string) {
		tx.Put(stateSpace.Key(id), value(id))
		tx.Put(historySpace.Key(id), value(id))
	}
	cases := []struct {
		name  string
		spoil func(*storetest.Model, []Ack) []Ack
		want  string
	}{
		{"nothing wrong", func(_ *storetest.Model, a []Ack) []Ack { return a }, ""},
		{"lost", func(_ *storetest.Model, a []Ack) []Ack { return append(a, Ack{"lost", 3, 3}) }, "acknowledged"},
		{"another version", func(_ *storetest.Model, a []Ack) []Ack { a[1].Version++; return a }, "acknowledged"},
		{"no leaf", func(m *storetest.Model, a []Ack) []Ack {
			apply(m, func(tx *store.Tx) { both(tx, "x"); count(tx) })
			return a
		}, "leaf there: false"},
		{"no history", func(m *storetest.Model, a []Ack) []Ack {
			apply(m, func(tx *store.Tx) {
				tx.Put(stateSpace.Key("x"), value("x"))
				tx.Append(logName, []byte("x"))
				count(tx)
			})
			return a
		}, "keys in H"},
		{"no count", func(m *storetest.Model, a []Ack) []Ack {
			apply(m, func(tx *store.Tx) { both(tx, "x"); tx.Append(logName, []byte("x")) })
			return a
		}, "counter"},
		{"twice", func(m *storetest.Model, a []Ack) []Ack {
			apply(m, func(tx *store.Tx) { both(tx, a[0].ID); tx.Append(logName, []byte(a[0].ID)); count(tx) })
			return a
		}, "twice"},
		{"another value", func(m *storetest.Model, a []Ack) []Ack {
			apply(m, func(tx *store.Tx) {
				both(tx, "x")
				tx.Put(stateSpace.Key("x"), nil)
				tx.Append(logName, []byte("x"))
				count(tx)
			})
			return a
		}, "holds"},
	}
	for _, c := range cases {
		m := storetest.NewModel(nil)
		var acks []Ack
		for i := range 5 {
			id := fmt.Sprint("1/2/", i)
			res, err := m.Apply(t.Context(), Tx(id))
			if err != nil {
				t.Fatal(err)
			}
			acks = append(acks, Ack{id, res.Version, res.Seqs[0]})
		}
		err := Check(t.Context(), m, c.spoil(m, acks))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
