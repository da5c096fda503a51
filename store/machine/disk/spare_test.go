package disk

import (
	"testing"

	"github.com/dgraph-io/ristretto/v2/z"

	"github.com/cloister-os/cloister/store/machine/kv"
)

// A database does not keep the buffers of tables that it has built while it is
// written to. Another Badger may keep them elsewhere: then this says so.
func TestBuffersOfTablesAreLetGo(t *testing.T) {
	p := testPair(t, t.TempDir())
	defer p.Close()
	for db, pool := range p.spares {
		if pool == nil {
			t.Fatalf("where %s keeps its buffers is not known of this Badger: measure its memory under steady writes", names[db])
		}
		for range spares {
			pool.Return(z.NewAllocator(1<<20, "test"))
		}
	}
	for n := range uint64(spareEvery/(100<<10) + 1) { // less than a memtable: nothing is built
		w := []kv.Write{{Key: []byte("k"), Value: make([]byte, 100<<10)}}
		if err := p.Commit(n+1, [2][]kv.Write{w, nil}); err != nil {
			t.Fatal(err)
		}
	}
	for db, pool := range p.spares {
		for range spares {
			a := pool.Get(1, "test")
			if n := a.Allocated(); n >= 1<<20 {
				t.Errorf("%s keeps a buffer of %d bytes", names[db], n)
			}
			a.Release()
		}
	}
}
