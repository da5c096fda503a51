package git

import (
	"bytes"
	"hash/maphash"
	"path"
	"sort"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
)

// Bounds of the search for renamed files that were also changed. Beyond them a
// rename shows as a deletion and an addition.
const (
	minSimilarity    = 50      // per cent, git's default
	maxRenamePairs   = 250_000 // of deleted with added files in one commit
	maxRenameBytes   = 1 << 20 // of one file
	maxRenameReading = 64 << 20
	chunkBytes       = 64 // a longer line counts as several
)

// renames joins a deleted and an added file to a renamed one where they are
// equal or similar enough, the most similar first, as git does.
func (r *repo) renames(changes []change) []change {
	var gone, come []int
	for i, c := range changes {
		switch {
		case c.op == deleted && c.oldMode.IsFile():
			gone = append(gone, i)
		case c.op == added && c.newMode.IsFile():
			come = append(come, i)
		}
	}
	if len(gone) == 0 || len(come) == 0 {
		return changes
	}
	p := pairing{changes: changes, from: map[int]int{}, taken: map[int]bool{}}
	p.equal(gone, come)
	p.similar(r, gone, come)
	return p.joined()
}

// pairing finds which added file was which deleted one.
type pairing struct {
	changes []change
	from    map[int]int // added → deleted
	scores  map[int]int // added → per cent
	taken   map[int]bool
}

func (p *pairing) join(gone, come, score int) {
	if p.scores == nil {
		p.scores = map[int]int{}
	}
	p.from[come], p.scores[come], p.taken[gone] = gone, score, true
}

// equal joins files with the same content, those of the same name first.
func (p *pairing) equal(gone, come []int) {
	byHash := map[plumbing.Hash][]int{}
	for _, g := range gone {
		byHash[p.changes[g].old] = append(byHash[p.changes[g].old], g)
	}
	for _, sameName := range []bool{true, false} {
		for _, c := range come {
			if _, done := p.from[c]; done {
				continue
			}
			for _, g := range byHash[p.changes[c].new] {
				if !p.taken[g] && (!sameName || path.Base(p.changes[g].path) == path.Base(p.changes[c].path)) {
					p.join(g, c, 100)
					break
				}
			}
		}
	}
}

// similar joins the most similar of what is left.
func (p *pairing) similar(r *repo, gone, come []int) {
	gone, come = p.left(gone, true), p.left(come, false)
	if len(gone) == 0 || len(come) == 0 || len(gone)*len(come) > maxRenamePairs {
		return
	}
	reader := sketcher{repo: r, left: maxRenameReading, seed: maphash.MakeSeed()}
	type pair struct{ gone, come, score int }
	var pairs []pair
	for _, c := range come {
		for _, g := range gone {
			if fileKind(p.changes[g].oldMode) != fileKind(p.changes[c].newMode) {
				continue
			}
			if score := reader.similarity(p.changes[g].old, p.changes[c].new); score >= minSimilarity {
				pairs = append(pairs, pair{g, c, score})
			}
		}
	}
	sort.SliceStable(pairs, func(i, j int) bool {
		a, b := pairs[i], pairs[j]
		if a.score != b.score {
			return a.score > b.score
		}
		sameA := path.Base(p.changes[a.gone].path) == path.Base(p.changes[a.come].path)
		sameB := path.Base(p.changes[b.gone].path) == path.Base(p.changes[b.come].path)
		return sameA && !sameB
	})
	for _, x := range pairs {
		if _, done := p.from[x.come]; !done && !p.taken[x.gone] {
			p.join(x.gone, x.come, x.score)
		}
	}
}

func (p *pairing) left(list []int, deleted bool) (out []int) {
	for _, i := range list {
		_, joined := p.from[i]
		if deleted && p.taken[i] || !deleted && joined {
			continue
		}
		out = append(out, i)
	}
	return out
}

func (p *pairing) joined() (out []change) {
	for i, c := range p.changes {
		if p.taken[i] {
			continue
		}
		if g, ok := p.from[i]; ok {
			was := p.changes[g]
			c.op, c.from, c.old, c.oldMode, c.similarity = renamed, was.path, was.old, was.oldMode, p.scores[i]
		}
		out = append(out, c)
	}
	return out
}

func fileKind(m filemode.FileMode) filemode.FileMode {
	if m == filemode.Symlink {
		return m
	}
	return filemode.Regular
}

// sketch is a file as counted bytes of its lines.
type sketch struct {
	size  int64
	lines map[uint64]int
}

// sketcher reads files to compare, within a bound for one commit.
type sketcher struct {
	repo     *repo
	left     int64
	seed     maphash.Seed
	sizes    map[plumbing.Hash]int64
	sketches map[plumbing.Hash]*sketch
}

// similarity is how much of the larger file is also in the other, in per cent;
// 0 when one of them cannot be read or is too large.
func (s *sketcher) similarity(a, b plumbing.Hash) int {
	sa, sb := s.size(a), s.size(b)
	large, small := max(sa, sb), min(sa, sb)
	if small <= 0 || large > maxRenameBytes || small*100 < large*minSimilarity {
		return 0
	}
	ka, kb := s.sketch(a), s.sketch(b)
	if ka == nil || kb == nil {
		return 0
	}
	common := 0
	for line, n := range ka.lines {
		common += min(n, kb.lines[line])
	}
	return int(int64(common) * 100 / large)
}

func (s *sketcher) size(h plumbing.Hash) int64 {
	if n, ok := s.sizes[h]; ok {
		return n
	}
	n, err := s.repo.store.EncodedObjectSize(h)
	if err != nil {
		n = -1 // a file that is not there (a partial clone) is similar to none
	}
	if s.sizes == nil {
		s.sizes = map[plumbing.Hash]int64{}
	}
	s.sizes[h] = n
	return n
}

func (s *sketcher) sketch(h plumbing.Hash) *sketch {
	if k, ok := s.sketches[h]; ok {
		return k
	}
	if s.sketches == nil {
		s.sketches = map[plumbing.Hash]*sketch{}
	}
	s.sketches[h] = nil
	if s.left -= s.size(h); s.left < 0 {
		return nil
	}
	raw, err := s.repo.bytes(plumbing.BlobObject, h)
	if err != nil {
		return nil
	}
	k := &sketch{size: int64(len(raw)), lines: map[uint64]int{}}
	for len(raw) > 0 {
		n := bytes.IndexByte(raw, '\n') + 1
		if n == 0 || n > chunkBytes {
			n = min(chunkBytes, len(raw))
		}
		k.lines[maphash.Bytes(s.seed, raw[:n])] += n
		raw = raw[n:]
	}
	s.sketches[h] = k
	return k
}
