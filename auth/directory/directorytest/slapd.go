// Package directorytest starts real directories for tests: OpenLDAP's slapd and
// Samba's Active Directory, each with a certificate of a CA of its own, on
// loopback, without systemd.
//
// It promises that a machine without them is told by Reason what to install. It
// may import nothing of Cloister.
package directorytest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The service account of both directories, and a password for everybody else.
const (
	Password    = "Passw0rd!x"
	servicePass = "s3rvice-Passw0rd"
)

// Server is a directory that runs until the test ends.
type Server struct {
	LDAPS, StartTLS      string // URLs
	CA                   []byte // PEM
	Base                 string
	BindDN, BindPassword string

	cmd *exec.Cmd
}

// Stop ends the server at once, as a failing machine would.
func (s *Server) Stop() {
	if s.cmd == nil {
		return
	}
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
	_ = s.cmd.Wait()
	s.cmd = nil
}

// Freeze makes the server take connections and answer nothing, until Thaw. It
// returns once none of its threads runs any more.
func (s *Server) Freeze() {
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGSTOP)
	var state syscall.WaitStatus
	for !state.Stopped() {
		if _, err := syscall.Wait4(s.cmd.Process.Pid, &state, syscall.WUNTRACED, nil); err != nil && err != syscall.EINTR {
			return
		}
	}
}

// Thaw undoes Freeze.
func (s *Server) Thaw() { _ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGCONT) }

// SlapdReason says why slapd cannot be started here, "" when it can.
func SlapdReason() string {
	if _, err := exec.LookPath("slapd"); err != nil {
		return "slapd is not installed: apt-get install slapd"
	}
	return ""
}

const slapdConf = `include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
include /etc/ldap/schema/inetorgperson.schema
pidfile %[1]s/pid
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload ppolicy
TLSCertificateFile %[1]s/cert.pem
TLSCertificateKeyFile %[1]s/key.pem
allow bind_anon_dn
sizelimit 2000
database mdb
maxsize 1073741824
suffix dc=example,dc=org
rootdn cn=service,dc=example,dc=org
rootpw %[2]s
directory %[1]s/db
index objectClass,uid,member,uniqueMember,memberUid,entryUUID eq
index cn eq,sub
overlay ppolicy
`

// Slapd is StartSlapd for a test, which it fails and with which it ends.
func Slapd(t testing.TB, ldif string) *Server {
	t.Helper()
	s, err := StartSlapd(t.TempDir(), ldif)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// StartSlapd starts OpenLDAP in a folder with what ldif says below
// dc=example,dc=org, which exists. "allow bind_anon_dn" is on: an empty password
// would succeed.
func StartSlapd(dir, ldif string) (*Server, error) {
	s := &Server{Base: "dc=example,dc=org", BindDN: "cn=service,dc=example,dc=org", BindPassword: servicePass}
	var err error
	if s.CA, err = certificates(dir, "localhost", net.IPv4(127, 0, 0, 1)); err != nil {
		return nil, err
	}
	err = errors.Join(
		write(dir, "slapd.conf", fmt.Sprintf(slapdConf, dir, servicePass)),
		write(dir, "data.ldif", "dn: dc=example,dc=org\nobjectClass: dcObject\nobjectClass: organization\ndc: example\no: Example\n\n"+ldif),
		os.Mkdir(filepath.Join(dir, "db"), 0o700))
	if err != nil {
		return nil, err
	}
	if out, err := exec.Command("slapadd", "-q", "-f", filepath.Join(dir, "slapd.conf"), "-l", filepath.Join(dir, "data.ldif")).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("slapadd: %w: %s", err, out)
	}
	plain, err := freePort()
	if err != nil {
		return nil, err
	}
	secure, err := freePort()
	if err != nil {
		return nil, err
	}
	s.StartTLS, s.LDAPS = "ldap://"+plain, "ldaps://"+secure
	if err := s.run(dir, exec.Command("slapd", "-f", filepath.Join(dir, "slapd.conf"), "-h", s.StartTLS+" "+s.LDAPS, "-d", "0")); err != nil {
		return nil, err
	}
	if err := waitPort(secure); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

// run starts the server in a process group of its own.
func (s *Server) run(dir string, cmd *exec.Cmd) error {
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.cmd = cmd
	return nil
}

// PID is the server's process, 0 when it was stopped.
func (s *Server) PID() int {
	if s.cmd == nil {
		return 0
	}
	return s.cmd.Process.Pid
}

func write(dir, name, text string) error {
	return os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600)
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func waitPort(address string) error {
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", address); err == nil {
			return c.Close()
		} else if time.Now().After(end) {
			return fmt.Errorf("the directory does not listen: %w", err)
		}
	}
}

// certificates writes cert.pem and key.pem for the names and returns their CA.
func certificates(dir, name string, ips ...net.IP) ([]byte, error) {
	root, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "directory CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &root.PublicKey, root)
	if err != nil {
		return nil, err
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		DNSNames: []string{name}, IPAddresses: ips, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, root)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	err = errors.Join(
		write(dir, "cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))),
		write(dir, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))))
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}), err
}

// Entry is one entry of LDIF.
func Entry(dn string, lines ...string) string {
	return "dn: " + dn + "\n" + strings.Join(lines, "\n") + "\n\n"
}

// PersonEntry is somebody below the base, with Password.
func PersonEntry(uid string, more ...string) string {
	lines := append([]string{"objectClass: inetOrgPerson", "uid: " + uid, "cn: " + uid, "sn: x", "userPassword: " + Password}, more...)
	return Entry("uid="+escapeDN(uid)+",dc=example,dc=org", lines...)
}

// GroupEntry is a group of the entries.
func GroupEntry(cn string, members ...string) string {
	lines := []string{"objectClass: groupOfNames", "cn: " + cn}
	for _, m := range members {
		lines = append(lines, "member: "+m)
	}
	return Entry("cn="+escapeDN(cn)+",dc=example,dc=org", lines...)
}

func escapeDN(s string) string {
	return strings.NewReplacer(`\`, `\\`, ",", `\,`, "+", `\+`, `"`, `\"`, "#", `\#`, ";", `\;`, "<", `\<`, ">", `\>`, "=", `\=`).Replace(s)
}

// Authority is the certificate of a CA that signed nothing in use.
func Authority(t testing.TB) []byte {
	t.Helper()
	ca, err := certificates(t.TempDir(), "unused")
	if err != nil {
		t.Fatal(err)
	}
	return ca
}
