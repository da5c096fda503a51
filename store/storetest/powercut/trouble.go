package powercut

import (
	"maps"
	"time"
)

// spaceBytes is the size of a disk.
const spaceBytes = 64 << 30

// Free sets what the disk says it has free, without being full.
func (d *Disk) Free(bytes int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.free = bytes
}

// Fill makes the disk full, or gives it room again: nothing can grow, and nothing
// can be made.
func (d *Disk) Fill(full bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.full, d.free = full, spaceBytes/2
	if full {
		d.free = 0
	}
}

// Slow sets what each sync takes.
func (d *Disk) Slow(each time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.slow = each
}

func (d *Disk) wait() {
	d.mu.Lock()
	slow := d.slow
	d.mu.Unlock()
	time.Sleep(slow)
}

// Copy is the disk as it is now, for a return to it later. Nobody may be using
// it.
func (d *Disk) Copy() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := &Disk{ops: d.ops, free: d.free}
	copies := make(map[*entry]*entry, len(d.all))
	for _, e := range d.all {
		c := *e
		c.now, c.kept = e.now.clone(), e.now.clone()
		c.writes, c.changes = nil, nil
		copies[e] = &c
		out.all = append(out.all, &c)
	}
	for e, c := range copies {
		if e.dir {
			c.names = map[string]*entry{}
			for name, child := range e.names {
				c.names[name] = copies[child]
			}
			c.keptNames = maps.Clone(c.names)
		}
	}
	out.root = copies[d.root]
	return out
}

// grows reports whether a write needs a page that the file does not have.
func (c *content) grows(off int64, n int) bool {
	if n == 0 {
		return false
	}
	for p := off / pageBytes; p <= (off+int64(n)-1)/pageBytes; p++ {
		if c.pages[p] == nil {
			return true
		}
	}
	return false
}
