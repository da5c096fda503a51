package answer_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloister-os/cloister/auth/guard/guardtest"
	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/answer/measure"
	"github.com/cloister-os/cloister/graph/connect"
	"github.com/cloister-os/cloister/graph/connect/transport/files"
	"github.com/cloister-os/cloister/graph/connect/transport/git"
)

// repository makes a real git repository of a world's commits.
func repository(t testing.TB, commits []measure.Commit) string {
	t.Helper()
	dir := t.TempDir()
	run := func(c measure.Commit, args ...string) {
		t.Helper()
		name, mail, _ := strings.Cut(strings.TrimSuffix(c.Author, ">"), " <")
		cmd := exec.Command("git", append([]string{"-C", dir, "-c", "init.defaultBranch=main"}, args...)...)
		date := c.Time.Format(time.RFC3339)
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME="+name, "GIT_AUTHOR_EMAIL="+mail,
			"GIT_COMMITTER_NAME="+name, "GIT_COMMITTER_EMAIL="+mail, "GIT_AUTHOR_DATE="+date, "GIT_COMMITTER_DATE="+date)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	run(commits[0], "init")
	for i, c := range commits {
		for _, ch := range c.Changes {
			change(t, dir, i, ch)
		}
		run(c, "add", "-A")
		run(c, "commit", "-m", c.Subject)
		if c.Tag != "" {
			run(c, "tag", "-a", "-m", "Release "+c.Tag, c.Tag)
		}
	}
	return dir
}

func change(t testing.TB, dir string, n int, ch measure.Change) {
	t.Helper()
	path := filepath.Join(dir, ch.Path)
	var err error
	switch ch.Kind {
	case graph.Renames:
		err = os.Rename(filepath.Join(dir, ch.Old), path)
	case graph.Deletes:
		err = os.Remove(path)
	default:
		before, _ := os.ReadFile(path)
		if before == nil {
			for i := range 12 {
				before = fmt.Appendf(before, "line %d of %s\n", i, ch.Path)
			}
		}
		if err = os.MkdirAll(filepath.Dir(path), 0o755); err == nil {
			err = os.WriteFile(path, fmt.Appendf(before, "changed by commit %d\n", n), 0o644)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

func folder(t testing.TB, list []measure.File) string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range list {
		path := filepath.Join(dir, f.Path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(f.Body), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// connectWorld fills the rig through the real connectors.
func connectWorld(t testing.TB, r rig, w measure.World) {
	t.Helper()
	s, err := connect.New(connect.Config{Store: r.load.Store, Blobs: r.load.Blobs, Door: guardtest.Open(t, r.load.Store),
		Connectors: []connect.Connector{git.New(), files.New()}, Node: guardtest.Node(), Every: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	for _, src := range []graph.Source{
		{Name: measure.CodeSource, Kind: "git", Path: repository(t, w.Commits)},
		{Name: measure.DocsSource, Kind: "files", Path: folder(t, w.Files)},
	} {
		if _, err := s.Add(t.Context(), guardtest.Admin(), src); err != nil {
			t.Fatal(err)
		}
		p, err := s.Wait(t.Context(), guardtest.Admin(), src.Name)
		if err != nil || p.Error != "" {
			t.Fatal(err, p.Error)
		}
	}
}
