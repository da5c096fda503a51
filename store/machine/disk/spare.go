package disk

import (
	"reflect"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/ristretto/v2/z"
)

// Badger builds tables in buffers that it keeps for the next, eight of each
// database, each as large as it ever was: 56 MB once it held a flushed memtable. It
// gives one back only after two seconds without a new table, so that under steady
// writes a node would hold most of a gigabyte that nobody uses. There is no option
// for it, but the pool may be emptied by anybody who has it.
const (
	spares     = 8       // of a database, at most
	spareEvery = 1 << 20 // bytes that are committed between two times of letting go
)

// sparesOf is where a database keeps its buffers; nil where another Badger keeps
// them elsewhere.
func sparesOf(db *badger.DB) *z.AllocatorPool {
	f := reflect.ValueOf(db).Elem().FieldByName("allocPool")
	if !f.IsValid() || f.Type() != reflect.TypeFor[*z.AllocatorPool]() {
		return nil
	}
	return (*z.AllocatorPool)(f.UnsafePointer())
}

// letGo empties the pools now and then. It is told of what was committed.
func (p *pair) letGo(bytes int) {
	if p.since += bytes; p.since < spareEvery {
		return
	}
	p.since = 0
	for _, pool := range p.spares {
		for range spares {
			pool.Get(1, "spare").Release() // a small one where there is none
		}
	}
}
