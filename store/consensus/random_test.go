package consensus_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/consensus"
	"github.com/cloister-os/cloister/store/storetest"
)

// Random transactions have the same outcomes and leave the same data as in the
// model. Keys and logs carry the run's number, so that all runs share a store.
func TestRandomTransactionsAgreeWithTheModel(t *testing.T) {
	n := open(t, consensus.Config{Dir: t.TempDir()})
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		now := time.Now()
		r := &both{T: rt, node: n, run: run, versions: map[store.Version]store.Version{0: 0}}
		r.model = storetest.NewModel(func() time.Time { return now })
		for range rapid.IntRange(1, 15).Draw(rt, "transactions") {
			build := r.draw()
			real, realErr := n.Apply(t.Context(), build(func(v store.Version) store.Version { return v }))
			if realErr == nil {
				now = real.Time
			}
			model, modelErr := r.model.Apply(t.Context(), build(r.toModel))
			r.compare(real, model, realErr, modelErr)
		}
		r.compareAll()
	})
}

type both struct {
	*rapid.T
	node     *consensus.Node
	model    *storetest.Model
	run      int
	versions map[store.Version]store.Version // the node's → the model's
	known    []store.Version                 // the node's
}

func (r *both) toModel(v store.Version) store.Version { return r.versions[v] }

func (r *both) key() store.Key {
	db := rapid.SampledFrom([]string{"S", "H"}).Draw(r.T, "database")
	return store.Key(fmt.Sprintf("%s/%d/%s", db, r.run, rapid.SampledFrom([]string{"a", "b", "b\x00", "\xff"}).Draw(r.T, "key")))
}

// draw makes a transaction that can be built with either's versions.
func (r *both) draw() func(func(store.Version) store.Version) *store.Tx {
	var steps []func(*store.Tx, func(store.Version) store.Version)
	for range rapid.IntRange(0, 6).Draw(r.T, "operations") {
		k := r.key()
		switch rapid.IntRange(0, 5).Draw(r.T, "kind") {
		case 0:
			v := rapid.SampledFrom(append([]store.Version{0}, r.known...)).Draw(r.T, "version")
			steps = append(steps, func(t *store.Tx, to func(store.Version) store.Version) { t.Check(k, to(v)) })
		case 1, 2:
			b := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(r.T, "value")
			steps = append(steps, func(t *store.Tx, _ func(store.Version) store.Version) { t.Put(k, b) })
		case 3:
			steps = append(steps, func(t *store.Tx, _ func(store.Version) store.Version) { t.Delete(k) })
		case 4:
			name := fmt.Sprint(r.run, rapid.SampledFrom([]string{"x", "y"}).Draw(r.T, "log"))
			b := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(r.T, "leaf")
			steps = append(steps, func(t *store.Tx, _ func(store.Version) store.Version) { t.Append(name, b) })
		case 5:
			delta := rapid.Int64Range(-5, 10).Draw(r.T, "delta")
			limit := rapid.SampledFrom([]int64{10, 30, store.NoLimit}).Draw(r.T, "limit")
			window := rapid.SampledFrom([]time.Duration{0, 10000 * time.Hour}).Draw(r.T, "window")
			steps = append(steps, func(t *store.Tx, _ func(store.Version) store.Version) { t.Add(k, delta, limit, window) })
		}
	}
	return func(to func(store.Version) store.Version) *store.Tx {
		tx := store.NewTx()
		for _, s := range steps {
			s(tx, to)
		}
		return tx
	}
}

func (r *both) compare(real, model store.Result, realErr, modelErr error) {
	var rc, mc *store.ConflictError
	var rl, ml *store.LimitError
	switch {
	case errors.As(realErr, &rc) && errors.As(modelErr, &mc):
		if rc.Key != mc.Key || r.versions[rc.Version] != mc.Version {
			r.Fatalf("conflicts %v, %v", realErr, modelErr)
		}
	case errors.As(realErr, &rl) && errors.As(modelErr, &ml):
		if *rl != *ml {
			r.Fatalf("limits %v, %v", realErr, modelErr)
		}
	case realErr != nil || modelErr != nil:
		r.Fatalf("errors %v, %v", realErr, modelErr)
	default:
		if !slices.Equal(real.Seqs, model.Seqs) || !slices.Equal(real.Sums, model.Sums) || !real.Time.Equal(model.Time) {
			r.Fatalf("results %+v, %+v", real, model)
		}
		r.versions[real.Version] = model.Version
		r.known = append(r.known, real.Version)
	}
}

// compareAll compares everything at every version.
func (r *both) compareAll() {
	for _, v := range r.known {
		var a, b string
		err := r.node.View(r.Context(), store.At(v), func(s store.Snapshot) error {
			a = r.dump(s, r.toModel, s.Version() == r.known[len(r.known)-1])
			return nil
		})
		if err != nil {
			r.Fatal(err)
		}
		same := func(v store.Version) store.Version { return v }
		err = r.model.View(r.Context(), store.At(r.versions[v]), func(s store.Snapshot) error {
			b = r.dump(s, same, v == r.known[len(r.known)-1])
			return nil
		})
		if err != nil || a != b {
			r.Fatalf("at version %d (%v)\nnode:\n%s\nmodel:\n%s", v, err, a, b)
		}
	}
}

func (r *both) dump(s store.Snapshot, to func(store.Version) store.Version, newest bool) string {
	out := fmt.Sprintln("time", s.Time().UnixNano())
	dbs := []string{"H"}
	if newest { // the past of state is not promised
		dbs = append(dbs, "S")
	}
	for _, db := range dbs {
		prefix := store.Key(fmt.Sprintf("%s/%d/", db, r.run))
		for item, err := range s.Scan(prefix, "") {
			out += fmt.Sprintf("%q %x %d %v\n", item.Key, item.Value, to(item.Version), err)
		}
		for item, err := range s.ScanBack(prefix, prefix+"b\x00") {
			out += fmt.Sprintf("back %q %v\n", item.Key, err)
		}
		for _, k := range []string{"a", "b", "b\x00", "\xff"} {
			for _, w := range []time.Duration{0, 10000 * time.Hour} {
				n, err := s.Sum(prefix+store.Key(k), w)
				out += fmt.Sprintf("sum %q %v %d %v\n", k, w, n, err)
			}
		}
	}
	for _, name := range []string{"x", "y"} {
		l := s.Log(fmt.Sprint(r.run, name))
		root, err := l.Root()
		out += fmt.Sprintf("log %s %d %x %v\n", name, l.Size(), root, err)
		for lf, err := range l.Leaves(0) {
			out += fmt.Sprintf("leaf %d %d %x %v\n", lf.Seq, to(lf.Version), lf.Data, err)
		}
	}
	return out
}
