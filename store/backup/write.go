package backup

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/cloister-os/cloister/store/sealed"
)

// spaceEvery is how many bytes are written between two looks at the disk.
const spaceEvery = 16 << 20

// space leaves room on the disk that a backup is written to.
type space struct {
	dir     string
	reserve int64
	free    func(dir string) (int64, error)
	written int64
}

// take refuses n more bytes when too little would be left.
func (s *space) take(n int64) error {
	before := s.written / spaceEvery
	if s.written += n; s.written/spaceEvery == before && s.written != n {
		return nil
	}
	free, err := s.free(s.dir)
	if err != nil {
		return err
	}
	if free-n < s.reserve {
		return refuse(ErrNoSpace, "the disk of %s has %d MiB free and keeps %d MiB: free some space, or choose another folder, and begin again", s.dir, free>>20, s.reserve>>20)
	}
	return nil
}

// fileWriter seals one file of a backup and hashes what it writes.
type fileWriter struct {
	path  string // where it will stand
	file  *os.File
	hash  hash.Hash
	n     int64
	space *space
	*sealed.Writer
}

// createFile begins a file, which gets its name when it is finished.
func createFile(dir, name string, id string, key *keyRing, s *space) (*fileWriter, error) {
	path := filepath.Join(dir, name)
	f, err := os.OpenFile(path+".tmp", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("write the backup: %w", err)
	}
	w := &fileWriter{path: path, file: f, hash: sha256.New(), space: s}
	if w.Writer, err = sealed.NewWriter(sink{w}, key, fileAAD(id, name)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return w, nil
}

// sink is where a fileWriter's sealed bytes go.
type sink struct{ w *fileWriter }

// Write implements io.Writer.
func (s sink) Write(p []byte) (int, error) {
	if err := s.w.space.take(int64(len(p))); err != nil {
		return 0, err
	}
	n, err := s.w.file.Write(p)
	s.w.hash.Write(p[:n])
	s.w.n += int64(n)
	if errors.Is(err, syscall.ENOSPC) {
		err = refuse(ErrNoSpace, "the disk of %s is full: free some space, or choose another folder, and begin again", s.w.space.dir)
	}
	return n, err
}

// finish makes the file durable under its name.
func (w *fileWriter) finish() (File, error) {
	if err := errors.Join(w.Close(), w.file.Sync(), w.file.Close()); err != nil {
		return File{}, fmt.Errorf("write the backup: %w", err)
	}
	if err := os.Rename(w.path+".tmp", w.path); err != nil {
		return File{}, fmt.Errorf("write the backup: %w", err)
	}
	return File{Name: filepath.Base(w.path), Bytes: w.n, SHA256: hex.EncodeToString(w.hash.Sum(nil))}, nil
}

// drop gives the file up.
func (w *fileWriter) drop() {
	_ = w.file.Close() // it is removed
	_ = os.Remove(w.path + ".tmp")
}

func writeWhole(dir, name string, b []byte) error {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write the backup: %w", err)
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write the backup: %w", err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync the backup: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}

// FreeBytes is the free space of a folder's disk.
func FreeBytes(dir string) (int64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, fmt.Errorf("ask for the free space of %s: %w", dir, err)
	}
	return int64(s.Bavail) * s.Bsize, nil
}

// openFile opens a sealed file to read.
func openFile(dir, name, id string, key *keyRing) (*os.File, *sealed.Reader, error) {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return nil, nil, fmt.Errorf("read the backup: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	r, err := sealed.NewReader(f, info.Size(), key, fileAAD(id, name))
	if err != nil {
		return nil, nil, errors.Join(refuse(ErrDamaged, "the file %s of the backup in %s cannot be opened: %v", name, dir, err), f.Close())
	}
	return f, r, nil
}

var _ io.Writer = sink{}
