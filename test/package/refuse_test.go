package pkg

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/cloister-os/cloister/test/machine"
	"github.com/cloister-os/cloister/test/medium"
)

// TestAPackageThatCannotBeInstalled tries both kinds of package on a machine whose
// processor is shown without AVX2, and from a medium on which one byte changed: a
// sentence says why, and nothing is installed.
func TestAPackageThatCannotBeInstalled(t *testing.T) {
	if why := machine.Reason(); why != "" {
		t.Skip(why)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	dir := t.TempDir()
	made := medium.Pack(t, "0.1.0")
	for _, f := range []string{made.RPM, made.DEB} {
		spoil(t, f, filepath.Join(dir, "spoiled"+filepath.Ext(f)))
	}
	m := machine.NewLAN(t).New(t, "old", dir+":/media/spoiled", filepath.Dir(made.RPM)+":/media/stick")
	if err := m.Boot(ctx); err != nil {
		t.Fatal(err)
	}
	refused := func(word string, args ...string) {
		t.Helper()
		out, err := m.Run(ctx, args...)
		if err == nil || !strings.Contains(out, word) {
			t.Errorf("%s: %v, %q, wanted a sentence with %q", strings.Join(args, " "), err, out, word)
		}
		if out, err := m.Run(ctx, "sh", "-c", "ls -d /usr/bin/cloister* /etc/cloister /var/lib/cloister 2>/dev/null; rpm -q cloister | grep -v 'not installed'; true"); err != nil || out != "" {
			t.Errorf("after %s there is: %s %v", strings.Join(args, " "), out, err)
		}
	}
	refused("digest", "rpm", "-i", "--nodeps", "/media/spoiled/spoiled.rpm")
	refused("spoiled.deb", "dpkg", "-i", "/media/spoiled/spoiled.deb")

	// What a hypervisor that hides the feature would have the machine show.
	shown, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Write("/root/cpuinfo", regexp.MustCompile(`\bavx2\b`).ReplaceAllString(string(shown), "")); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Run(ctx, "mount", "--bind", "/root/cpuinfo", "/proc/cpuinfo"); err != nil {
		t.Fatal(err)
	}
	refused("this machine's processor lacks avx2", "rpm", "-i", "--nodeps", "/media/stick/"+filepath.Base(made.RPM))
	refused("this machine's processor lacks avx2", "dpkg", "-i", "/media/stick/"+filepath.Base(made.DEB))
	if _, err := m.Run(ctx, "umount", "/proc/cpuinfo"); err != nil {
		t.Fatal(err)
	}
	// The same packages go in once the processor is shown as it is.
	if _, err := m.Run(ctx, "dpkg", "-i", "/media/stick/"+filepath.Base(made.DEB)); err != nil {
		t.Error(err)
	}
}

// TestChecksumsFindAChangedByteInAnyFile changes one byte of each file of a medium.
func TestChecksumsFindAChangedByteInAnyFile(t *testing.T) {
	stick := medium.New(t)
	dir := filepath.Join(t.TempDir(), "stick")
	if out, err := exec.Command("cp", "-r", stick, dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := sums(dir); err != nil {
		t.Fatalf("an untouched medium: %v: %s", err, out)
	}
	files := 0
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && d.Name() != "SHA256SUMS" && d.Name() != "SHA256SUMS.asc" {
			files++
			changeByte(t, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	out, err := sums(dir)
	if found := strings.Count(out, ": FAILED"); err == nil || found != files || files < 5 {
		t.Errorf("%d of %d changed files were found (%v): %s", found, files, err, out)
	}
}

func sums(dir string) (string, error) {
	cmd := exec.Command("sha256sum", "-c", "SHA256SUMS")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// spoil copies a file and changes one byte of it.
func spoil(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	changeByte(t, to)
}

// changeByte changes the byte in the middle of a file.
func changeByte(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	one := make([]byte, 1)
	if err == nil {
		_, err = f.ReadAt(one, size/2)
	}
	if err == nil {
		one[0] ^= 1
		_, err = f.WriteAt(one, size/2)
	}
	if err != nil {
		t.Fatal(err)
	}
}
