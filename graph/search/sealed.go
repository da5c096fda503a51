package search

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	index "github.com/blevesearch/bleve_index_api"

	"github.com/cloister-os/cloister/store/sealed"
)

// bleve seals what it writes through two hooks that it keeps for the whole
// process, and gives them each file's path. hooks is therefore the one thing here
// that all indexes of a process share: it knows which folder has which keys. A
// file outside of them is plain.
var hooks = sync.OnceValue(func() *hookTable {
	t := &hookTable{folders: map[string]sealed.Ring{}}
	index.WriterHook, index.ReaderHook = t.writer, t.reader
	return t
})

type hookTable struct {
	mu      sync.RWMutex
	folders map[string]sealed.Ring
}

// add has the files below a folder sealed, until the returned function is called.
func (t *hookTable) add(dir string, ring sealed.Ring) (remove func()) {
	dir = filepath.Clean(dir) + string(filepath.Separator)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.folders[dir] = ring
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.folders, dir)
	}
}

func (t *hookTable) ring(path string) sealed.Ring {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for dir, r := range t.folders {
		if strings.HasPrefix(path, dir) {
			return r
		}
	}
	return nil
}

const piecePurpose = "search"

// writer is bleve's hook for a file that it is about to write; without a path
// it is none.
func (t *hookTable) writer(path []byte) (string, func([]byte) []byte, error) {
	ring := t.ring(string(path))
	if ring == nil {
		return "", same, nil
	}
	p, err := sealed.NewPieces(ring, piecePurpose)
	if err != nil {
		return "", nil, err
	}
	return p.ID(), p.Seal, nil
}

func same(b []byte) []byte { return b }

var errPlainFile = errors.New("a file of the index is not encrypted")

// reader is bleve's hook for a file that a writer with that id wrote.
func (t *hookTable) reader(id string, path []byte) (func([]byte) ([]byte, error), error) {
	ring := t.ring(string(path))
	switch {
	case ring == nil && id == "":
		return func(b []byte) ([]byte, error) { return b, nil }, nil
	case ring == nil:
		return nil, fmt.Errorf("%s is encrypted and its keys are not at hand", path)
	case id == "":
		return nil, errPlainFile
	}
	p, err := sealed.OpenPieces(ring, piecePurpose, id)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return p.Open, nil
}

// openKeys opens the folder's own keys. Keys that cannot be opened are replaced:
// what they sealed is derived, and an error here has it made anew.
func (x *Index) openKeys() (err error) {
	table := hooks()
	if x.cfg.Ring == nil {
		return nil
	}
	path := filepath.Join(x.cfg.Dir, "KEYS")
	keys, err := sealed.OpenFolder(path, x.cfg.Ring)
	if err != nil {
		fresh, again := error(nil), os.Remove(path)
		if keys, fresh = sealed.OpenFolder(path, x.cfg.Ring); fresh != nil {
			return errors.Join(err, again, fresh)
		}
	}
	x.keys = keys
	x.done = table.add(x.textDir(), keys)
	return err
}

// ring is the ring of the vectors' files.
func (x *Index) ring() sealed.Ring {
	if x.keys == nil {
		return nil
	}
	return x.keys
}

// Rekey makes the index need the node's active key alone: its own keys are sealed
// under that, vectors are written anew, and the text index takes a new key for
// what it writes and merges from now on.
func (x *Index) Rekey(ctx context.Context) error {
	if x.keys == nil {
		return nil
	}
	if err := x.keys.Rekey(); err != nil {
		return err
	}
	active, _ := x.keys.Active()
	for _, p := range x.all() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if f := p.vectorFile(); f != nil {
			if err := f.Rekey(active); err != nil {
				return err
			}
		}
	}
	return nil
}

// Keys are the ids of the node's keys that the index needs.
func (x *Index) Keys(context.Context) ([]uint32, error) {
	if x.keys == nil {
		return nil, nil
	}
	return []uint32{x.keys.Wrapped()}, nil
}
