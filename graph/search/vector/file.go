// Package vector keeps sentence vectors in one file per partition and finds the
// nearest of them by an exact scan.
//
// It promises: what Search returns is exactly the nearest of what was put; a
// frame is either wholly in the file or not at all, whatever cuts the writing
// short; the applied version read back is the one written with the last whole
// frame. A file of another model, or one whose head is damaged, begins anew:
// vectors are derived and can always be made again.
//
// An exact scan over int8 beats an approximate index in both recall and
// simplicity up to tens of thousands of vectors; MaxVectors keeps it there. With a
// Ring, each frame is sealed in its place. It may import store/sealed.
package vector

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"sync"

	"github.com/cloister-os/cloister/store/sealed"
)

// Bounds of a partition.
const (
	MaxVectors    = 100_000 // one partition holds at most this many; ErrFull past it
	MaxDimensions = 4096
	maxFrameBytes = 64 << 20
	maxGroupBytes = 1 << 10
)

// ErrFull says that the partition holds MaxVectors already.
var ErrFull = errors.New("the vector partition is full")

// What a file begins with, plain and sealed: one never passes for the other.
const (
	magic       = "CLVEC1\n"
	magicSealed = "CLVES1\n"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// File is one partition. Its methods are safe for concurrent use.
type File struct {
	path  string
	model string
	dims  int
	box   *sealed.Box

	mu      sync.RWMutex
	file    *os.File
	applied uint64
	groups  map[string]span // where a group's rows are
	owners  []string        // group of each row; "" = dropped
	rows    []int8          // dims for each row
	scales  []float32       // cosine = scale · dot(row, query), for a unit query
	dead    int
	frames  uint64          // in the file
	keys    map[uint32]bool // that frames are sealed with
	err     error           // a failed write; the file is closed to writing
}

type span struct{ first, count int }

// Open opens or creates the partition at path for vectors of one model. A nil Ring
// leaves it plain.
func Open(path, model string, dims int, ring sealed.Ring) (*File, error) {
	if dims < 1 || dims > MaxDimensions {
		return nil, fmt.Errorf("vectors of %d dimensions: between 1 and %d are supported", dims, MaxDimensions)
	}
	f := &File{path: path, model: model, dims: dims, box: sealed.NewBox(ring, "vectors")}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open vectors: %w", err)
	}
	f.file = file
	if err := f.load(); err != nil {
		file.Close()
		return nil, fmt.Errorf("read vectors %s: %w", path, err)
	}
	return f, nil
}

// Close closes the file. What was put stays readable from memory.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = os.ErrClosed
	}
	return f.file.Close()
}

// Applied is the version given with the last frame.
func (f *File) Applied() uint64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.applied
}

// Count is the number of live vectors.
func (f *File) Count() int {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return len(f.owners) - f.dead
}

// Has reports whether the group is there.
func (f *File) Has(group string) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	_, ok := f.groups[group]
	return ok
}

// Groups lists the groups that are there, in no order.
func (f *File) Groups() []string {
	f.mu.RLock()
	defer f.mu.RUnlock()
	out := make([]string, 0, len(f.groups))
	for g := range f.groups {
		out = append(out, g)
	}
	return out
}

// Put adds or replaces a group of vectors, in one frame with the version.
func (f *File) Put(group string, vectors [][]float32, applied uint64) error {
	if len(group) == 0 || len(group) > maxGroupBytes {
		return fmt.Errorf("a group's name has 1 to %d bytes", maxGroupBytes)
	}
	rows := make([]int8, 0, len(vectors)*f.dims)
	scales := make([]float32, len(vectors))
	for i, v := range vectors {
		if len(v) != f.dims {
			return fmt.Errorf("a vector of %d dimensions among vectors of %d", len(v), f.dims)
		}
		rows, scales[i] = quantize(rows, v)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.owners)-f.dead+len(vectors) > MaxVectors {
		return ErrFull
	}
	if err := f.append(frame{kind: framePut, applied: applied, group: group, rows: rows, scales: scales}); err != nil {
		return err
	}
	f.put(group, rows, scales)
	return f.compact()
}

// Drop removes groups, in one frame each with the version. Dropping what is not
// there is no error.
func (f *File) Drop(groups []string, applied uint64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, g := range groups {
		if _, ok := f.groups[g]; !ok {
			continue
		}
		if err := f.append(frame{kind: frameDrop, applied: applied, group: g}); err != nil {
			return err
		}
		f.drop(g)
	}
	return f.compact()
}

func (f *File) put(group string, rows []int8, scales []float32) {
	f.drop(group)
	f.groups[group] = span{len(f.owners), len(scales)}
	for range scales {
		f.owners = append(f.owners, group)
	}
	f.rows = append(f.rows, rows...)
	f.scales = append(f.scales, scales...)
}

func (f *File) drop(group string) {
	s, ok := f.groups[group]
	if !ok {
		return
	}
	delete(f.groups, group)
	for i := s.first; i < s.first+s.count; i++ {
		f.owners[i] = ""
	}
	f.dead += s.count
}

// compact rewrites the file once more than half of its rows are dropped.
func (f *File) compact() error {
	if f.dead < 1024 || f.dead*2 < len(f.owners) {
		return nil
	}
	return f.rewrite()
}

// rewrite puts a file of what is live in the place of this one. f.mu is held.
func (f *File) rewrite() error {
	tmp := f.path + ".new"
	file, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("compact vectors: %w", err)
	}
	fresh := &File{path: f.path, model: f.model, dims: f.dims, box: f.box, file: file}
	fresh.reset()
	if err = fresh.copyFrom(f); err == nil {
		err = os.Rename(tmp, f.path)
	}
	if err != nil {
		file.Close()
		return fmt.Errorf("compact vectors: %w", err)
	}
	f.file.Close()
	f.file, f.groups, f.owners, f.rows, f.scales, f.dead = file, fresh.groups, fresh.owners, fresh.rows, fresh.scales, 0
	f.frames, f.keys = fresh.frames, fresh.keys
	return nil
}

// Rekey seals with the active key what is sealed with another.
func (f *File) Rekey(active uint32) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.box.Plain() || f.err != nil || len(f.keys) == 0 || len(f.keys) == 1 && f.keys[active] {
		return nil
	}
	return f.rewrite()
}

func (f *File) copyFrom(old *File) error {
	if err := f.writeHead(); err != nil {
		return err
	}
	for g, s := range old.groups {
		rows := old.rows[s.first*f.dims : (s.first+s.count)*f.dims]
		scales := old.scales[s.first : s.first+s.count]
		if err := f.append(frame{kind: framePut, applied: old.applied, group: g, rows: rows, scales: scales}); err != nil {
			return err
		}
		f.put(g, rows, scales)
	}
	return f.file.Sync()
}

func (f *File) reset() {
	f.applied, f.dead, f.frames, f.keys = 0, 0, 0, map[uint32]bool{}
	f.groups, f.owners, f.rows, f.scales = map[string]span{}, nil, nil, nil
}

// load reads the file up to the last whole frame and cuts off what follows.
func (f *File) load() error {
	f.reset()
	r := bufio.NewReaderSize(f.file, 1<<16)
	if !f.readHead(r) {
		return f.begin()
	}
	good := int64(len(f.head()))
	for {
		fr, size, err := f.readFrame(r)
		if err != nil {
			break
		}
		if fr.kind == framePut {
			f.put(fr.group, fr.rows, fr.scales)
		} else {
			f.drop(fr.group)
		}
		f.applied = fr.applied
		good += size
	}
	if err := f.file.Truncate(good); err != nil {
		return err
	}
	_, err := f.file.Seek(good, io.SeekStart)
	return err
}

func (f *File) begin() error {
	f.reset()
	if err := f.file.Truncate(0); err != nil {
		return err
	}
	if _, err := f.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return f.writeHead()
}

func (f *File) head() []byte {
	b := []byte(magic)
	if !f.box.Plain() {
		b = []byte(magicSealed)
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(f.dims))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(f.model)))
	b = append(b, f.model...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func (f *File) writeHead() error {
	_, err := f.file.Write(f.head())
	return err
}

func (f *File) readHead(r io.Reader) bool {
	want := f.head()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(r, got); err != nil {
		return false
	}
	return string(got) == string(want)
}
