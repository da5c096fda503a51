package proof

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// tarWriter writes the one spelling that readContainer accepts.
type tarWriter struct {
	w    io.Writer
	left int64 // bytes still owed to the current file
	pad  int64
}

// next begins a file; exactly size bytes must then be written.
func (t *tarWriter) next(name string, size int64) error {
	if t.left != 0 {
		return fmt.Errorf("a file of the bundle is %d bytes short", t.left)
	}
	h, err := header(name, size)
	if err != nil {
		return err
	}
	if _, err = t.w.Write(append(make([]byte, t.pad), h...)); err != nil {
		return err
	}
	t.left, t.pad = size, padding(size)
	return nil
}

func (t *tarWriter) Write(b []byte) (int, error) {
	if int64(len(b)) > t.left {
		return 0, fmt.Errorf("a file of the bundle is %d bytes too long", int64(len(b))-t.left)
	}
	t.left -= int64(len(b))
	return t.w.Write(b)
}

func (t *tarWriter) close() error {
	if t.left != 0 {
		return fmt.Errorf("a file of the bundle is %d bytes short", t.left)
	}
	_, err := t.w.Write(make([]byte, t.pad+tarTail))
	return err
}

// appendTo writes the line in its one spelling, with the newline.
func (l Line) appendTo(b []byte) []byte {
	b = append(b, `{"seq":`...)
	b = strconv.AppendUint(b, l.Seq, 10)
	b = append(b, `,"version":`...)
	b = strconv.AppendUint(b, l.Version, 10)
	b = append(b, `,"time":"`...)
	b = l.Time.UTC().AppendFormat(b, time.RFC3339Nano)
	if bytes.IndexByte(l.Leaf, '\n') < 0 && json.Valid(l.Leaf) && isObject(l.Leaf) {
		b = append(b, `","leaf":`...)
		b = append(b, l.Leaf...)
		return append(b, "}\n"...)
	}
	b = append(b, `","data":"`...)
	b = base64.StdEncoding.AppendEncode(b, l.Leaf)
	return append(b, "\"}\n"...)
}

// isObject reports whether the JSON is an object in canonical spelling, as far
// as telling its members apart needs.
func isObject(b []byte) bool {
	if len(b) < 2 || b[0] != '{' || b[len(b)-1] != '}' {
		return false
	}
	n := 1 // the brace
	for _, raw := range members(b) {
		if raw.value == nil {
			return false
		}
		n += len(raw.name) + len(raw.value) + 4 // two quotation marks, colon, comma or brace
	}
	return n == len(b) || len(b) == 2
}

// tileSet notes which tiles a reader asked for, in the order it first asked.
type tileSet struct {
	hashes tlog.HashReader
	seen   map[tlog.Tile]bool
	order  []tlog.Tile
}

func (s *tileSet) Height() int { return tileHeight }

func (s *tileSet) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	out := make([][]byte, len(tiles))
	for i, t := range tiles {
		data, err := tlog.ReadTileData(t, s.hashes)
		if err != nil {
			return nil, err
		}
		out[i] = data
		if !s.seen[t] {
			s.seen[t] = true
			s.order = append(s.order, t)
		}
	}
	return out, nil
}

func (s *tileSet) SaveTiles([]tlog.Tile, [][]byte) {}

// neededTiles asks of the tree what Verify will ask, and returns the tiles that
// this takes: those over the records [from, to) and those for the tree's root
// at each of the sizes.
func neededTiles(tree tlog.Tree, hashes tlog.HashReader, from, to uint64, sizes []uint64) ([]tlog.Tile, error) {
	set := &tileSet{hashes: hashes, seen: map[tlog.Tile]bool{}}
	reader := tlog.TileHashReader(tree, set)
	for _, n := range sizes {
		if _, err := tlog.TreeHash(int64(n), reader); err != nil {
			return nil, fmt.Errorf("tiles for the tree at %d records: %w", n, err)
		}
	}
	for n := from; n < to; n = n/tileLeaves*tileLeaves + tileLeaves {
		if _, err := reader.ReadHashes([]int64{tlog.StoredHashIndex(0, int64(n))}); err != nil {
			return nil, fmt.Errorf("tiles for record %d: %w", n, err)
		}
	}
	return set.order, nil
}
