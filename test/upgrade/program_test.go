package upgrade

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// root is the repository.
func root(t testing.TB) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// today builds the test node of the working tree.
func today(t testing.TB) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "kvnode")
	build(t, root(t), binary)
	return binary
}

// commitOf is the last commit of a format.
func commitOf(t testing.TB, format int) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("format-%d.commit", format))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// needs skips the test in a clone without the commit.
func needs(t testing.TB, commit string, format int) {
	t.Helper()
	if exec.Command("git", "-C", root(t), "cat-file", "-e", commit+"^{commit}").Run() != nil {
		t.Skipf("this clone has no commit %s, from which the program of format %d is built: fetch the whole history", commit, format)
	}
}

// released builds the test node as it was at the last commit of a format. What was
// built stays in build/upgrade, under the commit's name.
func released(t testing.TB, format int) string {
	t.Helper()
	commit := commitOf(t, format)
	dir := filepath.Join(root(t), "build", "upgrade", commit)
	binary := filepath.Join(dir, "kvnode")
	if _, err := os.Stat(binary); err == nil {
		return binary
	}
	needs(t, commit, format)
	source := filepath.Join(dir, "source")
	if err := errors.Join(os.RemoveAll(source), os.MkdirAll(source, 0o755)); err != nil {
		t.Fatal(err)
	}
	takeOut(t, commit, source)
	build(t, source, binary+".new")
	if err := errors.Join(os.Rename(binary+".new", binary), os.RemoveAll(source)); err != nil {
		t.Fatal(err)
	}
	return binary
}

func build(t testing.TB, dir, binary string) {
	t.Helper()
	cmd := exec.Command("go", "build", "-o", binary, "./test/kvnode")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the test node in %s: %v\n%s", dir, err, out)
	}
}

// takeOut writes the files of a commit that the test node is made of.
func takeOut(t testing.TB, commit, to string) {
	t.Helper()
	cmd := exec.Command("git", "-C", root(t), "archive", commit, "go.mod", "go.sum", "store", "auth", "node", "test/kvnode")
	var problem strings.Builder
	cmd.Stderr = &problem
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	err = unpack(tar.NewReader(out), to)
	_, drained := io.Copy(io.Discard, out)
	if err = errors.Join(err, drained, cmd.Wait()); err != nil {
		t.Fatalf("take commit %s out of the repository: %v %s", commit, err, problem.String())
	}
}

func unpack(r *tar.Reader, to string) error {
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		path := filepath.Join(to, filepath.Clean("/"+h.Name))
		switch h.Typeflag {
		case tar.TypeDir:
			err = os.MkdirAll(path, 0o755)
		case tar.TypeReg:
			var b []byte
			if b, err = io.ReadAll(r); err == nil {
				err = os.WriteFile(path, b, 0o644)
			}
		}
		if err != nil {
			return err
		}
	}
}
