package exchange

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/cloister-os/cloister/store/blob"
)

// A frame is a blob's hash, eight bytes of length, and so many bytes. Lengths at
// the top of the range say instead why there are none.
const (
	frameHead = len(blob.Hash{}) + 8
	notHeld   = ^uint64(0)     // the node does not hold it, or not whole
	askAlone  = ^uint64(0) - 1 // too large for a batch: ask for its chunks
	askLater  = ^uint64(0) - 2 // the batch was full before it
	firstWhy  = askLater
)

func writeHead(w io.Writer, h blob.Hash, length uint64) error {
	var head [frameHead]byte
	copy(head[:], h[:])
	binary.BigEndian.PutUint64(head[len(h):], length)
	_, err := w.Write(head[:])
	return err
}

// readHead returns io.EOF between frames only.
func readHead(r io.Reader) (h blob.Hash, length uint64, err error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return h, 0, err
	}
	copy(h[:], head[:])
	length = binary.BigEndian.Uint64(head[len(h):])
	if length > blob.ChunkBytes && length < firstWhy {
		return h, 0, fmt.Errorf("a blob of %d bytes in a batch, where %d are the most", length, blob.ChunkBytes)
	}
	return h, length, nil
}

// readHashes reads a list of hashes that ends with r.
func readHashes(r io.Reader) ([]blob.Hash, error) {
	b, err := io.ReadAll(io.LimitReader(r, MaxBatch*int64(len(blob.Hash{}))+1))
	if err != nil {
		return nil, err
	}
	if len(b)%len(blob.Hash{}) != 0 || len(b) > MaxBatch*len(blob.Hash{}) {
		return nil, fmt.Errorf("a list of %d bytes is not one of at most %d blobs", len(b), MaxBatch)
	}
	var out []blob.Hash
	for ; len(b) > 0; b = b[len(blob.Hash{}):] {
		out = append(out, blob.Hash(b[:len(blob.Hash{})]))
	}
	return out, nil
}

func hashBytes(list []blob.Hash) []byte {
	b := make([]byte, 0, len(list)*len(blob.Hash{}))
	for _, h := range list {
		b = append(b, h[:]...)
	}
	return b
}
