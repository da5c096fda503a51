package memory

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"

	"github.com/cloister-os/cloister/store/machine/kv"
)

// generation is a pair of databases and their mark.
type generation struct {
	dbs  [2]database
	mark kv.Mark
}

func newGeneration() *generation {
	g := &generation{}
	for i := range g.dbs {
		g.dbs[i].revs = map[string][]revision{}
	}
	return g
}

// database keeps each key's versions, newest first.
type database struct {
	keys    []string // sorted
	revs    map[string][]revision
	pending []*commit // not synced
	bound   uint64
	differs string // a commit that was repeated with other bytes
}

// commit is what is kept or lost as one.
type commit struct {
	version uint64
	keys    []string
}

type revision struct {
	version uint64
	value   []byte
	deleted bool
	twice   bool    // a replay wrote it again
	in      *commit // nil once it is synced
}

func (d *database) commit(version uint64, writes []kv.Write) {
	c := &commit{version: version, keys: make([]string, 0, len(writes))}
	for _, w := range writes {
		k := string(w.Key)
		c.keys = append(c.keys, k)
		d.put(k, revision{version: version, value: bytes.Clone(w.Value), deleted: w.Deleted, in: c})
	}
	d.pending = append(d.pending, c)
}

func (d *database) put(k string, r revision) {
	revs := d.revs[k]
	if len(revs) == 0 {
		i, _ := slices.BinarySearch(d.keys, k)
		d.keys = slices.Insert(d.keys, i, k)
	}
	i := sort.Search(len(revs), func(i int) bool { return revs[i].version <= r.version })
	if i < len(revs) && revs[i].version == r.version {
		if old := revs[i]; (old.deleted != r.deleted || !bytes.Equal(old.value, r.value)) && d.differs == "" {
			d.differs = fmt.Sprintf("key %q at version %d was %x (deleted %v) and is written again as %x (deleted %v)",
				k, r.version, old.value, old.deleted, r.value, r.deleted)
		}
		r.twice = true
		if revs[i].in == nil {
			r.in = nil // the one that is there already cannot be lost
		}
		revs[i] = r
		return
	}
	d.revs[k] = slices.Insert(revs, i, r)
}

func (d *database) sync() {
	for _, c := range d.pending {
		d.settle(c, false)
	}
	d.pending = nil
}

// settle ends a commit: it is durable, or lost.
func (d *database) settle(c *commit, lost bool) {
	for _, k := range c.keys {
		revs := d.revs[k]
		i := sort.Search(len(revs), func(i int) bool { return revs[i].version <= c.version })
		if i == len(revs) || revs[i].in != c {
			continue // written again since, or discarded
		}
		if lost {
			d.set(k, slices.Delete(slices.Clone(revs), i, i+1))
		} else {
			revs[i].in = nil
		}
	}
}

// set replaces a key's revisions; without any, the key is gone.
func (d *database) set(k string, revs []revision) {
	if len(revs) > 0 {
		d.revs[k] = revs
		return
	}
	delete(d.revs, k)
	if i, ok := slices.BinarySearch(d.keys, k); ok {
		d.keys = slices.Delete(d.keys, i, i+1)
	}
}

// crash loses commits that were not synced: all, none, the newest, or any.
func (g *generation) crash(rnd *rand.Rand) {
	for i := range g.dbs {
		d := &g.dbs[i]
		mode, cut := rnd.IntN(4), rnd.IntN(len(d.pending)+1)
		for j, c := range d.pending {
			lost := mode == 0 || mode == 1 && j >= cut || mode == 2 && rnd.IntN(2) == 0
			d.settle(c, lost)
		}
		d.pending = nil
	}
}

// discard drops, of each key, what lies below its newest version at or below the
// bound, and that one too when it is the key's end.
func (d *database) discard(bound uint64) {
	if bound <= d.bound {
		return
	}
	d.bound = bound
	for _, k := range slices.Clone(d.keys) {
		revs := d.revs[k]
		i := sort.Search(len(revs), func(i int) bool { return revs[i].version <= bound })
		if i < len(revs) && !revs[i].deleted {
			i++
		}
		if i < len(revs) {
			d.set(k, slices.Clone(revs[:i]))
		}
	}
}

// at returns a key's newest revision at or below a version.
func (d *database) at(k string, version uint64) (revision, bool) {
	revs := d.revs[k]
	i := sort.Search(len(revs), func(i int) bool { return revs[i].version <= version })
	if i == len(revs) {
		return revision{}, false
	}
	return revs[i], true
}

// reader implements kv.Reader.
type reader struct {
	pair    *pair
	db      int
	version uint64
}

// At implements kv.Pair.
func (p *pair) At(db int, version uint64) kv.Reader { return &reader{p, db, version} }

// look runs f on the database.
func (r *reader) look(f func(*database)) error {
	d := r.pair.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.Fail != nil {
		if err := d.Fail(OpRead); err != nil {
			return err
		}
	}
	if r.pair.closed {
		return ErrClosed
	}
	f(&r.pair.gen.dbs[r.db])
	return nil
}

// Get implements kv.Reader.
func (r *reader) Get(key []byte) ([]byte, uint64, error) {
	var rev revision
	var found bool
	if err := r.look(func(d *database) { rev, found = d.at(string(key), r.version) }); err != nil {
		return nil, 0, err
	}
	if !found || rev.deleted {
		return nil, 0, kv.ErrNotFound
	}
	return bytes.Clone(rev.value), rev.version, nil
}

// Version implements kv.Reader.
func (r *reader) Version(key []byte) (uint64, error) {
	var rev revision
	if err := r.look(func(d *database) { rev, _ = d.at(string(key), r.version) }); err != nil {
		return 0, err
	}
	if rev.deleted {
		return 0, nil
	}
	return rev.version, nil
}

// Close implements kv.Reader.
func (*reader) Close() {}

// Scan implements kv.Reader.
func (r *reader) Scan(in kv.Range) kv.Cursor { return &cursor{r: r, in: in} }

// cursor reads the whole range when it is first moved.
type cursor struct {
	r   *reader
	in  kv.Range
	all []passed
	at  int
	err error
}

type passed struct {
	key string
	revision
}

// Seek implements kv.Cursor.
func (c *cursor) Seek(key []byte) {
	c.all, c.at = nil, 0
	c.err = c.r.look(func(d *database) {
		for _, k := range d.keys {
			if strings.HasPrefix(k, string(c.in.Prefix)) && (key == nil || c.in.Reverse == (k < string(key)) || k == string(key)) {
				c.pass(k, d.revs[k])
			}
		}
	})
	if c.in.Reverse {
		slices.Reverse(c.all)
	}
}

func (c *cursor) pass(k string, revs []revision) {
	for _, r := range revs {
		switch {
		case r.version > c.r.version:
			continue
		case c.in.AllVersions && r.twice:
			c.all = append(c.all, passed{k, r})
		case !c.in.AllVersions && (r.deleted || r.version <= c.in.Since):
			return
		}
		c.all = append(c.all, passed{k, r})
		if !c.in.AllVersions {
			return
		}
	}
}

// Valid implements kv.Cursor. A cursor that cannot read has one item, whose value
// tells.
func (c *cursor) Valid() bool { return c.at < len(c.all) || c.err != nil && c.at == 0 }

// Next implements kv.Cursor.
func (c *cursor) Next() { c.at++ }

// Key implements kv.Cursor.
func (c *cursor) Key() []byte {
	if c.err != nil {
		return c.in.Prefix
	}
	return []byte(c.all[c.at].key)
}

// Version implements kv.Cursor.
func (c *cursor) Version() uint64 {
	if c.err != nil {
		return c.r.version
	}
	return c.all[c.at].version
}

// Deleted implements kv.Cursor.
func (c *cursor) Deleted() bool { return c.err == nil && c.all[c.at].deleted }

// Value implements kv.Cursor.
func (c *cursor) Value() ([]byte, error) {
	if c.err != nil {
		return nil, c.err
	}
	return bytes.Clone(c.all[c.at].value), nil
}

// Close implements kv.Cursor.
func (*cursor) Close() {}
