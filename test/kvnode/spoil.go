package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/dgraph-io/badger/v4"
)

// spoil changes one byte of a counter in the databases of a stopped node, as a
// disk that lies would, so that the node decides differently from then on.
func spoil(args []string) error {
	f := flag.NewFlagSet("kvnode spoil", flag.ContinueOnError)
	dir := f.String("dir", "", "data `folder` of a node that was stopped, not killed")
	counter := f.String("counter", "S/kv/count", "the `counter`")
	if err := f.Parse(args); err != nil {
		return err
	}
	current, err := os.ReadFile(filepath.Join(*dir, "store", "CURRENT"))
	if err != nil {
		return err
	}
	db, err := badger.OpenManaged(badger.DefaultOptions(filepath.Join(*dir, "store", strings.TrimSpace(string(current)), "state")).
		WithLogger(nil).WithValueThreshold(1 << 20).WithValueLogFileSize(1 << 20).WithMemTableSize(16 << 20))
	if err != nil {
		return err
	}
	return errors.Join(flip(db, "c"+*counter), db.Close())
}

// flip changes the last byte of the only key with a prefix, at its version.
func flip(db *badger.DB, prefix string) error {
	txn := db.NewTransactionAt(^uint64(0), true)
	defer txn.Discard()
	it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte(prefix)})
	defer it.Close()
	it.Rewind()
	if !it.Valid() {
		return fmt.Errorf("there is no key %q to spoil", prefix)
	}
	item := it.Item()
	value, err := item.ValueCopy(nil)
	if err != nil {
		return err
	}
	value[len(value)-1] ^= 1
	version := item.Version()
	change := db.NewTransactionAt(version, true)
	defer change.Discard()
	if err := change.Set(item.KeyCopy(nil), value); err != nil {
		return err
	}
	return change.CommitAt(version, nil)
}
