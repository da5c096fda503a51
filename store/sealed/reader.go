package sealed

import (
	"bytes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Reader reads a sealed file at any place. ReadAt is safe for concurrent use,
// Read and Seek are for one goroutine.
type Reader struct {
	r    io.ReaderAt
	aead cipher.AEAD // nil = plain
	size int64       // of the plaintext
	last uint64      // number of the last chunk
	pos  int64

	mu     sync.Mutex // guards all below
	aad    chunkAAD
	sealed []byte
	plain  []byte // of the chunk number cached
	cached uint64
	warm   bool
}

var (
	_ io.ReadSeeker = (*Reader)(nil)
	_ io.ReaderAt   = (*Reader)(nil)
)

// NewReader opens a file of size bytes. The last chunk is opened at once, so a
// file that was cut is refused here.
func NewReader(r io.ReaderAt, size int64, ring Ring, aad []byte) (*Reader, error) {
	if ring == nil {
		return &Reader{r: r, size: size}, nil
	}
	head := make([]byte, headBytes)
	if _, err := r.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read a sealed file: %w", err)
	}
	aead, err := openHead(head, ring)
	if err != nil {
		return nil, err
	}
	plain, last, err := layout(size)
	if err != nil {
		return nil, err
	}
	f := &Reader{r: r, aead: aead, size: plain, last: last, aad: newChunkAAD(aad)}
	if _, err := f.chunk(last); err != nil {
		return nil, err
	}
	return f, nil
}

func openHead(head []byte, ring Ring) (cipher.AEAD, error) {
	id, salt, err := parseHead(head)
	if err != nil {
		return nil, err
	}
	key, err := lookup(ring, id)
	if err != nil {
		return nil, err
	}
	return newAEAD(key, salt, filePurpose)
}

func parseHead(head []byte) (id uint32, salt []byte, err error) {
	if len(head) != headBytes || !bytes.HasPrefix(head, []byte(magic)) {
		return 0, nil, ErrNotSealed
	}
	return binary.BigEndian.Uint32(head[len(magic):]), head[headBytes-saltBytes:], nil
}

// FileKey is the id of the key that a file was sealed with.
func FileKey(r io.ReaderAt) (uint32, error) {
	head := make([]byte, headBytes)
	if _, err := r.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	id, _, err := parseHead(head)
	return id, err
}

// layout is the size of the plaintext of a file of size bytes, and the number of
// its last chunk.
func layout(size int64) (plain int64, last uint64, err error) {
	const extra = nonceBytes + tagBytes
	body := size - int64(headBytes)
	chunks, rest := body/chunkBytes, body%chunkBytes
	switch {
	case body < extra, rest > 0 && rest <= extra && chunks > 0, rest > 0 && rest < extra:
		return 0, 0, ErrDamaged
	case rest > 0:
		return chunks*chunkPlain + rest - extra, uint64(chunks), nil
	}
	return chunks * chunkPlain, uint64(chunks - 1), nil
}

// PlainSize is the size of what a sealed file of size bytes holds. With a nil Ring
// it is the size itself.
func PlainSize(ring Ring, size int64) (int64, error) {
	if ring == nil {
		return size, nil
	}
	n, _, err := layout(size)
	return n, err
}

// Size is the size of the plaintext.
func (f *Reader) Size() int64 { return f.size }

// ReadAt implements io.ReaderAt.
func (f *Reader) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, errors.New("read a sealed file: a negative offset")
	}
	if f.aead == nil {
		return f.r.ReadAt(p, off)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for n < len(p) {
		if off >= f.size {
			return n, io.EOF
		}
		plain, err := f.chunk(uint64(off / chunkPlain))
		if err != nil {
			return n, err
		}
		c := copy(p[n:], plain[off%chunkPlain:])
		n, off = n+c, off+int64(c)
	}
	return n, nil
}

// chunk opens one chunk; it is valid until the next call. f.mu is held.
func (f *Reader) chunk(number uint64) ([]byte, error) {
	if f.warm && f.cached == number {
		return f.plain, nil
	}
	if f.sealed == nil {
		f.sealed, f.plain = make([]byte, chunkBytes), make([]byte, 0, chunkPlain)
	}
	f.warm = false
	want := nonceBytes + chunkPlain + tagBytes
	if number == f.last {
		want = nonceBytes + int(f.size-int64(number)*chunkPlain) + tagBytes
	}
	n, err := f.r.ReadAt(f.sealed[:want], int64(headBytes)+int64(number)*chunkBytes)
	if n < want {
		if err == nil || errors.Is(err, io.EOF) {
			err = ErrDamaged
		}
		return nil, err
	}
	plain, err := f.aead.Open(f.plain[:0], f.sealed[:nonceBytes], f.sealed[nonceBytes:want], f.aad.of(number, number == f.last))
	if err != nil {
		return nil, ErrDamaged
	}
	f.plain, f.cached, f.warm = plain, number, true
	return plain, nil
}

// Read implements io.Reader.
func (f *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if f.pos >= f.size {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), f.size-f.pos)]
	n, err := f.ReadAt(p, f.pos)
	f.pos += int64(n)
	return n, err
}

// WriteTo implements io.WriterTo: whole chunks, without a copy in between.
func (f *Reader) WriteTo(w io.Writer) (n int64, err error) {
	buf := []byte(nil)
	for f.pos < f.size {
		if f.aead == nil {
			if buf == nil {
				buf = make([]byte, chunkPlain)
			}
			c, err := f.Read(buf)
			if err != nil {
				return n, err
			}
			m, err := w.Write(buf[:c])
			n += int64(m)
			if err != nil {
				return n, err
			}
			continue
		}
		c, err := f.pass(w)
		n, f.pos = n+c, f.pos+c
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func (f *Reader) pass(w io.Writer) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	plain, err := f.chunk(uint64(f.pos / chunkPlain))
	if err != nil {
		return 0, err
	}
	n, err := w.Write(plain[f.pos%chunkPlain:])
	return int64(n), err
}

// Seek implements io.Seeker.
func (f *Reader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += f.pos
	case io.SeekEnd:
		offset += f.size
	}
	if offset < 0 {
		return 0, errors.New("read a sealed file: a seek before its beginning")
	}
	f.pos = offset
	return offset, nil
}
