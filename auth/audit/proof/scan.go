package proof

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// scanner goes through records.jsonl once, with everything that must agree with
// it alongside. It stops at the first record that does not hold.
type scanner struct {
	b      *bundle
	f      file
	in     *bufio.Reader
	offset int64 // in the bundle, of the line after the current one
	from   uint64
	next   uint64
	until  uint64
	proven []tlog.Hash // of the records from next on, as far as their tile goes
	hash   hash.Hash   // of the file so far

	digests  *bufio.Reader // nil = records.digests is no help
	csv      *comparer     // nil = records.csv is not there
	openings *openings     // nil = none
}

// scan checks every record against the tree, and the tables against the records.
func (b *bundle) scan() {
	s, ok := b.newScanner()
	if !ok {
		return
	}
	for {
		more, p := s.step()
		if p != nil {
			b.add(p)
			return
		}
		if !more {
			break
		}
	}
	s.finish()
}

func (b *bundle) newScanner() (*scanner, bool) {
	f, ok := b.byName[recordsName]
	if !ok {
		b.add(&Problem{Kind: Dropped, Record: none, File: recordsName, Text: "the bundle lacks " + recordsName})
		return nil, false
	}
	s := &scanner{b: b, f: f, in: b.reader(f, MaxLineBytes), offset: f.offset, until: b.cp.Size, hash: sha256.New()}
	if b.signed {
		s.next, s.until = b.man.from, min(b.man.to, b.cp.Size)
	} else if line, _ := s.in.Peek(128); len(line) > 0 {
		s.next, _, _ = cutNumber(line, `{"seq":`)
	}
	s.from = s.next
	if d, ok := b.byName[digestsName]; ok && b.signed && !b.blamed(digestsName) {
		s.digests = b.reader(d, 4<<10)
	}
	if c, ok := b.byName[csvName]; ok {
		s.csv = &comparer{f: c, in: b.reader(c, 64<<10), at: c.offset}
	} else {
		b.add(&Problem{Kind: Dropped, Record: none, File: csvName, Text: "the bundle lacks " + csvName})
	}
	if o, ok := b.byName[openingsName]; ok && !b.blamed(openingsName) {
		s.openings = &openings{f: o, in: bufio.NewScanner(io.NewSectionReader(b.r, o.offset, o.size))}
		s.openings.advance()
	}
	return s, true
}

func (b *bundle) reader(f file, size int) *bufio.Reader {
	return bufio.NewReaderSize(io.NewSectionReader(b.r, f.offset, f.size), int(min(f.size+1, int64(size))))
}

// blamed reports whether the file is already known to be changed.
func (b *bundle) blamed(name string) bool {
	for _, p := range b.problems {
		if p.File == name {
			return true
		}
	}
	return false
}

// step checks one record; more is false when the file has ended.
func (s *scanner) step() (more bool, p *Problem) {
	start := s.offset
	raw, line, err := s.line()
	if err == io.EOF {
		return false, nil
	}
	if err != nil {
		return false, s.problem(Changed, start, "record %d was changed: %v", s.next, err)
	}
	if s.next >= s.until {
		return false, s.problem(Added, start, "record %d was added: the range ends before it", line.Seq)
	}
	if len(s.proven) == 0 {
		if s.proven, err = leafHashes(s.b.tree, s.next, s.until); err != nil {
			return false, s.unproven(err)
		}
	}
	if got := tlog.RecordHash(line.Leaf); line.Seq != s.next || got != s.proven[0] {
		return false, s.misplaced(start, line, got)
	}
	if p := s.digest(start, raw); p != nil {
		return false, p
	}
	l := parseLeaf(line.Leaf)
	if s.csv != nil {
		s.b.add(s.csv.row(line, &l))
	}
	if s.openings != nil {
		s.b.add(s.openings.check(s.next, &l))
	}
	if p := s.epoch(start, &l); p != nil {
		return false, p
	}
	s.note(line)
	s.proven, s.next = s.proven[1:], s.next+1
	return true, nil
}

func (s *scanner) note(line Line) {
	if s.b.report.First == nil {
		first := line.Time
		s.b.report.First, s.b.report.Last = &first, new(time.Time)
	}
	*s.b.report.Last = line.Time
}

// line reads a line; io.EOF only where the file ends.
func (s *scanner) line() ([]byte, Line, error) {
	raw, err := s.in.ReadSlice('\n')
	s.offset += int64(len(raw))
	if err == io.EOF && len(raw) == 0 {
		return nil, Line{}, io.EOF
	}
	if err == bufio.ErrBufferFull {
		return nil, Line{}, errors.New("its line is too long")
	}
	if err != nil {
		return nil, Line{}, errors.New("its line has no end")
	}
	s.hash.Write(raw)
	raw = raw[:len(raw)-1]
	line, err := parseLine(raw)
	return raw, line, err
}

// problem is one about the record that was expected next.
func (s *scanner) problem(k ProblemKind, start int64, format string, args ...any) *Problem {
	return &Problem{Kind: k, Record: int64(s.next), File: recordsName, Offset: start, End: max(s.offset, start+1), Text: fmt.Sprintf(format, args...)}
}

// unproven is about tiles that do not lead to the root. Where only a tile was
// changed, the manifest has named it already and more exactly.
func (s *scanner) unproven(err error) *Problem {
	return &Problem{Kind: Changed, Record: none, rank: rankVague, Text: fmt.Sprintf("the tiles over record %d do not lead to the checkpoint's root: %v", s.next, err)}
}

// digest catches a change beside the leaf: a line's number, version or time.
func (s *scanner) digest(start int64, raw []byte) *Problem {
	if s.digests == nil {
		return nil
	}
	var want [digestBytes]byte
	if _, err := io.ReadFull(s.digests, want[:]); err != nil {
		return inFile(s.b.byName[digestsName], "cannot read: %v", err)
	}
	if got := sha256.Sum256(raw); !bytes.Equal(got[:digestBytes], want[:]) {
		return s.problem(Changed, start, "record %d was changed: its version or time is not the one exported", s.next)
	}
	return nil
}

// misplaced says what became of the record that should stand here.
func (s *scanner) misplaced(start int64, line Line, got tlog.Hash) *Problem {
	want := s.proven[0]
	switch {
	case got == want:
		return s.problem(Changed, start, "record %d was changed: it is numbered %d", s.next, line.Seq)
	case line.Seq < s.next:
		return s.problem(Added, start, "record %d stands again where record %d should", line.Seq, s.next)
	}
	where, found := line.Seq, line.Seq != s.next
	if !found {
		where, found = s.find(got)
	}
	if !found {
		return s.problem(Changed, start, "record %d was changed", s.next)
	}
	if where < s.next {
		return s.problem(Added, start, "record %d stands again where record %d should", where, s.next)
	}
	p := s.problem(Dropped, start, "record %d was dropped: record %d stands in its place", s.next, where)
	for {
		_, later, err := s.line()
		if err != nil {
			return p
		}
		if tlog.RecordHash(later.Leaf) == want {
			p.Kind, p.Text = Reordered, fmt.Sprintf("record %d was moved: record %d stands in its place", s.next, where)
			return p
		}
	}
}

// find looks in the tree for the record with a hash.
func (s *scanner) find(hash tlog.Hash) (uint64, bool) {
	for n := s.from; n < s.until; {
		hashes, err := leafHashes(s.b.tree, n, s.until)
		if err != nil {
			return 0, false
		}
		for i, h := range hashes {
			if h == hash {
				return n + uint64(i), true
			}
		}
		n += uint64(len(hashes))
	}
	return 0, false
}

// finish checks that everything ended where the records did.
func (s *scanner) finish() {
	b := s.b
	if b.signed && s.next < s.until {
		p := s.problem(Dropped, s.f.end(), "record %d was dropped, and all after it to %d", s.next, s.until-1)
		if s.next == s.until-1 {
			p.Text = fmt.Sprintf("record %d was dropped", s.next)
		}
		b.add(p)
		return
	}
	if want, ok := b.manifested(recordsName); ok && !bytes.Equal(s.hash.Sum(nil), want.hash[:]) {
		b.add(inFile(s.f, "records.jsonl was changed: it is not the file that was exported"))
	}
	if s.csv != nil {
		b.add(s.csv.finish(s.from == s.next))
	}
	if s.openings != nil {
		b.add(s.openings.finish())
		b.report.Openings = s.openings.matched
	}
}

// manifested is what a signed manifest says of a file.
func (b *bundle) manifested(name string) (sum, bool) {
	if !b.signed {
		return sum{}, false
	}
	return b.man.of(name)
}
