package exchange

import (
	"context"
	"fmt"
	"io"

	"github.com/cloister-os/cloister/store/blob"
)

// ahead is how many chunks a Stream asks for before they are read: they bound
// what it holds in memory.
const ahead = 3

// Stream is a blob of other nodes, read from its beginning to its end: every
// byte it yields was verified against its chunk. It is used by one goroutine.
// Whoever reads it to the end verifies the whole, and says with Verdict whether
// it matched.
type Stream struct {
	*session
	ctx    context.Context
	cancel context.CancelFunc
	pos    int64
	now    []byte // what is left of the chunk that is being read
	queue  []chan arrived
	next   int // the chunk to ask for next
}

type arrived struct {
	bytes []byte
	err   error
}

// Stream opens a blob of at most max bytes that other nodes hold, those of a
// list first. It ends with the context.
func (c *Client) Stream(ctx context.Context, h blob.Hash, from []string, max int64) (*Stream, error) {
	as, err := c.open(ctx, h, from, max)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	return &Stream{session: as, ctx: ctx, cancel: cancel}, nil
}

// Size is the blob's size.
func (s *Stream) Size() int64 { return s.list.Size }

// Verdict says whether the whole matched its name: who lied is not asked again.
func (s *Stream) Verdict(right bool) { s.verdict(s.ctx, right) }

// Read implements io.Reader.
func (s *Stream) Read(b []byte) (int, error) {
	if len(s.now) == 0 {
		if s.pos >= s.list.Size {
			return 0, io.EOF
		}
		if err := s.fetch(); err != nil {
			return 0, err
		}
	}
	n := copy(b, s.now)
	s.now = s.now[n:]
	s.pos += int64(n)
	return n, nil
}

// fetch takes the chunk that holds pos, and asks for those that follow.
func (s *Stream) fetch() error {
	want := int(s.pos / blob.ChunkBytes)
	if s.next-len(s.queue) != want {
		s.forget()
		s.next = want
	}
	for len(s.queue) < ahead && s.next < len(s.list.Hashes) {
		s.queue = append(s.queue, s.ask(s.next))
		s.next++
	}
	a := <-s.queue[0]
	s.queue = s.queue[1:]
	if a.err != nil {
		return a.err
	}
	start, _ := s.list.Range(want)
	s.now = a.bytes[s.pos-start:]
	return nil
}

func (s *Stream) ask(i int) chan arrived {
	out := make(chan arrived, 1)
	go func() {
		b, err := s.chunk(s.ctx, i)
		out <- arrived{b, err}
	}()
	return out
}

// forget lets go of what was asked for and is not wanted.
func (s *Stream) forget() { s.queue, s.now = nil, nil }

// Seek implements io.Seeker.
func (s *Stream) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += s.pos
	case io.SeekEnd:
		offset += s.list.Size
	}
	if offset < 0 || offset > s.list.Size {
		return 0, fmt.Errorf("blob %s has no byte %d", s.hash, offset)
	}
	if offset != s.pos {
		s.now = nil
	}
	s.pos = offset
	return offset, nil
}

// Close ends what is under way.
func (s *Stream) Close() error {
	s.cancel()
	s.forget()
	return nil
}

var _ io.ReadSeekCloser = (*Stream)(nil)
