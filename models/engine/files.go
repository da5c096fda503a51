package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/models"
)

// copyStep is how many bytes are copied between looks at the context.
const copyStep = 1 << 20

var digestForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

func (c Config) blob(d models.Digest) string {
	return filepath.Join(c.blobs(), "sha256-"+string(d))
}

func (c Config) partial(d models.Digest) string {
	return filepath.Join(c.partials(), string(d))
}

// Put implements models.Engine. The blob is written beside the others, synced
// and renamed, so a name in blobs/ always has all its bytes.
func (e *Engine) Put(ctx context.Context, permit *guard.Permit, model string, want models.Digest, size int64, r io.Reader) error {
	if err := permit.Covers(auth.ModelManage, auth.Model(model)); err != nil {
		return err
	}
	if !digestForm.MatchString(string(want)) || size < 0 {
		return models.Fail(models.ErrInvalid, "a blob has a SHA-256 in lower-case hexadecimal and a size")
	}
	e.puts.Lock()
	defer e.puts.Unlock()
	if info, err := os.Stat(e.config.blob(want)); err == nil && info.Size() == size {
		return shortRead(skip(r, size))
	}
	seekable, _ := r.(io.Seeker)
	begin := int64(0)
	if seekable != nil {
		var err error
		if begin, err = seekable.Seek(0, io.SeekCurrent); err != nil {
			return err
		}
	}
	resumed, err := e.write(ctx, want, size, r)
	if resumed && errors.Is(err, errOther) && seekable != nil {
		// What an earlier Put left has rotted; it was not compared with r.
		if _, err := seekable.Seek(begin, io.SeekStart); err != nil {
			return err
		}
		_, err = e.write(ctx, want, size, r)
	}
	if err != nil {
		return err
	}
	if err := os.Rename(e.config.partial(want), e.config.blob(want)); err != nil {
		return err
	}
	return syncDir(e.config.blobs())
}

// errOther marks content that is not what its digest says.
var errOther = errors.New("other content")

// write completes a blob's partial file durably, and reports whether an earlier
// Put had begun it.
func (e *Engine) write(ctx context.Context, want models.Digest, size int64, r io.Reader) (resumed bool, err error) {
	f, err := os.OpenFile(e.config.partial(want), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	resumed = info.Size() > 0
	if err := e.fill(ctx, f, want, size, r); err != nil {
		return resumed, err
	}
	return resumed, f.Sync()
}

// skip passes over the next n bytes of r.
func skip(r io.Reader, n int64) error {
	if s, ok := r.(io.Seeker); ok {
		_, err := s.Seek(n, io.SeekCurrent)
		return err
	}
	_, err := io.CopyN(io.Discard, r, n)
	return err
}

// fill completes a partial file from a reader that begins at its first byte.
func (e *Engine) fill(ctx context.Context, f *os.File, want models.Digest, size int64, r io.Reader) error {
	h := sha256.New()
	have, err := resume(f, h, size, r)
	if err != nil {
		return err
	}
	if err := e.Room(size - have); err != nil {
		return err
	}
	for have < size {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.CopyN(io.MultiWriter(f, h), r, min(copyStep, size-have))
		have += n
		if errors.Is(err, syscall.ENOSPC) {
			return models.Fail(models.ErrNoSpace, "the disk is full: free some space and import again")
		}
		if err != nil {
			return shortRead(err)
		}
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != string(want) {
		os.Remove(f.Name())
		return models.Fail(errOther, "%w", models.Fail(models.ErrInvalid, "its content has SHA-256 %s instead of %s: get the file again", got, want))
	}
	return nil
}

// resume hashes what the file already holds and skips as much of r. A file that
// is longer than it may be, or that differs from r, begins again.
func resume(f *os.File, h hash.Hash, size int64, r io.Reader) (have int64, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if have = info.Size(); have == 0 {
		return 0, nil
	}
	if have > size {
		return 0, f.Truncate(0)
	}
	if _, ok := r.(io.Seeker); ok {
		if _, err := io.CopyN(h, f, have); err != nil {
			return 0, err
		}
		return have, shortRead(skip(r, have))
	}
	same, fresh := true, make([]byte, 64<<10)
	old := make([]byte, len(fresh))
	for at := int64(0); at < have; {
		n := min(int64(len(fresh)), have-at)
		if _, err := io.ReadFull(r, fresh[:n]); err != nil {
			return 0, shortRead(err)
		}
		if same {
			if _, err := f.ReadAt(old[:n], at); err != nil {
				return 0, err
			}
			same = string(old[:n]) == string(fresh[:n])
		}
		if !same {
			if _, err := f.WriteAt(fresh[:n], at); err != nil {
				return 0, err
			}
		}
		h.Write(fresh[:n])
		at += n
	}
	_, err = f.Seek(have, io.SeekStart)
	return have, err
}

func shortRead(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return models.Fail(models.ErrInvalid, "the file ends before its end: get it again")
	}
	return err
}

// Room implements models.Engine.
func (e *Engine) Room(bytes int64) error {
	var s syscall.Statfs_t
	if err := syscall.Statfs(e.config.Dir, &s); err != nil {
		return fmt.Errorf("ask for free disk space: %w", err)
	}
	if free := int64(s.Bavail) * s.Bsize; bytes > 0 && free-bytes < e.config.Reserve {
		return models.Fail(models.ErrNoSpace, "not enough free disk space: the model needs %d MiB and %d MiB must stay free, but %d MiB are: free some and import again", bytes>>20, e.config.Reserve>>20, free>>20)
	}
	return nil
}

// Create implements models.Engine. What the engine derives from the files (it
// converts safetensors) takes their place on disk, and a model of the name that
// was there before gives way.
func (e *Engine) Create(ctx context.Context, permit *guard.Permit, s models.Spec) error {
	if err := permit.Covers(auth.ModelManage, auth.Model(s.Name)); err != nil {
		return err
	}
	if err := checkName(s.Name); err != nil {
		return err
	}
	var sources []models.Digest
	var bytes int64
	files := map[string]string{}
	for name, digest := range s.Files {
		info, err := os.Stat(e.config.blob(digest))
		if err != nil {
			return models.Fail(models.ErrInvalid, "file %q of the model has not been put yet", name)
		}
		bytes += info.Size()
		files[name] = "sha256:" + string(digest)
		sources = append(sources, digest)
	}
	if err := e.Room(bytes); err != nil {
		return err
	}
	before, err := e.used()
	if err != nil {
		return err
	}
	body := map[string]any{"model": s.Name, "files": files, "stream": false}
	if s.Template != "" {
		body["template"] = s.Template
	}
	if s.Licence != "" {
		body["license"] = s.Licence
	}
	if len(s.Stop) > 0 {
		body["parameters"] = map[string]any{"stop": s.Stop}
	}
	var reply struct{ Status string }
	if err := e.call(ctx, "POST", "/api/create", body, &reply); err != nil {
		return fmt.Errorf("create model %s: %w", s.Name, err)
	}
	return e.discard(slices.AppendSeq(sources, maps.Keys(before)))
}

// Discard implements models.Engine.
func (e *Engine) Discard(_ context.Context, permit *guard.Permit, model string, blobs []models.Digest) error {
	if err := permit.Covers(auth.ModelManage, auth.Model(model)); err != nil {
		return err
	}
	return e.discard(blobs)
}

// discard removes those of the blobs that no model names.
func (e *Engine) discard(blobs []models.Digest) error {
	e.puts.Lock()
	defer e.puts.Unlock()
	used, err := e.used()
	if err != nil {
		return err
	}
	for _, d := range blobs {
		if !digestForm.MatchString(string(d)) {
			continue
		}
		paths := []string{e.config.partial(d)}
		if !used[d] {
			paths = append(paths, e.config.blob(d))
		}
		for _, path := range paths {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// Delete implements models.Engine.
func (e *Engine) Delete(ctx context.Context, permit *guard.Permit, name string) error {
	if err := permit.Covers(auth.ModelManage, auth.Model(name)); err != nil {
		return err
	}
	if err := checkName(name); err != nil {
		return err
	}
	res, err := e.send(ctx, "DELETE", "/api/delete", map[string]any{"model": name})
	if err != nil {
		return fmt.Errorf("remove model %s: %w", name, err)
	}
	return res.Body.Close()
}

// List implements models.Engine.
func (e *Engine) List(ctx context.Context) ([]models.Installed, error) {
	var reply struct {
		Models []struct {
			Name string
			Size int64
		}
	}
	if err := e.call(ctx, "GET", "/api/tags", nil, &reply); err != nil {
		return nil, err
	}
	list := make([]models.Installed, 0, len(reply.Models))
	for _, m := range reply.Models {
		list = append(list, models.Installed{Name: strings.TrimSuffix(m.Name, ":latest"), Bytes: m.Size})
	}
	return list, nil
}

// sweepPartials removes what interrupted imports left before a time.
func (e *Engine) sweepPartials(before time.Time) {
	entries, err := os.ReadDir(e.config.partials())
	if err != nil {
		return
	}
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil && info.ModTime().Before(before) {
			os.Remove(filepath.Join(e.config.partials(), entry.Name()))
		}
	}
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
