package git

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/go-git/go-billy/v5"
	"github.com/go-git/go-billy/v5/osfs"
)

// Whoever can write to a repository must not be able to have another one read: a
// .git file or link, borrowed objects and links among the objects all can lead to
// repositories that the node may read and whoever asks may not.

// maxPointerBytes bounds the small files that say where a repository is.
const maxPointerBytes = 1 << 20

// bounded is the file system of one repository: no link in it leads out of it,
// and nothing but regular files is opened, for a pipe would never end.
type bounded struct{ billy.Filesystem }

func boundTo(dir string) billy.Filesystem {
	return bounded{osfs.New(dir, osfs.WithBoundOS())}
}

// Open implements billy.Filesystem.
func (b bounded) Open(name string) (billy.File, error) { return b.OpenFile(name, os.O_RDONLY, 0) }

// OpenFile implements billy.Filesystem.
func (b bounded) OpenFile(name string, flag int, perm os.FileMode) (billy.File, error) {
	info, err := b.Stat(name)
	if err == nil && !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("it is no regular file")}
	}
	return b.Filesystem.OpenFile(name, flag, perm)
}

// Capabilities implements billy.Capable.
func (b bounded) Capabilities() billy.Capability { return billy.Capabilities(b.Filesystem) }

// small reads a small regular file.
func small(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular() || info.Size() > maxPointerBytes:
		return nil, fmt.Errorf("%s is no file of at most %d bytes", path, maxPointerBytes)
	}
	return io.ReadAll(io.LimitReader(f, maxPointerBytes))
}

// belongs refuses the repository that .git in a folder leads to, unless it lies
// in the folder or names the folder itself as its work tree.
func belongs(dot, dir string) error {
	if inside(dir, filepath.Dir(dot)) || pointsBack(dot, dir) {
		return nil
	}
	return fmt.Errorf("%s leads to a repository elsewhere that does not name it as its work tree: add that repository itself", dot)
}

// inside reports whether a path, all links followed, lies in a folder.
func inside(path, folder string) bool {
	path, err1 := filepath.EvalSymlinks(path)
	folder, err2 := filepath.EvalSymlinks(folder)
	if err := errors.Join(err1, err2); err != nil {
		return false
	}
	rel, err := filepath.Rel(folder, path)
	return err == nil && filepath.IsLocal(rel)
}

// pointsBack reports whether a repository says that .git is its: that of a linked
// work tree with the file gitdir, that of a submodule with core.worktree.
func pointsBack(dot, dir string) bool {
	link, err := small(dot)
	target, ok := strings.CutPrefix(strings.TrimSpace(string(link)), "gitdir: ")
	if err != nil || !ok {
		return false
	}
	target = absolute(target, filepath.Dir(dot))
	if back, err := small(filepath.Join(target, "gitdir")); err == nil && inside(target, dir) {
		return same(absolute(strings.TrimSpace(string(back)), target), dot)
	}
	config, err := small(filepath.Join(dir, "config"))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(config)) {
		name, value, _ := strings.Cut(line, "=")
		if strings.EqualFold(strings.TrimSpace(name), "worktree") && same(absolute(strings.Trim(strings.TrimSpace(value), `"`), dir), filepath.Dir(dot)) {
			return true
		}
	}
	return false
}

func same(a, b string) bool {
	x, err1 := os.Stat(a)
	y, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

// whole refuses a repository that borrows objects from another one.
func whole(dir string) error {
	list, err := small(filepath.Join(dir, "objects", "info", "alternates"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("the repository %s cannot be read: %w", dir, err)
	}
	if strings.TrimSpace(string(list)) == "" {
		return nil
	}
	return fmt.Errorf("the repository %s borrows objects from another one (objects/info/alternates), which is not read with it: make it whole with \"git repack -a -d\" and remove that file", dir)
}
