package machine

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// packages are what a machine's disk is made of, of the same Debian as this
// machine. Debian's rpm installs an RPM as it comes, with --nodeps: it proves the
// scriptlets, the files and what an upgrade does, and nothing of RHEL's own
// packages or of SELinux.
const packages = "systemd,systemd-sysv,dbus,rpm,iproute2"

// Folder is where the disks are kept below Build. Its name hides it from the go
// command, which walks all folders.
const Folder = "_machine"

// rootfs is the folder of a disk that nothing was installed on.
func rootfs(t testing.TB) string {
	t.Helper()
	dir, err := makeOnce()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// Build is the folder of what make has built, found from a folder below the
// project's own.
func Build() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir != "/" {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, "build"), nil
		}
		dir = filepath.Dir(dir)
	}
	return "", errors.New("this is not run from within the project")
}

// makeOnce makes the disk, or finds it: it is kept under build by the name of what
// it is made of.
func makeOnce() (string, error) {
	suite, err := codename()
	if err != nil {
		return "", err
	}
	build, err := Build()
	if err != nil {
		return "", err
	}
	base := filepath.Join(build, Folder)
	if err := os.MkdirAll(base, 0o755); err != nil {
		return "", err
	}
	unlock, err := Lock(filepath.Join(base, "lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	sum := sha256.Sum256([]byte(suite + " " + packages))
	dir := filepath.Join(base, suite+"-"+hex.EncodeToString(sum[:4]))
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	return dir, fetch(suite, dir)
}

// Lock keeps another process from making the same, until the returned function is
// called.
func Lock(file string) (func(), error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil
}

// codename is the name of this machine's Debian.
func codename() (string, error) {
	b, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(b)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "VERSION_CODENAME="); ok && name != "" {
			return name, nil
		}
	}
	return "", errors.New("this machine does not say which Debian it is")
}

// fetch makes the disk from where this machine has its own packages.
func fetch(suite, dir string) error {
	mirrors, err := sources(suite)
	if err != nil {
		return err
	}
	tmp := dir + ".new"
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	args := append([]string{"--quiet", "--variant=minbase", "--include=" + packages, "--format=directory", suite, tmp}, mirrors...)
	if out, err := exec.Command("mmdebstrap", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("mmdebstrap: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return os.Rename(tmp, dir)
}

// sources are the files that name this machine's mirrors of its own Debian.
func sources(suite string) ([]string, error) {
	var all, out []string
	for _, pattern := range []string{"/etc/apt/sources.list", "/etc/apt/sources.list.d/*.list", "/etc/apt/sources.list.d/*.sources"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	for _, f := range all {
		if b, err := os.ReadFile(f); err == nil && strings.Contains(string(b), suite) {
			out = append(out, f)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("apt has no source of %s on this machine", suite)
	}
	return out, nil
}
