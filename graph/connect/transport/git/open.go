package git

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// Sizes of what one reader of a repository keeps in memory.
const (
	objectCacheBytes = 16 << 20
	maxObjectBytes   = 64 << 20 // of a commit, tag or tree
	treeCacheEntries = 50_000
)

// repo reads objects and references. It is used by one goroutine.
type repo struct {
	dir   string // the folder with HEAD, objects and refs
	store *filesystem.Storage
	trees treeCache
}

// open finds the repository at a path: the folder itself if bare, its .git
// folder, or where its .git file points if that points back.
func open(path string) (*repo, error) {
	dir, err := locate(path)
	if err != nil {
		return nil, err
	}
	for _, check := range []func(string) error{headed, readable, whole} {
		if err := check(dir); err != nil {
			return nil, err
		}
	}
	return openAt(dir), nil
}

func openAt(dir string) *repo {
	store := filesystem.NewStorageWithOptions(boundTo(dir), cache.NewObjectLRU(objectCacheBytes), filesystem.Options{
		ExclusiveAccess: true, // of this reader, which lives for one scan
		KeepDescriptors: true, LargeObjectThreshold: maxObjectBytes, AlternatesFS: boundTo(dir),
	})
	return &repo{dir: dir, store: store, trees: newTreeCache(treeCacheEntries)}
}

func (r *repo) close() error { return r.store.Close() }

func locate(path string) (string, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("there is no folder %s: check the path on the node", path)
	case err != nil:
		return "", fmt.Errorf("the folder %s cannot be looked at: %w", path, err)
	case !info.IsDir():
		return "", fmt.Errorf("%s is not a folder: give that of the repository", path)
	}
	if isRepository(path) {
		return path, nil
	}
	dot := filepath.Join(path, ".git")
	if isRepository(dot) {
		return dot, belongs(dot, dot)
	}
	if dir, ok := pointed(dot); ok && isRepository(dir) {
		return dir, belongs(dot, dir)
	}
	return "", fmt.Errorf("%s is not a git repository: it holds neither .git nor HEAD, objects and refs", path)
}

// pointed follows a .git file, as linked work trees and submodules have, to the
// repository that holds the references.
func pointed(dot string) (string, bool) {
	b, err := small(dot)
	target, ok := strings.CutPrefix(strings.TrimSpace(string(b)), "gitdir: ")
	if err != nil || !ok {
		return "", false
	}
	dir := absolute(target, filepath.Dir(dot))
	if common, err := small(filepath.Join(dir, "commondir")); err == nil {
		dir = absolute(strings.TrimSpace(string(common)), dir)
	}
	return dir, true
}

func absolute(path, base string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(base, path)
}

func isRepository(dir string) bool {
	for _, name := range []string{"HEAD", "objects", "refs"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return false
		}
	}
	return true
}

// headOf is what HEAD holds: the name of a branch or a commit.
var headOf = regexp.MustCompile(`^(ref:\s*refs/\S+|[0-9a-f]{40}|[0-9a-f]{64})\s*$`)

// headed refuses a HEAD that says nothing: else what was damaged would look like
// a repository without commits, and all that came from it would go.
func headed(dir string) error {
	b, err := small(filepath.Join(dir, "HEAD"))
	if err != nil {
		return fmt.Errorf("the repository %s cannot be read: %w", dir, err)
	}
	if !headOf.Match(b) {
		return fmt.Errorf("%s is not a git repository: its HEAD names neither a branch nor a commit; look at it with git status", dir)
	}
	return nil
}

// readable refuses the storage formats that cannot be read.
func readable(dir string) error {
	config, err := small(filepath.Join(dir, "config"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the repository %s cannot be read: %w", dir, err)
	}
	plain := strings.ToLower(strings.Join(strings.Fields(string(config)), ""))
	for _, format := range []string{"objectformat=sha256", "refstorage=reftable"} {
		if strings.Contains(plain, format) {
			return fmt.Errorf("the repository %s uses %s, which cannot be read yet: convert it with git clone into one with SHA-1 names and plain references",
				dir, strings.Replace(format, "=", " ", 1))
		}
	}
	return nil
}

// refs are a repository's branches and tags as they stand.
type refs struct {
	branch string                   // name of the default branch, or "" when HEAD is on none
	head   plumbing.Hash            // its commit; zero when it has none
	heads  map[string]plumbing.Hash // all branches
	tags   map[string]plumbing.Hash // as they stand: annotated tags are not peeled
	cut    map[plumbing.Hash]bool   // where a shallow clone ends: their parents are not there
}

func (r *repo) refs() (refs, error) {
	out := refs{heads: map[string]plumbing.Hash{}, tags: map[string]plumbing.Hash{}, cut: map[plumbing.Hash]bool{}}
	shallow, err := r.store.Shallow()
	if err != nil {
		return out, fmt.Errorf("where the shallow clone %s ends cannot be read: %w", r.dir, err)
	}
	for _, h := range shallow {
		out.cut[h] = true
	}
	it, err := r.store.IterReferences()
	if err != nil {
		return out, fmt.Errorf("the references of %s cannot be read: %w", r.dir, err)
	}
	err = it.ForEach(func(ref *plumbing.Reference) error {
		if len(out.heads)+len(out.tags) > MaxRefs {
			return fmt.Errorf("there are more than %d", MaxRefs)
		}
		switch name := ref.Name(); {
		case ref.Type() != plumbing.HashReference:
		case name.IsBranch():
			out.heads[name.Short()] = ref.Hash()
		case name.IsTag():
			out.tags[name.Short()] = ref.Hash()
		}
		return nil
	})
	if err != nil {
		return out, fmt.Errorf("the references of %s cannot be read: %w", r.dir, err)
	}
	return out, r.findHead(&out)
}

// findHead finds the default branch: what HEAD names, or, when that has no
// commit, main, master or the first branch there is.
func (r *repo) findHead(out *refs) error {
	head, err := r.store.Reference(plumbing.HEAD)
	if err != nil {
		return fmt.Errorf("HEAD of %s cannot be read: %w", r.dir, err)
	}
	if head.Type() == plumbing.HashReference {
		out.head = head.Hash()
		return nil
	}
	candidates := []string{head.Target().Short(), "main", "master"}
	for name := range out.heads {
		candidates = append(candidates, name)
	}
	sort.Strings(candidates[3:])
	for _, name := range candidates {
		if h, ok := out.heads[name]; ok {
			out.branch, out.head = name, h
			return nil
		}
	}
	return nil
}

// digest is a hash of everything that decides what a scan finds.
func (r refs) digest() []byte {
	h := sha256.New()
	fmt.Fprintf(h, "%s %s %s %s\n%q %s\n", RuleCommit, RulePerson, RuleTag, RuleHead, r.branch, r.head)
	for kind, m := range []map[string]plumbing.Hash{r.heads, r.tags} {
		names := make([]string, 0, len(m))
		for name := range m {
			names = append(names, name)
		}
		sort.Strings(names)
		for _, name := range names {
			fmt.Fprintf(h, "%d %q %s\n", kind, name, m[name])
		}
	}
	for _, cut := range slices.SortedFunc(maps.Keys(r.cut), func(a, b plumbing.Hash) int { return bytes.Compare(a[:], b[:]) }) {
		fmt.Fprintf(h, "cut %s\n", cut)
	}
	return h.Sum(nil)
}

// unreadable is an object that is not there or not what it should be.
type unreadable struct {
	what string
	err  error
}

func (u *unreadable) Error() string { return "read " + u.what + ": " + u.err.Error() }

// Unwrap returns the cause.
func (u *unreadable) Unwrap() error { return u.err }

// bytes reads an object of a type, up to maxObjectBytes.
func (r *repo) bytes(t plumbing.ObjectType, h plumbing.Hash) ([]byte, error) {
	obj, err := r.store.EncodedObject(t, h)
	if err != nil {
		return nil, &unreadable{fmt.Sprint(t, " ", h), err}
	}
	if obj.Size() > maxObjectBytes {
		return nil, fmt.Errorf("%s %s has %d MiB, and at most %d MiB are read", t, h, obj.Size()>>20, maxObjectBytes>>20)
	}
	rd, err := obj.Reader()
	if err != nil {
		return nil, &unreadable{fmt.Sprint(t, " ", h), err}
	}
	buf := bytes.NewBuffer(make([]byte, 0, obj.Size()+bytes.MinRead))
	_, err = buf.ReadFrom(io.LimitReader(rd, maxObjectBytes))
	if err = errors.Join(err, rd.Close()); err != nil {
		return nil, &unreadable{fmt.Sprint(t, " ", h), err}
	}
	return buf.Bytes(), nil
}
