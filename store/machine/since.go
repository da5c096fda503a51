package machine

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/cloister-os/cloister/store"
)

// Head says at which version a stage was taken and how far back it goes.
type Head struct {
	Version store.Version
	State   uint64 // the databases' discardTs: versions below them may be gone
	History uint64
}

// Part is what a stage holds of one database: its records, each in its frame.
type Part struct {
	// Whole: everything that is kept. Otherwise only versions above the one that
	// was asked for, which together with what was there at that version are
	// everything: deletes are versions too.
	Whole   bool
	Records uint64
	Bytes   int64
}

// Databases is the order in which the parts of a stage stand.
func Databases() [2]store.Database { return [2]store.Database{store.State, store.History} }

// StageSince writes what came after a version, to one writer for each database,
// and returns the version that it was taken at. A database that may have let go
// of deletes since that version is written whole, and so are both when since is
// 0. Bytes that were written count only when there is no error.
func (m *Machine) StageSince(ctx context.Context, since store.Version, open func(store.Database) (io.Writer, error)) (Head, [2]Part, error) {
	var parts [2]Part
	// A reader at the old version keeps everything above it from being discarded
	// while it is read.
	before, old, _, err := m.pin(max(since, 1))
	if err != nil {
		return Head{}, parts, err
	}
	defer m.unpin(before, old)
	g, v, _, err := m.pin(0)
	if err != nil {
		return Head{}, parts, err
	}
	defer m.unpin(g, v)
	if g != before || v < since {
		return Head{}, parts, fmt.Errorf("%w: version %d is not in the past of version %d: the data were restored since", store.ErrInvalid, since, v)
	}
	kept := m.kept(g) // not more than was let go of when since was pinned, or since
	head, low := Head{v, kept.State, kept.History}, [2]uint64{kept.State, kept.History}
	for i := range 2 {
		w, err := open(Databases()[i])
		if err != nil {
			return head, parts, fmt.Errorf("stage: %w", err)
		}
		from := since
		if low[i] > uint64(since) {
			from = 0
		}
		counted := &countingWriter{w: w}
		out := bufio.NewWriterSize(counted, 1<<18)
		n, err := stageDatabase(ctx, out, g.pair, i, from, v, m.newPace())
		if err = errors.Join(err, out.Flush()); err != nil {
			return head, parts, fmt.Errorf("stage: %w", err)
		}
		parts[i] = Part{Whole: from == 0, Records: n, Bytes: counted.n}
	}
	return head, parts, nil
}

// PartReader is a part with its bytes.
type PartReader struct {
	Part
	Reader io.Reader
}

// Extra is a key that is to stand in a composed stage beside what was staged.
type Extra struct {
	Key   store.Key
	Value []byte
}

func (x Extra) frame(v store.Version) []byte {
	db, _ := x.Key.Database()
	b := appendBytes(appendUint(appendArray(nil, 5), uint64(dbIndex(db))), userKey(x.Key))
	return appendBytes(appendUint(appendUint(b, uint64(v)), 0), x.Value)
}

// ComposedSize is how many bytes Compose writes.
func ComposedSize(head Head, parts []Part, extra []Extra) int64 {
	n := int64(len(dataMagic)) + framed(stageHead{head.Version, head.State, head.History}.encode())
	for _, p := range parts {
		n += p.Bytes
	}
	for _, x := range extra {
		n += framed(x.frame(head.Version))
	}
	return n + framed(nil) + 8 + sha256.Size
}

func framed(b []byte) int64 {
	return int64(len(binary.AppendUvarint(nil, uint64(len(b)))) + len(b))
}

// Compose writes one stage, as Restore takes it, of parts that were staged one
// after the other. The extra keys get the stage's version. A part whose bytes are
// not as many as it says is an error.
func Compose(w io.Writer, head Head, parts []PartReader, extra []Extra) error {
	digest := sha256.New()
	out := bufio.NewWriterSize(io.MultiWriter(w, digest), 1<<18)
	if _, err := out.WriteString(dataMagic); err != nil {
		return fmt.Errorf("compose a stage: %w", err)
	}
	if err := writeFrame(out, stageHead{head.Version, head.State, head.History}.encode()); err != nil {
		return fmt.Errorf("compose a stage: %w", err)
	}
	count := uint64(len(extra))
	for _, p := range parts {
		n, err := io.Copy(out, p.Reader)
		if err == nil && n != p.Bytes {
			err = fmt.Errorf("%w: a part has %d bytes instead of %d", ErrDamaged, n, p.Bytes)
		}
		if err != nil {
			return fmt.Errorf("compose a stage: %w", err)
		}
		count += p.Records
	}
	for _, x := range extra {
		if err := writeFrame(out, x.frame(head.Version)); err != nil {
			return fmt.Errorf("compose a stage: %w", err)
		}
	}
	if err := errors.Join(writeFrame(out, nil), out.Flush()); err != nil {
		return fmt.Errorf("compose a stage: %w", err)
	}
	if _, err := w.Write(digest.Sum(binary.BigEndian.AppendUint64(nil, count))); err != nil {
		return fmt.Errorf("compose a stage: %w", err)
	}
	return nil
}

// CheckPart reads a part as Restore would, without keeping it: each frame must be
// a record of that database.
func CheckPart(db store.Database, p PartReader) error {
	s := &stageReader{r: bufio.NewReaderSize(p.Reader, 1<<18), digest: sha256.New()}
	for n := range p.Records {
		b, err := s.next()
		if err != nil {
			return err
		}
		r := &reader{b: b}
		r.fixed(5)
		in := r.uint()
		r.bytes()
		v := r.uint()
		r.uint()
		r.bytes()
		if err := r.end(); err != nil || in != uint64(dbIndex(db)) || v == 0 {
			return fmt.Errorf("%w: record %d is not one of its database", ErrDamaged, n)
		}
	}
	if _, err := s.r.ReadByte(); err != io.EOF {
		return fmt.Errorf("%w: it goes on after its last record", ErrDamaged)
	}
	return nil
}

type countingWriter struct {
	w io.Writer
	n int64
}

// Write implements io.Writer.
func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
