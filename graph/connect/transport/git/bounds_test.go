package git_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cloister-os/cloister/auth/guard/guardtest"
	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/connect/connecttest"
	"github.com/cloister-os/cloister/graph/connect/transport/git"
	"github.com/cloister-os/cloister/store"
)

// TestARepositoryNeverLeadsToAnother builds folders, as somebody could who may
// write to one that is a source, that lead to a repository which is none.
func TestARepositoryNeverLeadsToAnother(t *testing.T) {
	private := newWork(t)
	private.write("secret.txt", "1")
	sha := private.commit("The planted secret")
	other := filepath.Join(private.dir, ".git")
	// evil is a repository of its own, to be led astray.
	evil := func(t *testing.T) *work {
		w := newWork(t)
		w.write("a.txt", "1")
		w.commit("mine")
		w.git("update-ref", "refs/heads/main", "HEAD")
		return w
	}
	link := func(t *testing.T, target string, parts ...string) {
		path := filepath.Join(parts...)
		must(t, os.RemoveAll(path))
		must(t, os.Symlink(target, path))
	}
	cases := map[string]func(t *testing.T) string{
		"a .git file": func(t *testing.T) string {
			dir := t.TempDir()
			must(t, os.WriteFile(filepath.Join(dir, ".git"), []byte("gitdir: "+other+"\n"), 0o644))
			return dir
		},
		"a .git file by way of commondir": func(t *testing.T) string {
			dir := t.TempDir()
			must(t, os.MkdirAll(filepath.Join(dir, "meta"), 0o755))
			must(t, os.WriteFile(filepath.Join(dir, ".git"), []byte("gitdir: meta\n"), 0o644))
			must(t, os.WriteFile(filepath.Join(dir, "meta", "commondir"), []byte(other+"\n"), 0o644))
			must(t, os.WriteFile(filepath.Join(dir, "meta", "gitdir"), []byte(filepath.Join(dir, ".git")+"\n"), 0o644))
			return dir
		},
		"a .git link": func(t *testing.T) string {
			dir := t.TempDir()
			must(t, os.Symlink(other, filepath.Join(dir, ".git")))
			return dir
		},
		"linked objects and references": func(t *testing.T) string {
			w := evil(t)
			link(t, filepath.Join(other, "objects"), w.dir, ".git", "objects")
			link(t, filepath.Join(other, "refs"), w.dir, ".git", "refs")
			return w.dir
		},
		"linked objects and a reference to a known name": func(t *testing.T) string {
			w := evil(t)
			link(t, filepath.Join(other, "objects"), w.dir, ".git", "objects")
			must(t, os.WriteFile(filepath.Join(w.dir, ".git", "refs", "heads", "main"), []byte(sha+"\n"), 0o644))
			return w.dir
		},
		"borrowed objects": func(t *testing.T) string {
			w := evil(t)
			must(t, os.WriteFile(filepath.Join(w.dir, ".git", "objects", "info", "alternates"), []byte(filepath.Join(other, "objects")+"\n"), 0o644))
			must(t, os.WriteFile(filepath.Join(w.dir, ".git", "refs", "heads", "main"), []byte(sha+"\n"), 0o644))
			return w.dir
		},
	}
	for name, lead := range cases {
		t.Run(name, func(t *testing.T) {
			b := connecttest.Open(t, nil, git.New())
			_, err := b.Service.Add(t.Context(), guardtest.Admin(), graph.Source{Name: "code", Kind: "git", Path: lead(t)})
			if err == nil {
				_, err = b.Wait(t.Context(), guardtest.Admin(), "code")
			}
			if err != nil && strings.Contains(err.Error(), "planted") {
				t.Errorf("the error tells: %v", err)
			}
			for _, stream := range []string{graph.StreamCommit, graph.StreamPerson, graph.StreamTag} {
				for _, native := range b.Natives(store.Local, "code", stream) {
					if native == sha {
						t.Error("the commit of another repository was read")
					}
				}
			}
		})
	}
}

// TestASubmoduleIsReadWhereItsRepositoryNamesIt is what the pointers are for.
func TestASubmoduleIsReadWhereItsRepositoryNamesIt(t *testing.T) {
	part := newWork(t)
	part.write("a.txt", "1")
	c1 := part.commit("one")
	whole := newWork(t)
	whole.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", part.dir, "part")
	b := connecttest.Open(t, nil, git.New())
	b.Add("git", "part", filepath.Join(whole.dir, "part"))
	equal(t, "submodule", b.Natives(store.Local, "part", graph.StreamCommit), []string{c1})
}

// TestAPipeHoldsUpNoSync plants pipes, from which a reader would wait for ever.
func TestAPipeHoldsUpNoSync(t *testing.T) {
	for _, name := range []string{".git/HEAD", ".git/config", ".git/packed-refs", ".git/refs/heads/main", ".git/shallow", ".git/objects/info/alternates", ".git"} {
		t.Run(strings.ReplaceAll(name, "/", " "), func(t *testing.T) {
			w := newWork(t)
			w.write("a.txt", "1")
			w.commit("one")
			path := filepath.Join(w.dir, name)
			must(t, os.RemoveAll(path))
			must(t, syscall.Mkfifo(path, 0o644))
			b := connecttest.Open(t, nil, git.New())
			if _, err := b.Service.Add(t.Context(), guardtest.Admin(), graph.Source{Name: "code", Kind: "git", Path: w.dir}); err == nil {
				if _, err := b.Wait(t.Context(), guardtest.Admin(), "code"); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
