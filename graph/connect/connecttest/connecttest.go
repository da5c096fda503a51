// Package connecttest gives tests of transports a service with a real guard over
// a store in memory, and plain ways to sync and to look.
//
// Only tests may import it. It may import graph, graph/connect, auth and store.
package connecttest

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"sync"
	"testing"

	"github.com/cloister-os/cloister/auth/guard/guardtest"
	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/connect"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/blob"
	"github.com/cloister-os/cloister/store/storetest"
)

// Bench is a service at work.
type Bench struct {
	*connect.Service
	T     testing.TB
	Store store.Store
	Blobs *blob.Store
	House *guardtest.House
}

// Open returns a service with one connector over st, or over a new
// storetest.Model when it is nil. Nothing is synced unless asked.
func Open(t testing.TB, st store.Store, c connect.Connector) *Bench {
	t.Helper()
	if st == nil {
		st = storetest.NewModel(nil)
	}
	blobs, err := blob.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return OpenOver(t, st, blobs, c)
}

// OpenOver is Open over blobs that are there already: a node that starts again.
func OpenOver(t testing.TB, st store.Store, blobs *blob.Store, c connect.Connector) *Bench {
	t.Helper()
	house := guardtest.Open(t, st)
	s, err := connect.New(connect.Config{Store: st, Blobs: blobs, Door: house, Connectors: []connect.Connector{c},
		Node: guardtest.Node(), Every: -1, Policies: house.Policies(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return &Bench{Service: s, T: t, Store: st, Blobs: blobs, House: house}
}

// Add adds a source and waits for its first sync, which must succeed.
func (b *Bench) Add(kind, name, path string) connect.Progress {
	b.T.Helper()
	if _, err := b.Service.Add(b.T.Context(), guardtest.Admin(), graph.Source{Name: name, Kind: kind, Path: path}); err != nil {
		b.T.Fatal(err)
	}
	return b.Settle(name)
}

// Sync syncs a source, which must succeed.
func (b *Bench) Sync(name string) connect.Progress {
	b.T.Helper()
	p := b.Try(name)
	if p.Error != "" {
		b.T.Fatalf("sync %s: %s", name, p.Error)
	}
	return p
}

// Try syncs a source, however that ends.
func (b *Bench) Try(name string) connect.Progress {
	b.T.Helper()
	if _, err := b.Service.Sync(b.T.Context(), guardtest.Admin(), name); err != nil {
		b.T.Fatal(err)
	}
	p, err := b.Wait(b.T.Context(), guardtest.Admin(), name)
	if err != nil {
		b.T.Fatal(err)
	}
	return p
}

// Settle waits for the sync under way, which must succeed.
func (b *Bench) Settle(name string) connect.Progress {
	b.T.Helper()
	p, err := b.Wait(b.T.Context(), guardtest.Admin(), name)
	if err != nil {
		b.T.Fatal(err)
	}
	if p.Error != "" {
		b.T.Fatalf("sync %s: %s", name, p.Error)
	}
	return p
}

// Read looks at the graph with access to the sources.
func (b *Bench) Read(at store.ReadAt, f func(r *graph.Reader), sources ...string) {
	b.T.Helper()
	err := b.Store.View(context.Background(), at, func(s store.Snapshot) error {
		f(graph.NewReader(s, graph.AccessTo(sources...), b.Blobs))
		return nil
	})
	if err != nil {
		b.T.Fatal(err)
	}
}

// Graph returns every key of the graph with its value, and of the cursor when
// asked, but no watermark and no version: two syncs that found the same have
// equal ones.
func (b *Bench) Graph(cursor bool) map[store.Key]string {
	b.T.Helper()
	out := map[store.Key]string{}
	spaces := []store.Space{graph.SpaceRecord, graph.SpaceClaim, graph.SpaceOut, graph.SpaceIn, graph.SpaceIdent, graph.SpaceAssert, graph.SpacePartial}
	if cursor {
		spaces = append(spaces, graph.SpaceCursor)
	}
	err := b.Store.View(context.Background(), store.Local, func(s store.Snapshot) error {
		for _, space := range spaces {
			for item, err := range s.Scan(store.Key(space), "") {
				if err != nil {
					return err
				}
				out[item.Key] = string(item.Value)
			}
		}
		return nil
	})
	if err != nil {
		b.T.Fatal(err)
	}
	return out
}

// Same compares two graphs and names what differs, up to a few keys.
func Same(t interface{ Errorf(string, ...any) }, got, want map[store.Key]string) {
	n := 0
	report := func(format string, args ...any) {
		if n++; n <= 5 {
			t.Errorf(format, args...)
		}
	}
	for k, v := range want {
		if g, ok := got[k]; !ok {
			report("missing: %q", k)
		} else if g != v {
			report("%q\n got %q\nwant %q", k, g, v)
		}
	}
	for k := range got {
		if _, ok := want[k]; !ok {
			report("left over: %q", k)
		}
	}
	if n > 5 {
		t.Errorf("and %d more", n-5)
	}
}

// Cut is a store that refuses bulk work after the first Left transactions, as a
// node that is killed, or whose disk is full, does.
type Cut struct {
	store.Store
	Left int
	mu   sync.Mutex
}

// ErrCut is what a Cut refuses with.
var ErrCut = errors.New("the store was cut off")

type refused struct{}

// Wait implements store.Future.
func (refused) Wait(context.Context) (store.Result, error) { return store.Result{}, ErrCut }

// Submit implements store.Store.
func (c *Cut) Submit(ctx context.Context, tx *store.Tx, class store.Class) store.Future {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.Left == 0 {
		return refused{}
	}
	c.Left--
	return c.Store.Submit(ctx, tx, class)
}

// Gappy is a Cut that goes on after it has refused: transactions that were under
// way together succeed and fail each for itself.
type Gappy struct {
	store.Store
	Fail func(n int) bool // by the number of the transaction
	n    int
	mu   sync.Mutex
}

// Submit implements store.Store.
func (g *Gappy) Submit(ctx context.Context, tx *store.Tx, class store.Class) store.Future {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.n++; g.Fail(g.n) {
		return refused{}
	}
	return g.Store.Submit(ctx, tx, class)
}

// All collects a sequence.
func All[T any](t testing.TB, seq iter.Seq2[T, error]) (out []T) {
	t.Helper()
	for v, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, v)
	}
	return out
}

// Natives lists the native keys of a source's records in a stream.
func (b *Bench) Natives(at store.ReadAt, source, stream string) (out []string) {
	b.T.Helper()
	b.Read(at, func(r *graph.Reader) {
		for _, rec := range All(b.T, r.Records(source, stream)) {
			out = append(out, rec.ID.Native)
		}
	}, source)
	return out
}
