package machine

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/cloister-os/cloister/store/machine/kv"
)

// A log's tree is kept as a frontier (the roots of its complete subtrees, from
// which the root and every later state follow), written once a group, and as
// tiles of 256 hashes of every eighth level, each written once, when it is full.
// The hashes of the level-0 tile that is not full are recomputed from its
// leaves; those of higher levels are kept as an edge, rewritten when the tile
// below fills. RFC 6962 section 2.1; tiles as in C2SP tlog-tiles.
const (
	tileLevels = 8 // tree levels between tiles
	tileWidth  = 1 << tileLevels
	hashBytes  = sha256.Size
)

// frontier is a log's size and, by level, the roots of its complete subtrees:
// roots[i] counts when bit i of size is set.
type frontier struct {
	size  uint64
	roots [64]tlog.Hash
}

func (f *frontier) encode() []byte {
	b := make([]byte, 8, 8+hashBytes*bits.OnesCount64(f.size))
	binary.BigEndian.PutUint64(b, f.size)
	for level := range f.roots {
		if f.size>>level&1 == 1 {
			b = append(b, f.roots[level][:]...)
		}
	}
	return b
}

func decodeFrontier(b []byte) (*frontier, error) {
	if len(b) < 8 {
		return nil, fmt.Errorf("%w: a frontier of %d bytes", errMalformed, len(b))
	}
	f := &frontier{size: binary.BigEndian.Uint64(b)}
	b = b[8:]
	if len(b) != hashBytes*bits.OnesCount64(f.size) {
		return nil, fmt.Errorf("%w: a frontier of size %d with %d bytes", errMalformed, f.size, len(b))
	}
	for level := range f.roots {
		if f.size>>level&1 == 1 {
			b = b[copy(f.roots[level][:], b):]
		}
	}
	return f, nil
}

// root folds the complete subtrees, smallest first.
func (f *frontier) root() tlog.Hash {
	if f.size == 0 {
		return sha256.Sum256(nil)
	}
	var h tlog.Hash
	first := true
	for level := range f.roots {
		switch {
		case f.size>>level&1 == 0:
		case first:
			h, first = f.roots[level], false
		default:
			h = tlog.NodeHash(f.roots[level], h)
		}
	}
	return h
}

// tail is the growing end of a log, held in memory by Apply.
type tail struct {
	frontier
	name    string
	tiles   [][]byte // by tile level: the hashes of the tile that is not full
	touched bool     // in the group being applied
}

// extend adds a leaf and returns puts with the tiles and edges that changed. The
// frontier is the caller's to write, once a group.
func (t *tail) extend(puts []kv.Write, leaf []byte) []kv.Write {
	h, n := tlog.RecordHash(leaf), t.size
	t.size++
	puts = t.place(puts, 0, n, h)
	for level := 0; ; level++ {
		if n>>level&1 == 0 {
			t.roots[level] = h
			return puts
		}
		h = tlog.NodeHash(t.roots[level], h)
		if (level+1)%tileLevels == 0 {
			puts = t.place(puts, (level+1)/tileLevels, n>>(level+1), h)
		}
	}
}

// place puts the hash with number n of a tile level in its tile.
func (t *tail) place(puts []kv.Write, level int, n uint64, h tlog.Hash) []kv.Write {
	for len(t.tiles) <= level {
		t.tiles = append(t.tiles, make([]byte, 0, tileWidth*hashBytes))
	}
	t.tiles[level] = append(t.tiles[level], h[:]...)
	full := len(t.tiles[level]) == tileWidth*hashBytes
	if full {
		puts = append(puts, kv.Write{Key: logKey(t.name, partTile, uint64(level), n/tileWidth), Value: t.tiles[level]})
		t.tiles[level] = make([]byte, 0, tileWidth*hashBytes)
	}
	if level > 0 {
		puts = append(puts, kv.Write{Key: logKey(t.name, partEdge, uint64(level)), Value: append([]byte(nil), t.tiles[level]...)})
	}
	return puts
}

// loadTail reads a log's end.
func loadTail(r kv.Reader, name string) (*tail, error) {
	l := &logView{reader: r, name: name}
	f, err := l.load()
	if err != nil {
		return nil, err
	}
	t := &tail{frontier: *f, name: name}
	for level := 0; f.size>>(level*tileLevels) > 0; level++ {
		part, err := l.edge(level)
		if err != nil {
			return nil, err
		}
		t.tiles = append(t.tiles, append(make([]byte, 0, tileWidth*hashBytes), part...))
	}
	return t, nil
}

// load reads the frontier once.
func (l *logView) load() (*frontier, error) {
	if l.frontier != nil || l.err != nil {
		return l.frontier, l.err
	}
	b, _, err := l.reader.Get(logKey(l.name, partFrontier))
	switch {
	case errors.Is(err, kv.ErrNotFound):
		l.frontier = &frontier{}
	case err != nil:
		return nil, err
	default:
		if l.frontier, err = decodeFrontier(b); err != nil {
			return nil, fmt.Errorf("log %q: %w", l.name, err)
		}
	}
	return l.frontier, nil
}

// edge is the hashes of the tile of a level that is not full.
func (l *logView) edge(level int) ([]byte, error) {
	f, err := l.load()
	if err != nil {
		return nil, err
	}
	have := int(f.size >> (level * tileLevels) & (tileWidth - 1))
	if have == 0 {
		return nil, nil
	}
	if level > 0 {
		return l.hashes(logKey(l.name, partEdge, uint64(level)), have)
	}
	if l.edge0 != nil {
		return l.edge0, nil
	}
	out := make([]byte, 0, have*hashBytes)
	for seq := f.size - uint64(have); seq < f.size; seq++ {
		b, _, err := l.reader.Get(logKey(l.name, partLeaf, seq))
		if err != nil {
			return nil, l.broken(fmt.Sprintf("leaf %d", seq), err)
		}
		_, data, err := splitLeaf(b)
		if err != nil {
			return nil, err
		}
		h := tlog.RecordHash(data)
		out = append(out, h[:]...)
	}
	l.edge0 = out
	return out, nil
}

// hashes reads a stored run of at least n hashes.
func (l *logView) hashes(key []byte, n int) ([]byte, error) {
	b, _, err := l.reader.Get(key)
	if err != nil {
		return nil, l.broken("a tile", err)
	}
	if len(b) < n*hashBytes {
		return nil, fmt.Errorf("log %q: %w: a tile of %d bytes where %d hashes belong", l.name, errMalformed, len(b), n)
	}
	return b[:n*hashBytes], nil
}

func (l *logView) broken(what string, err error) error {
	return fmt.Errorf("log %q is damaged, %s cannot be read: %w", l.name, what, err)
}

// tile is the hashes of a tile as far as they exist at the view's version.
func (l *logView) tile(level int, n uint64) ([]byte, error) {
	f, err := l.load()
	if err != nil {
		return nil, err
	}
	if n < f.size>>(level*tileLevels)/tileWidth {
		return l.hashes(logKey(l.name, partTile, uint64(level), n), tileWidth)
	}
	return l.edge(level)
}

func appendLeaf(t time.Time, data []byte) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(data)), uint64(t.UnixNano()))
	return append(b, data...)
}

func splitLeaf(b []byte) (time.Time, []byte, error) {
	if len(b) < 8 {
		return time.Time{}, nil, fmt.Errorf("%w: a leaf of %d bytes", errMalformed, len(b))
	}
	return time.Unix(0, int64(binary.BigEndian.Uint64(b))).UTC(), b[8:], nil
}
