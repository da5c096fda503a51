package seal

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/sumdb/note"
)

func openAt(t *testing.T, dir string) *Keys {
	t.Helper()
	k, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKeysStayTheSameOverARestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "seal")
	a := openAt(t, dir)
	caA, err := a.CA()
	if err != nil {
		t.Fatal(err)
	}
	b := openAt(t, dir)
	caB, err := b.CA()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.Storage(), b.Storage()) || a.LogVerifierKey() != b.LogVerifierKey() || caA.Fingerprint() != caB.Fingerprint() {
		t.Error("a key changed over a restart")
	}
	other := openAt(t, filepath.Join(t.TempDir(), "seal"))
	if bytes.Equal(a.Storage(), other.Storage()) || a.LogVerifierKey() == other.LogVerifierKey() || a.LogSigner().Name() == other.LogSigner().Name() {
		t.Error("two installations share a key")
	}
	if bytes.Equal(a.Storage(), a.derive("other/v1", nil)) {
		t.Error("two purposes share a key")
	}
	info, err := os.Stat(filepath.Join(dir, rootFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
}

func TestARootKeyThatOthersMayReadIsRefused(t *testing.T) {
	for _, mode := range []os.FileMode{0o640, 0o604, 0o644, 0o620} {
		dir := t.TempDir()
		openAt(t, dir)
		if err := os.Chmod(filepath.Join(dir, rootFile), mode); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir); !errors.Is(err, ErrSeal) || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
}

func TestALostOrDamagedRootKeyIsNeverReplaced(t *testing.T) {
	dir := t.TempDir()
	openAt(t, dir)
	path := filepath.Join(dir, rootFile)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"cut": good[:len(good)-10], "empty": {}, "other": bytes.Replace(good, good[len(rootPrefix):len(rootPrefix)+4], []byte("AAAA"), 1)} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir); !errors.Is(err, ErrSeal) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); !errors.Is(err, ErrSeal) || !strings.Contains(err.Error(), "restore") {
		t.Errorf("lost: %v", err)
	}
	if err := os.Symlink("/etc/passwd", path); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); !errors.Is(err, ErrSeal) {
		t.Errorf("symlink: %v", err)
	}
}

func TestAnyChangedByteOfASealedValueIsAnError(t *testing.T) {
	k := openAt(t, t.TempDir())
	plain := []byte("the canary sings")
	sealed, err := k.Seal([]byte("aad"), plain)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, []byte("canary")) {
		t.Error("the sealed value holds the plaintext")
	}
	if got, err := k.Open([]byte("aad"), sealed); err != nil || !bytes.Equal(got, plain) {
		t.Fatalf("%q %v", got, err)
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if _, err := k.Open([]byte("aad"), bad); !errors.Is(err, ErrSeal) {
			t.Errorf("byte %d changed: %v", i, err)
		}
		if _, err := k.Open([]byte("aad"), sealed[:i]); !errors.Is(err, ErrSeal) {
			t.Errorf("cut at %d: %v", i, err)
		}
	}
	if _, err := k.Open([]byte("other"), sealed); !errors.Is(err, ErrSeal) {
		t.Errorf("other additional data: %v", err)
	}
	again, err := k.Seal([]byte("aad"), plain)
	if err != nil || bytes.Equal(again, sealed) {
		t.Errorf("sealing twice gave the same bytes (%v)", err)
	}
}

func TestSealedFilesCannotBeSwapped(t *testing.T) {
	dir := t.TempDir()
	k := openAt(t, dir)
	if _, err := k.CA(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, caFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, logFile), b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); !errors.Is(err, ErrSeal) {
		t.Errorf("%v", err)
	}
}

func TestACertificateOfAnotherCAIsRefused(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	for _, d := range []string{dir, other} {
		if _, err := openAt(t, d).CA(); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(filepath.Join(other, caCert))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, caCert), b, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := openAt(t, dir).CA(); !errors.Is(err, ErrSeal) {
		t.Errorf("%v", err)
	}
}

func TestTheLogKeySigns(t *testing.T) {
	k := openAt(t, t.TempDir())
	verifier, err := note.NewVerifier(k.LogVerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	signed, err := note.Sign(&note.Note{Text: "hello\n"}, k.LogSigner())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := note.Open(signed, note.VerifierList(verifier)); err != nil {
		t.Error(err)
	}
}

// TestAHandshake connects with every name the certificate is for, and one that it
// is not for.
func TestAHandshake(t *testing.T) {
	k := openAt(t, t.TempDir())
	ca, err := k.CA()
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := ca.ServerTLS([]string{"Cloister.Example.COM."}, []net.IP{net.IPv4(10, 1, 2, 3)})
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.PEM())
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for name, good := range map[string]bool{
		"localhost": true, "127.0.0.1": true, "::1": true, host: true, "cloister.example.com": true, "10.1.2.3": true, "example.com": false, "10.1.2.4": false,
	} {
		client, server := net.Pipe()
		go func() { _ = tls.Server(server, cfg).Handshake() }()
		err := tls.Client(client, &tls.Config{RootCAs: roots, ServerName: name}).Handshake()
		if (err == nil) != good {
			t.Errorf("%s: %v", name, err)
		}
		_, _ = client.Close(), server.Close()
	}
}

func TestANodeCertificateIsRenewedAtHalfItsLife(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ca, err := openAt(t, dir).CA()
		if err != nil {
			t.Fatal(err)
		}
		cfg, err := ca.ServerTLS(nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		get := func() *x509.Certificate {
			c, err := cfg.GetCertificate(nil)
			if err != nil {
				t.Fatal(err)
			}
			return c.Leaf
		}
		first := get()
		if life := time.Until(first.NotAfter); life > nodeLife || life < nodeLife-time.Minute {
			t.Errorf("it lives %v", life)
		}
		time.Sleep(nodeLife/2 - time.Second)
		if !get().Equal(first) {
			t.Error("renewed before half its life")
		}
		time.Sleep(time.Second)
		second := get()
		if second.Equal(first) {
			t.Error("not renewed at half its life")
		}
		if err := second.CheckSignatureFrom(ca.Certificate()); err != nil {
			t.Error(err)
		}
	})
}

func TestTheFingerprintIsWhatBrowsersShow(t *testing.T) {
	ca, err := openAt(t, t.TempDir()).CA()
	if err != nil {
		t.Fatal(err)
	}
	if f := ca.Fingerprint(); len(f) != 32*3-1 || strings.Count(f, ":") != 31 || f != strings.ToUpper(f) {
		t.Errorf("%s", f)
	}
	if !ca.Certificate().IsCA || ca.Certificate().NotAfter.Before(time.Now().AddDate(9, 11, 0)) {
		t.Error("not a CA for ten years")
	}
}
