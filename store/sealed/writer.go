package sealed

import (
	"crypto/cipher"
	"encoding/binary"
	"io"
	"os"
)

// A sealed file is
//
//	magic (8) ‖ key id (4) ‖ salt (16)
//	chunk: nonce (12) ‖ ciphertext (64 KiB, in the last one 0 … 64 KiB) ‖ tag (16)
//	…
//
// with a key derived for the file. The additional data of a chunk are the
// caller's, its number, and whether it is the last: so a file that is cut at a
// chunk's end, or whose chunks changed places, does not open. Only an empty file
// has an empty chunk.
const (
	magic      = "CLSEAL1\n"
	headBytes  = len(magic) + idBytes + saltBytes
	chunkPlain = 64 << 10
	chunkBytes = nonceBytes + chunkPlain + tagBytes

	filePurpose = "file"
)

// Writer seals a file from its beginning to its end. It is used by one goroutine.
type Writer struct {
	w     io.Writer
	aead  cipher.AEAD // nil = plain
	aad   chunkAAD
	key   uint32 // id of its key
	head  []byte // not yet written
	plain []byte // of the chunk that is being filled
	out   []byte
	count uint64 // chunks written
	err   error
}

// NewWriter begins a file. What is written is whole only after Close, which does
// not close w.
func NewWriter(w io.Writer, ring Ring, aad []byte) (*Writer, error) {
	if ring == nil {
		return &Writer{w: w}, nil
	}
	id, key := ring.Active()
	head := make([]byte, headBytes)
	binary.BigEndian.PutUint32(head[copy(head, magic):], id)
	random(head[headBytes-saltBytes:])
	aead, err := newAEAD(key, head[headBytes-saltBytes:], filePurpose)
	if err != nil {
		return nil, err
	}
	f := newWriter(w, aead, aad)
	f.head, f.key = head, id
	return f, nil
}

func newWriter(w io.Writer, aead cipher.AEAD, aad []byte) *Writer {
	return &Writer{w: w, aead: aead, aad: newChunkAAD(aad), plain: make([]byte, 0, chunkPlain), out: make([]byte, 0, chunkBytes)}
}

// Key is the id of the key that the file is sealed with, 0 for a plain one.
func (f *Writer) Key() uint32 { return f.key }

// Write implements io.Writer.
func (f *Writer) Write(p []byte) (n int, err error) {
	if f.aead == nil {
		return f.w.Write(p)
	}
	for len(p) > 0 && f.err == nil {
		if len(f.plain) == chunkPlain { // more comes, so it is not the last
			f.chunk(f.plain, false)
			f.plain = f.plain[:0]
			continue
		}
		if len(f.plain) == 0 && len(p) > chunkPlain {
			f.chunk(p[:chunkPlain], false)
			p, n = p[chunkPlain:], n+chunkPlain
			continue
		}
		take := min(len(p), chunkPlain-len(f.plain))
		f.plain = append(f.plain, p[:take]...)
		p, n = p[take:], n+take
	}
	return n, f.err
}

// Close writes the last chunk. It does not close the writer below.
func (f *Writer) Close() error {
	if f.aead == nil {
		return nil
	}
	if f.err == nil {
		f.chunk(f.plain, true)
	}
	err := f.err
	if err == nil {
		f.err = os.ErrClosed
	}
	return err
}

func (f *Writer) chunk(plain []byte, last bool) {
	if f.head != nil {
		if _, f.err = f.w.Write(f.head); f.err != nil {
			return
		}
		f.head = nil
	}
	nonce := f.out[:nonceBytes]
	random(nonce)
	f.out = f.aead.Seal(nonce, nonce, plain, f.aad.of(f.count, last))
	_, f.err = f.w.Write(f.out)
	f.count++
}

// chunkAAD is a chunk's number and place, and the file's additional data.
type chunkAAD []byte

func newChunkAAD(aad []byte) chunkAAD {
	return append(make(chunkAAD, 9, 9+len(aad)), aad...)
}

func (a chunkAAD) of(number uint64, last bool) []byte {
	binary.BigEndian.PutUint64(a, number)
	a[8] = 0
	if last {
		a[8] = 1
	}
	return a
}
