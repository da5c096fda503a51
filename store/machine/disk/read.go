package disk

import (
	"errors"

	"github.com/dgraph-io/badger/v4"

	"github.com/cloister-os/cloister/store/machine/kv"
)

// reader is a Badger transaction that only reads.
type reader struct{ txn *badger.Txn }

// At implements kv.Pair.
func (p *pair) At(db int, version uint64) kv.Reader {
	return reader{p.dbs[db].NewTransactionAt(version, false)}
}

// Close implements kv.Reader.
func (r reader) Close() { r.txn.Discard() }

// Get implements kv.Reader.
func (r reader) Get(key []byte) ([]byte, uint64, error) {
	item, err := r.txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, 0, kv.ErrNotFound
	}
	if err != nil {
		return nil, 0, err
	}
	b, err := item.ValueCopy(nil)
	return b, item.Version(), err
}

// Version implements kv.Reader.
func (r reader) Version(key []byte) (uint64, error) {
	item, err := r.txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return item.Version(), nil
}

// Scan implements kv.Reader. Values lie beside their keys, and prefetching them
// would start a goroutine for each.
func (r reader) Scan(in kv.Range) kv.Cursor {
	o := badger.DefaultIteratorOptions
	o.PrefetchValues = false
	o.Prefix, o.Reverse, o.AllVersions, o.SinceTs = in.Prefix, in.Reverse, in.AllVersions, in.Since
	return &cursor{it: r.txn.NewIterator(o)}
}

// cursor is a Badger iterator.
type cursor struct {
	it    *badger.Iterator
	value []byte
}

// Seek implements kv.Cursor.
func (c *cursor) Seek(key []byte) {
	if key == nil {
		c.it.Rewind()
		return
	}
	c.it.Seek(key)
}

// Valid implements kv.Cursor.
func (c *cursor) Valid() bool { return c.it.Valid() }

// Next implements kv.Cursor.
func (c *cursor) Next() { c.it.Next() }

// Key implements kv.Cursor.
func (c *cursor) Key() []byte { return c.it.Item().Key() }

// Version implements kv.Cursor.
func (c *cursor) Version() uint64 { return c.it.Item().Version() }

// Deleted implements kv.Cursor.
func (c *cursor) Deleted() bool { return c.it.Item().IsDeletedOrExpired() }

// Value implements kv.Cursor.
func (c *cursor) Value() ([]byte, error) {
	var err error
	c.value, err = c.it.Item().ValueCopy(c.value)
	return c.value, err
}

// Close implements kv.Cursor.
func (c *cursor) Close() { c.it.Close() }
