package disk

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/fb"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/ristretto/v2"
)

// verifyRounds bounds how often tables that were made meanwhile are verified too.
const verifyRounds = 8

// ErrRotten is the kind of an error about a table that is not as it was written.
var ErrRotten = errors.New("a table of the database is damaged: let the node rejoin, or restore a backup")

// Verify implements kv.Pair. Badger verifies all tables in one breath; here the
// same is done table by table, on what was read of their files, so that whoever pays
// for it can rest between two of them. The files are not mapped into memory: Badger
// cuts one off before it removes it. A table that is compacted away meanwhile need not
// be read; those that took its place are, in another round.
func (p *pair) Verify(db int, pace func(bytes int) error) error {
	dir := filepath.Join(p.dir, names[db])
	verified := map[uint64]bool{}
	for range verifyRounds {
		tables, err := manifest(dir)
		if err != nil {
			return fmt.Errorf("read which tables there are: %w", err)
		}
		maps.DeleteFunc(tables, func(id uint64, _ badger.TableManifest) bool { return verified[id] })
		if len(tables) == 0 {
			return nil
		}
		if err := verifyTables(dir, p.keys[db], tables, pace); err != nil {
			return err
		}
		for id := range tables {
			verified[id] = true
		}
	}
	return nil // what is new by now was written while this went on
}

// manifest is which tables a database has, as its file tells.
func manifest(dir string) (map[uint64]badger.TableManifest, error) {
	f, err := os.Open(filepath.Join(dir, badger.ManifestFilename))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m, _, err := badger.ReplayManifestFile(f, 0, badger.DefaultOptions(dir))
	return m.Tables, err
}

func verifyTables(dir string, keys *badger.KeyRegistry, tables map[uint64]badger.TableManifest, pace func(bytes int) error) error {
	indexes, err := ristretto.NewCache(&ristretto.Config[uint64, *fb.TableIndex]{NumCounters: 64, MaxCost: 4 << 20, BufferItems: 64})
	if err != nil {
		return err
	}
	defer indexes.Close()
	var buf []byte
	for _, id := range slices.Sorted(maps.Keys(tables)) {
		o := table.Options{BlockSize: 4 << 10, Compression: tables[id].Compression, IndexCache: indexes}
		if keys != nil {
			if o.DataKey, err = keys.DataKey(tables[id].KeyID); err != nil {
				return fmt.Errorf("%w: %w", ErrKey, err)
			}
		}
		buf, err = verifyTable(dir, id, o, buf)
		if err != nil && goneFrom(dir, id) {
			continue
		}
		if err == nil {
			err = pace(len(buf))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// goneFrom reports whether a table has been compacted away.
func goneFrom(dir string, id uint64) bool {
	now, err := manifest(dir)
	_, there := now[id]
	return err == nil && !there
}

// verifyTable verifies a table's index and then each block. It returns what it read,
// in buf where there is room. Badger panics at some of what it cannot read.
func verifyTable(dir string, id uint64, o table.Options, buf []byte) (data []byte, err error) {
	path := table.NewFilename(id, dir)
	if data, err = readInto(buf, path); err != nil {
		return data, fmt.Errorf("%w: %w", ErrRotten, err)
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %s cannot be read", ErrRotten, path)
		}
	}()
	t, err := table.OpenInMemoryTable(data, id, &o)
	if err == nil {
		err = t.VerifyChecksum()
	}
	if err != nil {
		return data, fmt.Errorf("%w: %s: %w", ErrRotten, path, err)
	}
	return data, nil
}

// readInto reads a file whole.
func readInto(buf []byte, path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return buf, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return buf, err
	}
	buf = slices.Grow(buf[:0], int(info.Size()))[:info.Size()]
	_, err = io.ReadFull(f, buf)
	return buf, err
}
