package machine

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/machine/kv"
)

// A staged snapshot is
//
//	magic
//	frame [1, version, state's discardTs, history's discardTs]
//	frame [database, key, version, 1 = deleted, value] for every version of every key
//	empty frame
//	count of records (8 bytes), SHA-256 of all before the count (32 bytes)
//
// where a frame is its length as a varint and CBOR. A routine snapshot is the
// metadata magic alone: the databases themselves are the data.
const (
	dataMagic     = "cloister data 1\n"
	metadataMagic = "cloister meta 1\n"
	maxFrame      = store.MaxValueBytes + store.MaxKeyBytes + (1 << 20) // outcome records are the largest
)

// Errors of Restore.
var (
	ErrNoData  = errors.New("the snapshot carries no data")
	ErrDamaged = errors.New("the snapshot is damaged")
)

// WriteMetadata writes a snapshot that carries no data.
func WriteMetadata(w io.Writer) error {
	_, err := io.WriteString(w, metadataMagic)
	return err
}

// stageHead is what a staged snapshot begins with.
type stageHead struct {
	version        store.Version
	state, history uint64
}

func (h stageHead) encode() []byte {
	b := appendUint(appendUint(appendArray(nil, 4), 1), uint64(h.version))
	return appendUint(appendUint(b, h.state), h.history)
}

func decodeStageHead(b []byte) (stageHead, error) {
	r := &reader{b: b}
	r.fixed(4)
	if v := r.uint(); r.err == nil && v != 1 {
		return stageHead{}, fmt.Errorf("a snapshot of version %d: this program knows version 1; upgrade it", v)
	}
	h := stageHead{store.Version(r.uint()), r.uint(), r.uint()}
	return h, r.end()
}

// Frozen is everything that is kept at a version, held until Close: what it was
// made of is not discarded meanwhile, and Apply goes on.
type Frozen struct {
	m    *Machine
	gen  *generation
	at   store.Version
	held store.Version // pinned as well: nothing above it may be discarded
	kept kv.Mark
}

// Freeze holds on to the newest version. Close gives it back.
func (m *Machine) Freeze() (*Frozen, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, store.ErrClosed
	}
	f := &Frozen{m: m, gen: m.cur, at: m.head.version, kept: m.cur.retain.granted}
	f.held = min(f.at, store.Version(min(f.kept.State, f.kept.History)))
	m.cur.hold(f.at)
	m.cur.hold(f.held)
	return f, nil
}

// Version is the version that is held.
func (f *Frozen) Version() store.Version { return f.at }

// Bytes is about how much Stage writes.
func (f *Frozen) Bytes() int64 { return f.gen.pair.Bytes() }

// Close lets go. It must be called once, after the last Stage.
func (f *Frozen) Close() {
	f.m.unpin(f.gen, f.at)
	f.m.unpin(f.gen, f.held)
}

// Stage writes everything that is kept at the version. Badger's iterators end at
// a block that they cannot read as if the table ended there, and its Stream skips
// what it cannot read; so all checksums are verified first, and any error fails
// the whole. It holds no more in memory than its buffer.
func (f *Frozen) Stage(ctx context.Context, w io.Writer) error {
	digest := sha256.New()
	out := bufio.NewWriterSize(io.MultiWriter(w, digest), 1<<18)
	head := stageHead{f.at, f.kept.State, f.kept.History}
	_, err := out.WriteString(dataMagic)
	if err = errors.Join(err, writeFrame(out, head.encode())); err != nil {
		return fmt.Errorf("stage: %w", err)
	}
	count, pace := uint64(0), f.m.newPace()
	for i := range 2 {
		n, err := stageDatabase(ctx, out, f.gen.pair, i, 0, f.at, pace)
		if err != nil {
			return fmt.Errorf("stage: %w", err)
		}
		count += n
	}
	err = errors.Join(writeFrame(out, nil), out.Flush())
	if err == nil {
		_, err = w.Write(digest.Sum(binary.BigEndian.AppendUint64(nil, count)))
	}
	if err != nil {
		return fmt.Errorf("stage: %w", err)
	}
	return nil
}

// Stage writes everything that is kept at the newest version, which it returns;
// see Frozen.Stage.
func (m *Machine) Stage(ctx context.Context, w io.Writer) (store.Version, error) {
	f, err := m.Freeze()
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return f.at, f.Stage(ctx, w)
}

func writeFrame(w *bufio.Writer, b []byte) error {
	if _, err := w.Write(binary.AppendUvarint(nil, uint64(len(b)))); err != nil {
		return err
	}
	_, err := w.Write(b)
	return err
}

// stageDatabase writes the versions above since and up to v.
func stageDatabase(ctx context.Context, w *bufio.Writer, p kv.Pair, i int, since, v store.Version, pace *pace) (uint64, error) {
	if err := p.Verify(i, func(n int) error { return pace.worked(ctx, n) }); err != nil {
		return 0, err
	}
	r := p.At(i, uint64(v))
	defer r.Close()
	c := r.Scan(kv.Range{AllVersions: true, Since: uint64(since)})
	defer c.Close()
	var frame, last []byte
	var lastVersion, count uint64
	for c.Seek(nil); c.Valid(); c.Next() {
		if err := pace.worked(ctx, len(c.Key())); err != nil {
			return 0, err
		}
		if c.Version() == lastVersion && bytes.Equal(c.Key(), last) || c.Version() <= uint64(since) {
			continue // the replay wrote it again, or it is older
		}
		last, lastVersion = append(last[:0], c.Key()...), c.Version()
		count++
		frame = appendBytes(appendUint(appendArray(frame[:0], 5), uint64(i)), last)
		deleted := uint64(0)
		if c.Deleted() {
			deleted = 1
		}
		value, err := c.Value()
		if err != nil {
			return 0, fmt.Errorf("read key %q: %w", last, err)
		}
		frame = appendBytes(appendUint(appendUint(frame, lastVersion), deleted), value)
		if err := errors.Join(writeFrame(w, frame), pace.worked(ctx, len(value))); err != nil {
			return 0, err
		}
	}
	return count, nil
}

// stageReader reads a staged snapshot and its digest on the way.
type stageReader struct {
	r      *bufio.Reader
	digest hash.Hash
	frame  []byte
}

func newStageReader(r io.Reader) (*stageReader, stageHead, error) {
	s := &stageReader{r: bufio.NewReaderSize(r, 1<<18), digest: sha256.New()}
	magic := make([]byte, len(dataMagic))
	if _, err := io.ReadFull(s.r, magic); err != nil {
		return nil, stageHead{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	switch string(magic) {
	case metadataMagic:
		return nil, stageHead{}, ErrNoData
	case dataMagic:
	default:
		return nil, stageHead{}, fmt.Errorf("%w: it does not begin like one", ErrDamaged)
	}
	s.digest.Write(magic)
	b, err := s.next()
	if err != nil {
		return nil, stageHead{}, err
	}
	head, err := decodeStageHead(b)
	return s, head, err
}

// next returns the next frame, empty at the end. It is valid until the next call.
func (s *stageReader) next() ([]byte, error) {
	n, err := binary.ReadUvarint(s.r)
	if err != nil || n > maxFrame {
		return nil, fmt.Errorf("%w: a frame of %d bytes, %w", ErrDamaged, n, err)
	}
	s.digest.Write(binary.AppendUvarint(nil, n))
	if uint64(cap(s.frame)) < n {
		s.frame = make([]byte, n)
	}
	s.frame = s.frame[:n]
	if _, err := io.ReadFull(s.r, s.frame); err != nil {
		return nil, fmt.Errorf("%w: it ends too early: %w", ErrDamaged, err)
	}
	s.digest.Write(s.frame)
	return s.frame, nil
}

// finish checks the trailer.
func (s *stageReader) finish(count uint64) error {
	want := s.digest.Sum(binary.BigEndian.AppendUint64(nil, count))
	got := make([]byte, len(want))
	if _, err := io.ReadFull(s.r, got); err != nil {
		return fmt.Errorf("%w: it ends too early: %w", ErrDamaged, err)
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%w: its count or digest differs", ErrDamaged)
	}
	return nil
}

// Peek returns the version that a staged snapshot holds and a reader of the
// whole snapshot.
func Peek(r io.Reader) (store.Version, io.Reader, error) {
	var seen bytes.Buffer
	_, head, err := newStageReader(io.TeeReader(io.LimitReader(r, int64(len(dataMagic))+64), &seen))
	return head.version, io.MultiReader(&seen, r), err
}
