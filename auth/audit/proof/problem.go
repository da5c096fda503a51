package proof

import (
	"cmp"
	"fmt"
	"slices"
)

// ProblemKind says what is wrong with a bundle.
type ProblemKind string

// The kinds of problem.
const (
	Changed   ProblemKind = "changed"   // bytes are not those that were exported
	Dropped   ProblemKind = "dropped"   // a record or file is missing
	Reordered ProblemKind = "reordered" // a record stands elsewhere
	Added     ProblemKind = "added"     // a record stands twice, or was never in the range
	OtherKey  ProblemKind = "other-key" // signed by another key than the one noted
	Cut       ProblemKind = "cut"       // the log ends before the checkpoint held
	Forked    ProblemKind = "forked"    // the log contradicts the checkpoint held
	Restored  ProblemKind = "restored"  // so, because it was restored from a backup
	Unproven  ProblemKind = "unproven"  // the bundle cannot be compared with the checkpoint held
)

// none is the Record of a problem that is not about one record.
const none = -1

// maxProblems bounds what a report tells.
const maxProblems = 20

// Problem is one thing that is wrong, and where.
type Problem struct {
	Kind   ProblemKind `json:"kind"`
	Record int64       `json:"record"`         // its sequence, -1 = not about one record
	File   string      `json:"file,omitempty"` // the file of the bundle
	Offset int64       `json:"offset"`         // the first byte of the bundle concerned
	End    int64       `json:"end"`            // and the first after them; 0 with Offset 0 = no place
	Text   string      `json:"text"`           // one sentence
	rank   int
}

// Ranks order problems by how exactly they say what happened.
const (
	rankRecord = iota - 1 // set by add for problems about a record
	rankExact
	rankManifest
	rankVague
)

// Error is one line.
func (p *Problem) Error() string {
	if p.End == 0 {
		return p.Text
	}
	if p.End == p.Offset+1 {
		return fmt.Sprintf("%s (byte %d of the bundle)", p.Text, p.Offset)
	}
	return fmt.Sprintf("%s (bytes %d to %d of the bundle)", p.Text, p.Offset, p.End-1)
}

func broken(at int64, format string, args ...any) *Problem {
	return &Problem{Kind: Changed, Record: none, Offset: at, End: at + 1, Text: fmt.Sprintf(format, args...)}
}

func inFile(f file, format string, args ...any) *Problem {
	return &Problem{Kind: Changed, Record: none, File: f.name, Offset: f.offset, End: f.end(), Text: fmt.Sprintf(format, args...)}
}

func (b *bundle) add(p *Problem) {
	if p == nil || len(b.problems) == maxProblems {
		return
	}
	if p.Record >= 0 {
		p.rank = rankRecord
	}
	b.problems = append(b.problems, p)
}

// found lists the problems, the most telling first.
func (b *bundle) found() []*Problem {
	slices.SortStableFunc(b.problems, func(x, y *Problem) int { return cmp.Compare(x.rank, y.rank) })
	return b.problems
}
