// Package powercut is a file system that forgets, when its power is cut, what
// was not synced: writes and truncations of a file since its last fsync, and
// names made, changed or removed in a folder since that folder's last fsync.
// SIGKILL keeps the page cache and proves nothing about fsync; this does.
//
// A cut may also be lucky: then some of what was not synced survives: of files'
// bytes single sectors, out of order; of lengths and names those up to some
// moment, in the order in which they were changed, as file systems with a journal
// do it. What an unlucky cut forgets is more than most file systems would.
//
// It may import nothing of Cloister, and only tests may import it.
package powercut

import (
	"maps"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	pageBytes = 4096
	// sectorBytes is what a disk writes wholly or not at all.
	sectorBytes = 512
)

// Disk is the image: what is there, and what would be there after a cut.
type Disk struct {
	mu   sync.Mutex // guards all below and all entries
	root *entry
	all  []*entry
	ops  int  // changes so far
	dead bool // between a cut and the next mount every change fails
	full bool // nothing can grow: see Fill
	free int64
	slow time.Duration // what a sync takes
}

// entry is a file or a folder.
type entry struct {
	ino uint64
	dir bool

	now, kept content // a file's, as seen and as synced
	writes    []write // since the last fsync

	names, keptNames map[string]*entry // a folder's, likewise
	changes          []change
}

// write is a write, or a truncation to size when data is nil.
type write struct {
	op   int // its number among all changes of the disk
	off  int64
	data []byte
	size int64
}

// change is a set of names that change together in a folder; nil = removed.
type change struct {
	op    int
	names map[string]*entry
}

// New returns an empty disk.
func New() *Disk {
	d := &Disk{free: spaceBytes / 2}
	d.root = d.add(true)
	return d
}

func (d *Disk) add(dir bool) *entry {
	e := &entry{ino: uint64(len(d.all) + 1), dir: dir, now: newContent(), kept: newContent()}
	if dir {
		e.names, e.keptNames = map[string]*entry{}, map[string]*entry{}
	}
	d.all = append(d.all, e)
	return e
}

// write changes a file as seen.
func (d *Disk) write(e *entry, w write) {
	d.ops++
	w.op = d.ops
	e.now.do(w)
	e.writes = append(e.writes, w)
}

// rename changes a folder as seen.
func (d *Disk) rename(e *entry, names map[string]*entry) {
	d.ops++
	apply(e.names, change{names: names})
	e.changes = append(e.changes, change{d.ops, names})
}

func apply(names map[string]*entry, c change) {
	for name, to := range c.names {
		if to == nil {
			delete(names, name)
		} else {
			names[name] = to
		}
	}
}

// sync makes what is seen what is kept.
func (e *entry) sync() {
	for _, w := range e.writes {
		e.kept.do(w)
	}
	for _, c := range e.changes {
		apply(e.keptNames, c)
	}
	e.writes, e.changes = nil, nil
}

// Cut drops what was not synced. With luck above 0, each sector of it survives
// with that probability, and lengths and names up to a random moment.
func (d *Disk) Cut(rnd *rand.Rand, luck float64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dead = true
	moment := 0
	if luck > 0 {
		moment = d.moment(rnd)
	}
	for _, e := range d.all {
		for _, c := range e.changes {
			if c.op <= moment {
				apply(e.keptNames, c)
			}
		}
		if luck > 0 {
			e.survive(rnd, luck, moment)
		}
		e.writes, e.changes = nil, nil
		e.now = e.kept.clone()
		e.names = maps.Clone(e.keptNames)
	}
}

// moment chooses among the changes that were not synced.
func (d *Disk) moment(rnd *rand.Rand) int {
	oldest := d.ops
	for _, e := range d.all {
		if len(e.writes) > 0 {
			oldest = min(oldest, e.writes[0].op)
		}
		if len(e.changes) > 0 {
			oldest = min(oldest, e.changes[0].op)
		}
	}
	return oldest + rnd.IntN(d.ops-oldest+1)
}

// survive keeps some sectors of what was not synced, and the length that the
// file had at the moment.
func (e *entry) survive(rnd *rand.Rand, luck float64, moment int) {
	for _, w := range e.writes {
		if w.data == nil {
			if w.op <= moment {
				e.kept.do(w)
			}
			continue
		}
		end := w.off + int64(len(w.data))
		if w.op <= moment && end > e.kept.size {
			e.kept.size = end
		}
		for at := w.off; at < end; {
			next := min(end, (at/sectorBytes+1)*sectorBytes)
			if rnd.Float64() < luck && next <= e.kept.size {
				e.kept.do(write{off: at, data: w.data[at-w.off : next-w.off]})
			}
			at = next
		}
	}
}

// revive lets a disk be used again after a cut.
func (d *Disk) revive() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dead = false
}

// content is a sparse file.
type content struct {
	pages map[int64]*[pageBytes]byte
	size  int64
}

func newContent() content { return content{pages: map[int64]*[pageBytes]byte{}} }

func (c *content) clone() content {
	out := content{pages: make(map[int64]*[pageBytes]byte, len(c.pages)), size: c.size}
	for n, p := range c.pages {
		q := *p
		out.pages[n] = &q
	}
	return out
}

func (c *content) do(w write) {
	if w.data == nil {
		c.truncate(w.size)
		return
	}
	for data, off := w.data, w.off; len(data) > 0; {
		p := c.pages[off/pageBytes]
		if p == nil {
			p = new([pageBytes]byte)
			c.pages[off/pageBytes] = p
		}
		n := copy(p[off%pageBytes:], data)
		data, off = data[n:], off+int64(n)
	}
	c.size = max(c.size, w.off+int64(len(w.data)))
}

func (c *content) truncate(size int64) {
	for n, p := range c.pages {
		switch {
		case n*pageBytes >= size:
			delete(c.pages, n)
		case (n+1)*pageBytes > size:
			clear(p[size-n*pageBytes:])
		}
	}
	c.size = size
}

// read fills b from off and returns how much there was.
func (c *content) read(b []byte, off int64) int {
	if off >= c.size {
		return 0
	}
	b = b[:min(int64(len(b)), c.size-off)]
	for at := 0; at < len(b); {
		pos := off + int64(at)
		n := min(len(b)-at, int(pageBytes-pos%pageBytes))
		if p := c.pages[pos/pageBytes]; p != nil {
			copy(b[at:at+n], p[pos%pageBytes:])
		} else {
			clear(b[at : at+n])
		}
		at += n
	}
	return len(b)
}
