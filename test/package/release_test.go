package pkg

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cloister-os/cloister/test/medium"
)

// TestTheReleaseStartsOnOldSystems reads what the released program asks of a
// system: no newer symbol than glibc 2.28 has, which RHEL 8 carries, no libstdc++,
// and nothing that the RPM does not require.
func TestTheReleaseStartsOnOldSystems(t *testing.T) {
	path := filepath.Join(medium.Build(t), "release", "cloister")
	f, err := elf.Open(path)
	if os.IsNotExist(err) {
		t.Skip("there is no release: run make release, which compiles the engine with the pinned toolchain")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	symbols, err := f.ImportedSymbols()
	if err != nil || len(symbols) < 50 {
		t.Fatalf("the program imports %d symbols, so this proves nothing (%v)", len(symbols), err)
	}
	for _, s := range symbols {
		if version, ok := strings.CutPrefix(s.Version, "GLIBC_"); ok && newer(t, version, 2, 28) {
			t.Errorf("%s is from glibc %s", s.Name, version)
		}
	}
	libraries, err := f.ImportedLibraries()
	if err != nil {
		t.Fatal(err)
	}
	spec, err := os.ReadFile("../../packaging/nfpm/nfpm.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range libraries {
		switch {
		case strings.Contains(l, "stdc++") || strings.Contains(l, "gcc_s"):
			t.Errorf("the program links %s", l)
		case !strings.HasPrefix(l, "ld-linux") && !strings.Contains(string(spec), l+"("):
			t.Errorf("the program links %s, which the RPM does not require", l)
		}
	}
	for line := range strings.Lines(string(spec)) {
		if name, _, ok := strings.Cut(strings.TrimLeft(line, " -\""), "("); ok && strings.Contains(name, ".so.") && !slices.Contains(libraries, name) {
			t.Errorf("the RPM requires %s, which the program does not link", name)
		}
	}
}

// newer reports whether a version is above MAJOR.MINOR.
func newer(t *testing.T, version string, major, minor int) bool {
	t.Helper()
	parts := strings.Split(version, ".")
	a, err1 := strconv.Atoi(parts[0])
	b, err2 := strconv.Atoi(parts[min(1, len(parts)-1)])
	if err1 != nil || err2 != nil {
		t.Fatalf("a version of glibc is %q", version)
	}
	return a > major || a == major && b > minor
}

// TestTheSameInputsMakeTheSamePackage packs twice, in folders with other names.
func TestTheSameInputsMakeTheSamePackage(t *testing.T) {
	one, two := medium.Pack(t, "0.1.0"), medium.PackTo(t, "0.1.0", filepath.Join(t.TempDir(), "another"))
	for _, pair := range [][2]string{{one.RPM, two.RPM}, {one.DEB, two.DEB}} {
		a, err1 := os.ReadFile(pair[0])
		b, err2 := os.ReadFile(pair[1])
		if err1 != nil || err2 != nil || !bytes.Equal(a, b) {
			t.Errorf("%s was made twice, and differs (%v, %v)", filepath.Base(pair[0]), err1, err2)
		}
		t.Logf("%s: %.1f MB", filepath.Base(pair[0]), float64(len(a))/1e6)
	}
}

// TestASignedMediumNamesItsKey signs the RPM and the list of checksums with a key
// made for the test, and has rpm and gpg verify them with what is on the medium.
func TestASignedMediumNamesItsKey(t *testing.T) {
	for _, tool := range []string{"gpg", "rpmkeys"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("signing is tried with ", tool)
		}
	}
	dir := t.TempDir()
	home := filepath.Join(dir, "gpg")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run() })
	gpg := func(home string, args ...string) string {
		t.Helper()
		return tool(t, "gpg", append([]string{"--homedir", home, "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""}, args...)...)
	}
	gpg(home, "--quick-generate-key", "Release <release@cloister.example>", "rsa2048", "sign", "never")
	secret := filepath.Join(dir, "secret.asc")
	if err := os.WriteFile(secret, []byte(gpg(home, "--armor", "--export-secret-keys")), 0o600); err != nil {
		t.Fatal(err)
	}
	stick := medium.Signed(t, secret)
	other := filepath.Join(dir, "operator")
	if err := os.Mkdir(other, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = exec.Command("gpgconf", "--homedir", other, "--kill", "all").Run() })
	gpg(other, "--import", filepath.Join(stick, "KEY.asc"))
	gpg(other, "--verify", filepath.Join(stick, "SHA256SUMS.asc"), filepath.Join(stick, "SHA256SUMS"))
	db := "--dbpath=" + filepath.Join(dir, "rpmdb")
	tool(t, "rpmkeys", db, "--import", filepath.Join(stick, "KEY.asc"))
	rpm := medium.Find(t, stick, "*.rpm")
	if out := tool(t, "rpmkeys", db, "--checksig", "--verbose", rpm); !strings.Contains(out, "Signature") || strings.Contains(out, "NOKEY") {
		t.Errorf("the RPM is not signed with the medium's key: %s", out)
	}
	changeByte(t, filepath.Join(stick, "SHA256SUMS"))
	if out, err := exec.Command("gpg", "--homedir", other, "--batch", "--verify", filepath.Join(stick, "SHA256SUMS.asc"), filepath.Join(stick, "SHA256SUMS")).CombinedOutput(); err == nil {
		t.Errorf("a changed list of checksums verifies: %s", out)
	}
}

// tool runs a program and returns what it prints.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	var errs bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(fmt.Errorf("%s %s: %w: %s%s", name, strings.Join(args, " "), err, out, errs.String()))
	}
	return string(out)
}
