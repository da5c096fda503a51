// Package medium makes what an operator carries to the machines: packages of the
// program as it is, and the folder that goes on the stick.
//
// It promises the same scripts that make the released packages, run over the
// binaries that make has built; with CLOISTER_MEDIUM, the medium that make media
// has made is taken as it is. It imports nothing of Cloister but test/machine, to
// know where that is.
package medium

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloister-os/cloister/test/machine"
)

// Package is one version's RPM and DEB.
type Package struct {
	Version  string
	RPM, DEB string // paths
}

// Build is the folder of what make has built.
func Build(t testing.TB) string {
	t.Helper()
	dir, err := machine.Build()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// Binaries is the folder of the binaries to pack: the release's where the medium
// was made of them, and else those that make build has built.
func Binaries(t testing.TB) string {
	t.Helper()
	dir := Build(t)
	if os.Getenv("CLOISTER_MEDIUM") != "" {
		dir = filepath.Join(dir, "release")
	}
	for _, name := range []string{"cloister", "cloister-verify"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Fatalf("%v: run make build", err)
		}
	}
	return dir
}

// Pack makes the packages of a version, or finds those that were made of the same
// binaries by the same scripts. Settings, as NAME=VALUE, are for the script.
func Pack(t testing.TB, version string, settings ...string) Package {
	t.Helper()
	base := filepath.Join(Build(t), machine.Folder)
	if err := os.MkdirAll(base, 0o755); err != nil {
		t.Fatal(err)
	}
	unlock, err := machine.Lock(filepath.Join(base, "packages.lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	kind := filepath.Join(base, "packages-"+version+"-") // one of a version is kept
	out := kind + inputs(t, settings)
	if _, err := os.Stat(out); err == nil {
		return named(version, out)
	}
	older, _ := filepath.Glob(kind + "*")
	for _, dir := range older {
		_ = os.RemoveAll(dir)
	}
	PackTo(t, version, out+".new", settings...)
	if err := os.Rename(out+".new", out); err != nil {
		t.Fatal(err)
	}
	return named(version, out)
}

// inputs is a hash of all that a package is made of.
func inputs(t testing.TB, settings []string) string {
	t.Helper()
	h := sha256.New()
	binaries := Binaries(t)
	files := []string{filepath.Join(binaries, "cloister"), filepath.Join(binaries, "cloister-verify")}
	top := filepath.Dir(Build(t))
	for _, place := range []string{"packaging/linux", "packaging/nfpm", "packaging/pack.sh", "packaging/licences", "README.md", "LICENSE"} {
		err := filepath.WalkDir(filepath.Join(top, place), func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				files = append(files, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range settings {
		name, value, _ := strings.Cut(s, "=")
		fmt.Fprintln(h, name)
		files = append(files, value) // each setting names a file
	}
	for _, path := range files {
		f, err := os.Open(path)
		if err == nil {
			_, err = io.Copy(h, f)
			f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:6])
}

// PackTo makes the packages of a version in a folder.
func PackTo(t testing.TB, version, out string, settings ...string) Package {
	t.Helper()
	script(t, "pack.sh", settings, Binaries(t), version, out)
	p := named(version, out)
	for _, f := range []string{p.RPM, p.DEB} {
		if _, err := os.Stat(f); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func named(version, dir string) Package {
	return Package{
		Version: version, RPM: filepath.Join(dir, "cloister-"+version+"-1.x86_64.rpm"), DEB: filepath.Join(dir, "cloister_"+version+"-1_amd64.deb"),
	}
}

// Starter is the starter pack, "" where there is none.
func Starter(t testing.TB) string {
	t.Helper()
	pack := filepath.Join(Build(t), "packs", "starter.pack")
	if _, err := os.Stat(pack); err != nil {
		return ""
	}
	return pack
}

// New makes a medium with the packages of one version, or takes the one that
// CLOISTER_MEDIUM names. It skips the test where there is no starter pack.
func New(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv("CLOISTER_MEDIUM"); dir != "" {
		return filepath.Join(Build(t), "..", dir)
	}
	starter := Starter(t)
	if starter == "" {
		t.Skip("there is no starter pack: run make starter")
	}
	return write(t, starter)
}

// Signed makes a medium that a secret key signs, with a few bytes for a pack.
func Signed(t testing.TB, secret string) string {
	t.Helper()
	pack := filepath.Join(t.TempDir(), "starter.pack")
	if err := os.WriteFile(pack, []byte("no pack"), 0o644); err != nil {
		t.Fatal(err)
	}
	return write(t, pack, "SIGN="+secret)
}

// write makes a medium of the binaries that there are.
func write(t testing.TB, pack string, settings ...string) string {
	t.Helper()
	dir := t.TempDir()
	verifiers, out := filepath.Join(dir, "verifiers"), filepath.Join(dir, "medium")
	var p Package
	if len(settings) == 0 {
		p = Pack(t, "0.1.0")
	} else {
		p = PackTo(t, "0.1.0", filepath.Join(dir, "packages"), settings...)
	}
	packages := filepath.Dir(p.RPM)
	if err := os.Mkdir(verifiers, 0o755); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(Binaries(t), "cloister-verify"))
	if err == nil {
		err = os.WriteFile(filepath.Join(verifiers, "cloister-verify-linux-amd64"), b, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	script(t, "media.sh", settings, out, packages, pack, verifiers)
	return out
}

// script runs one of packaging's scripts where make runs it.
func script(t testing.TB, name string, settings []string, args ...string) {
	t.Helper()
	top := filepath.Dir(Build(t))
	cmd := exec.Command(filepath.Join(top, "packaging", name), args...)
	cmd.Dir = top
	cmd.Env = append(os.Environ(), settings...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", name, err, strings.TrimSpace(string(out)))
	}
}

// Find is the one file of the medium that a pattern names.
func Find(t testing.TB, dir, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(found) != 1 {
		t.Fatal(fmt.Errorf("%s holds %d files %s (%v)", dir, len(found), pattern, err))
	}
	return found[0]
}
