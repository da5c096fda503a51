package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"time"

	"github.com/cloister-os/cloister/models"
	"github.com/cloister-os/cloister/store"
)

// Bounds of uploads.
const (
	maxChunk      = 64 << 20           // bytes of one request
	maxUploads    = 16                 // files that are not complete
	maxUpload     = 512 << 30          // bytes of one file
	staleUpload   = 7 * 24 * time.Hour // an upload that nothing came for is dropped
	chunkWait     = 10 * time.Minute   // for one request's bytes
	uploadReserve = 512 << 20          // free bytes that an upload must leave
)

var sha256Pattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

// uploads keeps files on their way to the node in a folder, each named by the
// hash that it should have. Only one request writes to a file at a time.
type uploads struct {
	dir  string
	mu   sync.Mutex // guards busy
	busy map[string]bool
}

func newUploads(dir string) (*uploads, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("prepare the folder for uploads: %w", err)
	}
	u := &uploads{dir: dir, busy: map[string]bool{}}
	return u, u.sweep(time.Now().Add(-staleUpload))
}

// sweep drops what nothing came for since a time.
func (u *uploads) sweep(before time.Time) error {
	list, err := os.ReadDir(u.dir)
	if err != nil {
		return err
	}
	for _, e := range list {
		info, err := e.Info()
		if err == nil && info.ModTime().Before(before) && !u.isBusy(e.Name()) {
			if err := os.Remove(filepath.Join(u.dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func (u *uploads) isBusy(hash string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.busy[hash]
}

// take claims a file; release gives it back.
func (u *uploads) take(hash string) (release func(), err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.busy[hash] {
		return nil, problem(http.StatusConflict, "This file is being sent already.", "Wait until the other upload has ended.")
	}
	u.busy[hash] = true
	return func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		delete(u.busy, hash)
	}, nil
}

func (u *uploads) path(hash string) string { return filepath.Join(u.dir, hash) }

// size is how many bytes of a file are there.
func (u *uploads) size(hash string) (int64, error) {
	info, err := os.Stat(u.path(hash))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// add appends bytes at an offset, which must be where the file ends, and returns
// where it ends now, even when the bytes stopped early.
func (u *uploads) add(ctx context.Context, hash string, offset int64, r io.Reader) (int64, error) {
	release, err := u.take(hash)
	if err != nil {
		return 0, err
	}
	defer release()
	have, err := u.size(hash)
	if err != nil {
		return 0, err
	}
	if offset != have {
		return have, problem(http.StatusConflict, "The upload goes on somewhere else.", fmt.Sprintf("Send the file from byte %d on.", have))
	}
	if have == 0 {
		if err := u.admit(); err != nil {
			return 0, err
		}
	}
	f, err := os.OpenFile(u.path(hash), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return have, err
	}
	n, err := io.Copy(f, io.LimitReader(&reserved{ctx: ctx, r: r, dir: u.dir}, min(maxChunk, maxUpload-have)))
	if closing := f.Close(); err == nil {
		err = closing
	}
	if errors.Is(err, syscall.ENOSPC) {
		err = models.ErrNoSpace
	}
	return have + n, err
}

// admit makes room for one more file, or refuses.
func (u *uploads) admit() error {
	if err := u.sweep(time.Now().Add(-staleUpload)); err != nil {
		return err
	}
	list, err := os.ReadDir(u.dir)
	if err == nil && len(list) >= maxUploads {
		err = fmt.Errorf("%d uploads were begun and not finished: %w", len(list), store.ErrBusy)
	}
	return err
}

func (u *uploads) drop(hash string) error {
	err := os.Remove(u.path(hash))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// reserved stops reading when the disk is nearly full or the context ends.
type reserved struct {
	ctx  context.Context
	r    io.Reader
	dir  string
	read int64
}

// Read implements io.Reader.
func (r *reserved) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	if r.read%(16<<20) < int64(len(b)) {
		var st syscall.Statfs_t
		if err := syscall.Statfs(r.dir, &st); err == nil && int64(st.Bavail)*st.Bsize < uploadReserve {
			return 0, fmt.Errorf("%w: an upload must leave %d MiB free on the node", models.ErrNoSpace, uploadReserve>>20)
		}
	}
	n, err := r.r.Read(b)
	r.read += int64(n)
	return n, err
}
