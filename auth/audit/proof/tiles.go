package proof

import (
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// tileHeight is C2SP's: a full tile holds 256 hashes.
const (
	tileHeight = 8
	tileLeaves = 1 << tileHeight
)

// tileName is the C2SP path of a tile.
func tileName(t tlog.Tile) string {
	return "tile/" + strings.TrimPrefix(t.Path(), fmt.Sprintf("tile/%d/", tileHeight))
}

// bundleTiles serves the tiles of a bundle.
type bundleTiles struct{ b *bundle }

// missingTile is an error about a tile that the bundle does not hold.
type missingTile struct{ name string }

func (e *missingTile) Error() string { return "the bundle lacks " + e.name }

func (t bundleTiles) Height() int { return tileHeight }

func (t bundleTiles) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	out := make([][]byte, len(tiles))
	for i, tile := range tiles {
		name := tileName(tile)
		f, ok := t.b.byName[name]
		if !ok {
			return nil, &missingTile{name}
		}
		data, err := t.b.read(f, tileLeaves*tlog.HashSize)
		if err != nil {
			return nil, err
		}
		if len(data) != tile.W*tlog.HashSize {
			return nil, fmt.Errorf("%s has %d bytes instead of %d", name, len(data), tile.W*tlog.HashSize)
		}
		out[i] = data
	}
	return out, nil
}

func (t bundleTiles) SaveTiles([]tlog.Tile, [][]byte) {}

// leafHashes returns the proven hashes of the records from n to the end of its
// tile or until, whichever is nearer.
func leafHashes(r tlog.HashReader, n, until uint64) ([]tlog.Hash, error) {
	end := min(n/tileLeaves*tileLeaves+tileLeaves, until)
	indexes := make([]int64, 0, tileLeaves)
	for i := n; i < end; i++ {
		indexes = append(indexes, tlog.StoredHashIndex(0, int64(i)))
	}
	return r.ReadHashes(indexes)
}
