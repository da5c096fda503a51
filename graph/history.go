package graph

import (
	"fmt"
	"sort"
)

// maxRenames bounds how many earlier paths of a file are followed.
const maxRenames = 100

// fileRelations are what a commit can do to a file.
func fileRelations() []Relation { return []Relation{Adds, Modifies, Deletes, Renames} }

// History lists what commits did to a file, the latest first, at most max of
// them; it follows the file to its earlier paths, there only up to the rename.
// Each claim's Object is the path that the commit knew the file by. Commits that
// are not on the default branch (Rank 0) come last, by time.
func (r *Reader) History(file EntityID, max int) ([]Claim, error) {
	var out []Claim
	seen := map[EntityID]bool{}
	until := ^uint64(0)
	for range maxRenames {
		seen[file] = true
		rename, err := r.chapter(file, until, max, &out)
		if err != nil {
			return nil, fmt.Errorf("history of file %s: %w", file, err)
		}
		if rename == nil || seen[rename.Object] {
			break
		}
		if file = rename.Object; rename.Rank > 0 {
			until = rename.Rank
		}
	}
	sort.SliceStable(out, func(i, j int) bool {
		if out[i].Rank != out[j].Rank {
			return out[i].Rank > out[j].Rank
		}
		return out[i].From.After(out[j].From)
	})
	return out[:min(len(out), max)], nil
}

// chapter adds what was done to a file under one path before a place in the
// order, back to where it got that path, and returns the rename that gave it.
func (r *Reader) chapter(file EntityID, until uint64, max int, out *[]Claim) (*Claim, error) {
	var rename *Claim
	for c, err := range r.Out(file, RenamedFrom, Descending) {
		if err != nil {
			return nil, err
		}
		if c.Rank < until {
			rename = &c
			break
		}
	}
	for _, rel := range fileRelations() {
		n := 0
		for c, err := range r.In(file, rel, Descending) {
			switch {
			case err != nil:
				return nil, err
			case c.Rank >= until || rename != nil && c.Rank < rename.Rank && c.Rank > 0:
				continue
			case n == max:
			default:
				*out = append(*out, c)
				n++
				continue
			}
			break
		}
	}
	return rename, nil
}
