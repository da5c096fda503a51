package backup

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/cloister-os/cloister/store/blob"
)

// A pack is a row of blobs, each its hash (32 bytes), its size (8 bytes) and its
// bytes. The index is a row of hash, size and the pack's number (4 bytes), sorted
// by hash.
const (
	packBytes  = 64 << 20 // after which a new pack is begun; a larger blob has one of its own
	packHead   = sha256.Size + 8
	indexEntry = packHead + 4
	maxBlobs   = 8 << 20 // of a chain
)

// placed is a blob and the pack that holds it.
type placed struct {
	blob.Info
	pack uint32
}

func packName(n uint32) string { return fmt.Sprintf("%s%06d", packPrefix, n) }

// packer writes blobs into packs.
type packer struct {
	dir, id string
	key     *keyRing
	space   *space
	out     *fileWriter // nil between packs
	filled  int64
	current []blob.Info // of the pack being written
	next    uint32
	blobs   []placed // of finished packs
	files   []File
}

// add writes one blob. A blob that is not what its name says is an error.
func (p *packer) add(ctx context.Context, h blob.Hash, size int64, r io.Reader, read func(int64)) (err error) {
	if p.out != nil && p.filled+size > packBytes {
		if err := p.finish(); err != nil {
			return err
		}
	}
	if p.out == nil {
		p.next++
		if p.out, err = createFile(p.dir, packName(p.next), p.id, p.key, p.space); err != nil {
			return err
		}
	}
	head := binary.BigEndian.AppendUint64(bytes.Clone(h[:]), uint64(size))
	if _, err := p.out.Write(head); err != nil {
		return err
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(p.out, sum), &watched{ctx, r, read})
	if err != nil {
		return fmt.Errorf("back up the blob %s: %w", h, err)
	}
	if n != size || blob.Hash(sum.Sum(nil)) != h {
		return fmt.Errorf("back up the blob %s: %w", h, blob.ErrCorrupt)
	}
	p.filled += packHead + size
	p.current = append(p.current, blob.Info{Hash: h, Size: size})
	return nil
}

// finish ends the pack being written.
func (p *packer) finish() error {
	if p.out == nil {
		return nil
	}
	f, err := p.out.finish()
	if err != nil {
		return err
	}
	p.files = append(p.files, f)
	for _, b := range p.current {
		p.blobs = append(p.blobs, placed{b, p.next})
	}
	p.out, p.filled, p.current = nil, 0, nil
	return nil
}

// take adopts the packs that an interrupted backup left; one that does not read
// to its end is written again.
func (p *packer) take(ctx context.Context) error {
	for n := uint32(1); ; n++ {
		if _, err := os.Stat(filepath.Join(p.dir, packName(n))); err != nil {
			return nil
		}
		var infos []blob.Info
		err := eachInPack(p.dir, packName(n), p.id, p.key, func(info blob.Info, r io.Reader) error {
			infos = append(infos, info)
			_, err := io.Copy(io.Discard, &watched{ctx, r, func(int64) {}})
			return err
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return nil // written again, and those after it
		}
		f, err := describe(p.dir, packName(n))
		if err != nil {
			return err
		}
		p.next = n
		p.files = append(p.files, f)
		for _, info := range infos {
			p.blobs = append(p.blobs, placed{info, n})
		}
	}
}

// eachInPack yields the blobs of a pack; each must be what its name says.
func eachInPack(dir, name, id string, key *keyRing, f func(blob.Info, io.Reader) error) error {
	file, r, err := openFile(dir, name, id, key)
	if err != nil {
		return err
	}
	defer file.Close()
	in := bufio.NewReaderSize(r, 1<<18)
	var head [packHead]byte
	for {
		if _, err := io.ReadFull(in, head[:]); err == io.EOF {
			return nil
		} else if err != nil {
			return refuse(ErrDamaged, "the file %s of the backup in %s is damaged: %v", name, dir, err)
		}
		info := blob.Info{Hash: blob.Hash(head[:sha256.Size]), Size: int64(binary.BigEndian.Uint64(head[sha256.Size:]))}
		sum := sha256.New()
		rest := &io.LimitedReader{R: in, N: info.Size}
		if info.Size < 0 {
			return refuse(ErrDamaged, "the file %s of the backup in %s is damaged", name, dir)
		}
		err := f(info, io.TeeReader(rest, sum))
		if err == nil {
			_, err = io.Copy(sum, rest) // what f left
		}
		if err != nil {
			return err
		}
		if rest.N > 0 || blob.Hash(sum.Sum(nil)) != info.Hash {
			return refuse(ErrDamaged, "the file %s of the backup in %s is damaged: the blob %s is not in it whole", name, dir, info.Hash)
		}
	}
}

// index writes the blobs' places and returns the file.
func (p *packer) index() (File, error) {
	slices.SortFunc(p.blobs, func(a, b placed) int { return bytes.Compare(a.Hash[:], b.Hash[:]) })
	w, err := createFile(p.dir, blobIndexName, p.id, p.key, p.space)
	if err != nil {
		return File{}, err
	}
	row := make([]byte, 0, indexEntry)
	for _, b := range p.blobs {
		row = append(row[:0], b.Hash[:]...)
		row = binary.BigEndian.AppendUint64(row, uint64(b.Size))
		row = binary.BigEndian.AppendUint32(row, b.pack)
		if _, err := w.Write(row); err != nil {
			w.drop()
			return File{}, err
		}
	}
	return w.finish()
}

// readIndex adds the blobs of a backup to a set.
func readIndex(l link, key *keyRing, into map[blob.Hash]bool) error {
	f, r, err := openFile(l.dir, blobIndexName, l.ID, key)
	if err != nil {
		return err
	}
	defer f.Close()
	in := bufio.NewReaderSize(r, 1<<16)
	var row [indexEntry]byte
	for {
		_, err := io.ReadFull(in, row[:])
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return refuse(ErrDamaged, "the file %s of the backup %s is damaged: %v", blobIndexName, l.Name, err)
		}
		if len(into) >= maxBlobs {
			return fmt.Errorf("a chain of backups holds at most %d blobs", maxBlobs)
		}
		into[blob.Hash(row[:sha256.Size])] = true
	}
}

// describe hashes a file that is there.
func describe(dir, name string) (File, error) {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return File{}, fmt.Errorf("read the backup: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return File{}, fmt.Errorf("read the backup: %w", err)
	}
	return File{Name: name, Bytes: n, SHA256: fmt.Sprintf("%x", h.Sum(nil))}, nil
}
