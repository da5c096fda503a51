package git

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
)

// treeEntry is one name in a tree.
type treeEntry struct {
	name string // a folder's ends with '/', which is also how git orders them
	mode filemode.FileMode
	hash plumbing.Hash
}

func (e treeEntry) isFolder() bool { return e.mode == filemode.Dir }

// tree reads and parses a tree; the zero hash is the empty one.
func (r *repo) tree(h plumbing.Hash) ([]treeEntry, error) {
	if h.IsZero() {
		return nil, nil
	}
	if t, ok := r.trees.get(h); ok {
		return t, nil
	}
	raw, err := r.bytes(plumbing.TreeObject, h)
	if err != nil {
		return nil, err
	}
	t, err := parseTree(raw)
	if err != nil {
		return nil, &unreadable{"tree " + h.String(), err}
	}
	r.trees.put(h, t)
	return t, nil
}

// parseTree reads a tree's entries. Their names share one copy of its bytes.
func parseTree(raw []byte) (out []treeEntry, err error) {
	for text := string(raw); text != ""; {
		head, rest, ok := strings.Cut(text, "\x00")
		octal, name, named := strings.Cut(head, " ")
		if !ok || !named || len(rest) < len(plumbing.ZeroHash) {
			return nil, errors.New("it is cut short")
		}
		mode, err := strconv.ParseUint(octal, 8, 32)
		if err != nil {
			return nil, err
		}
		e := treeEntry{name: name, mode: filemode.FileMode(mode)}
		if e.isFolder() {
			e.name += "/"
		}
		copy(e.hash[:], rest)
		text = rest[len(e.hash):]
		out = append(out, e)
	}
	return out, nil
}

// op is what a commit did to a file.
type op byte

const (
	added    op = 'A'
	modified op = 'M'
	deleted  op = 'D'
	renamed  op = 'R'
)

// change is one file that differs between two trees.
type change struct {
	op         op
	path       string
	from       string // renamed: the old path
	similarity int    // renamed: per cent
	old, new   plumbing.Hash
	oldMode    filemode.FileMode
	newMode    filemode.FileMode
}

// diff lists the files that differ between two trees, in the order of their
// paths. Folders with equal hashes are not opened.
func (r *repo) diff(a, b plumbing.Hash) ([]change, error) {
	var out []change
	err := r.diffFolder(a, b, "", 0, &out)
	return out, err
}

func (r *repo) diffFolder(a, b plumbing.Hash, prefix string, depth int, out *[]change) error {
	if depth > maxPathDepth {
		return fmt.Errorf("folders in the repository are nested deeper than %d levels", maxPathDepth)
	}
	ta, err := r.tree(a)
	if err != nil {
		return err
	}
	tb, err := r.tree(b)
	if err != nil {
		return err
	}
	for len(ta) > 0 || len(tb) > 0 {
		var ea, eb treeEntry
		switch {
		case len(tb) == 0 || len(ta) > 0 && ta[0].name < tb[0].name:
			ea, ta = ta[0], ta[1:]
		case len(ta) == 0 || tb[0].name < ta[0].name:
			eb, tb = tb[0], tb[1:]
		default:
			ea, ta, eb, tb = ta[0], ta[1:], tb[0], tb[1:]
		}
		if ea.hash == eb.hash && ea.mode == eb.mode {
			continue
		}
		if err := r.diffEntry(ea, eb, prefix, depth, out); err != nil {
			return err
		}
	}
	return nil
}

func (r *repo) diffEntry(a, b treeEntry, prefix string, depth int, out *[]change) error {
	name := prefix + a.name + b.name
	if a.name != "" && b.name != "" {
		name = prefix + a.name
	}
	if strings.HasSuffix(name, "/") {
		return r.diffFolder(a.hash, b.hash, name, depth+1, out)
	}
	c := change{op: modified, path: name, old: a.hash, new: b.hash, oldMode: a.mode, newMode: b.mode}
	switch {
	case a.name == "":
		c.op = added
	case b.name == "":
		c.op = deleted
	}
	*out = append(*out, c)
	return nil
}

// treeCache keeps parsed trees in two generations: when the young one is full it
// becomes the old one, and what is used again becomes young again.
type treeCache struct {
	young, old map[plumbing.Hash][]treeEntry
	size, max  int // entries in young
}

func newTreeCache(max int) treeCache {
	return treeCache{young: map[plumbing.Hash][]treeEntry{}, max: max}
}

func (c *treeCache) get(h plumbing.Hash) ([]treeEntry, bool) {
	if t, ok := c.young[h]; ok {
		return t, true
	}
	t, ok := c.old[h]
	if ok {
		c.put(h, t)
	}
	return t, ok
}

func (c *treeCache) put(h plumbing.Hash, t []treeEntry) {
	if c.size+len(t) > c.max {
		c.old, c.young, c.size = c.young, map[plumbing.Hash][]treeEntry{}, 0
	}
	c.young[h] = t
	c.size += len(t) + 1
}
