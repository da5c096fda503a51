package blob

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
)

// ChunkBytes is the size of a blob's chunks but the last: what is asked of
// another node at once, and verified before it is kept.
const ChunkBytes = 4 << 20

// Chunks are the hashes of a blob's chunks. They say nothing for certain until a
// blob made of them has its name's hash: whoever gives a wrong list is found out
// then.
type Chunks struct {
	Size   int64  `json:"size"`
	Hashes []Hash `json:"hashes"`
}

// ChunksOf reads a blob and returns its chunks, or ErrCorrupt when the bytes do
// not match the name.
func ChunksOf(h Hash, r io.Reader) (c Chunks, err error) {
	whole, chunk := sha256.New(), sha256.New()
	for {
		chunk.Reset()
		n, err := io.CopyN(io.MultiWriter(whole, chunk), r, ChunkBytes)
		if n > 0 {
			c.Size += n
			c.Hashes = append(c.Hashes, Hash(chunk.Sum(nil)))
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return c, fmt.Errorf("read blob %s: %w", h, err)
		}
	}
	if Hash(whole.Sum(nil)) != h {
		return c, fmt.Errorf("%w: %s", ErrCorrupt, h)
	}
	return c, nil
}

// Check refuses a list that cannot be one, or of a blob larger than max.
func (c Chunks) Check(max int64) error {
	switch {
	case c.Size < 0 || int64(len(c.Hashes)) != (c.Size+ChunkBytes-1)/ChunkBytes:
		return fmt.Errorf("a list of %d chunks cannot be of %d bytes", len(c.Hashes), c.Size)
	case c.Size > max:
		return fmt.Errorf("%w: %d bytes, expected at most %d", ErrTooLarge, c.Size, max)
	}
	return nil
}

// Range is the bytes [start, end) of a chunk.
func (c Chunks) Range(i int) (start, end int64) {
	start = int64(i) * ChunkBytes
	return start, min(start+ChunkBytes, c.Size)
}
