package directorytest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// The domain that Samba serves, and where its data is inside the namespace. Its
// files name absolute paths, so they are always at the same place.
const (
	Realm   = "CLOISTER.TEST"
	sambaAt = "/mnt/dc"
)

// SambaReason says why Samba's domain controller cannot be started here, "" when
// it can.
func SambaReason() string {
	if os.Getuid() != 0 {
		return "a domain controller needs root"
	}
	for _, program := range []string{"samba", "samba-tool", "unshare", "ip", "tar"} {
		if _, err := exec.LookPath(program); err != nil {
			return program + " is not installed: apt-get install samba-ad-dc samba-ad-provision samba-dsdb-modules python3-samba winbind iproute2"
		}
	}
	return ""
}

// seed makes the people and groups that tests expect. The passwords are the same
// but for the service account's.
const seed = `set -e
samba-tool domain provision --realm=` + Realm + ` --domain=CLOISTER --adminpass='` + Password + `' --server-role=dc --use-rfc2307 --dns-backend=NONE \
  --host-ip=127.0.0.1 --targetdir=` + sambaAt + ` --option="interfaces=lo" --option="bind interfaces only=yes" --option="vfs objects=dfs_samba4 acl_xattr xattr_tdb"
S="-s ` + sambaAt + `/etc/smb.conf"
samba-tool user create service '` + servicePass + `' $S
for u in alice bob carol dave eve frank; do samba-tool user create $u '` + Password + `' $S; done
for g in inner middle outer others; do samba-tool group add $g $S; done
samba-tool group addmembers inner alice $S
samba-tool group addmembers middle inner $S
samba-tool group addmembers outer middle $S
samba-tool group addmembers others bob,frank $S
samba-tool user disable bob $S
samba-tool user setexpiry carol --days=0 $S
samba-tool user setpassword dave --newpassword='` + Password + `y' --must-change-at-next-login $S
samba-tool domain passwordsettings set --account-lockout-threshold=3 --account-lockout-duration=5 $S
`

// InNamespace runs the test binary again, for this test alone, in a network and a
// mount namespace of its own: a domain controller takes well-known ports and
// absolute paths. It returns true inside; the calling test ends when it is false.
func InNamespace(t *testing.T) bool {
	t.Helper()
	if os.Getenv("DIRECTORYTEST_INSIDE") == t.Name() {
		if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return true
	}
	cmd := exec.Command("unshare", "-n", "-m", os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v", "-test.count=1")
	cmd.Env = append(os.Environ(), "DIRECTORYTEST_INSIDE="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Fatalf("inside: %v\n%s", err, out)
	}
	if testing.Verbose() {
		t.Logf("inside:\n%s", out)
	}
	return false
}

// Samba starts a domain controller on the well-known ports of loopback, inside
// InNamespace. Its data is made once and kept in cache, a folder, by version.
func Samba(t *testing.T, cache string) *Server {
	t.Helper()
	must := func(out []byte, err error) {
		if err != nil {
			t.Helper()
			t.Fatalf("%v: %s", err, out)
		}
	}
	must(exec.Command("mount", "-t", "tmpfs", "tmpfs", "/mnt").CombinedOutput())
	must(exec.Command("mkdir", "-p", "/run/samba").CombinedOutput())
	must(exec.Command("mount", "-t", "tmpfs", "tmpfs", "/run/samba").CombinedOutput()) // a controller elsewhere is none of its business
	image := sambaImage(t, cache)
	unlock := lock(t, image+".lock") // tests of several packages want it at once
	if _, err := os.Stat(image); err != nil {
		must(exec.Command("sh", "-c", seed).CombinedOutput())
		must(exec.Command("tar", "-C", "/mnt", "--xattrs", "-cf", image+".part", "dc").CombinedOutput())
		if err := os.Rename(image+".part", image); err != nil {
			t.Fatal(err)
		}
	} else {
		must(exec.Command("tar", "-C", "/mnt", "--xattrs", "-xf", image).CombinedOutput())
	}
	unlock()
	dir := t.TempDir()
	name := "dc1." + strings.ToLower(Realm)
	s := &Server{
		LDAPS: "ldaps://127.0.0.1", StartTLS: "ldap://127.0.0.1", Base: "DC=cloister,DC=test",
		BindDN: "CN=service,CN=Users,DC=cloister,DC=test", BindPassword: servicePass,
	}
	var err error
	if s.CA, err = certificates(dir, name, net.IPv4(127, 0, 0, 1)); err != nil {
		t.Fatal(err)
	}
	err = s.run(dir, exec.Command("samba", "-i", "-M", "single", "-s", sambaAt+"/etc/smb.conf",
		"--option=server services=ldap kdc", "--option=dcerpc endpoint servers=",
		"--option=tls certfile="+filepath.Join(dir, "cert.pem"), "--option=tls keyfile="+filepath.Join(dir, "key.pem"), "--option=tls cafile="))
	if err == nil {
		t.Cleanup(s.Stop)
		err = waitPort("127.0.0.1:636")
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// lock waits until no other process holds the file.
func lock(t *testing.T, file string) (unlock func()) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o644)
	if err == nil {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() { _ = f.Close() }
}

// sambaImage is where the data of this version of Samba with this seed is kept.
func sambaImage(t *testing.T, cache string) string {
	t.Helper()
	version, err := exec.Command("samba", "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(append(version, seed...))
	if err := os.MkdirAll(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	abs, err := filepath.Abs(filepath.Join(cache, fmt.Sprintf("samba-%x.tar", sum[:6])))
	if err != nil {
		t.Fatal(err)
	}
	return abs
}

// SambaTool changes the domain beside the running controller, as its administrator
// would.
func SambaTool(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command("samba-tool", append(args, "-s", sambaAt+"/etc/smb.conf")...).CombinedOutput(); err != nil {
		t.Fatalf("samba-tool %v: %v: %s", args, err, out)
	}
}
