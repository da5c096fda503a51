package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/cloister-os/cloister/store/sealed"
)

// testCluster is the id of every cluster of kvnodes.
const testCluster = "test"

// authority is the test's CA. Every kvnode holds its key and issues its own
// certificates, so a cluster starts without the product's exchange of tokens.
type authority struct {
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	pool   *x509.CertPool
	secret []byte // of what is on disk
}

// openCA reads the CA from ca.pem and ca.key, or makes it. The whole is one file
// at first, so that two nodes which start at once agree.
func openCA(dir string) (*authority, error) {
	path := filepath.Join(dir, "ca.both")
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		if err := makeCA(dir, path); err != nil {
			return nil, err
		}
		b, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, err
	}
	certBlock, rest := pem.Decode(b)
	keyBlock, _ := pem.Decode(rest)
	if certBlock == nil || keyBlock == nil {
		return nil, fmt.Errorf("%s does not hold a certificate and a key", path)
	}
	a := &authority{pool: x509.NewCertPool()}
	if a.cert, err = x509.ParseCertificate(certBlock.Bytes); err != nil {
		return nil, err
	}
	if a.key, err = x509.ParseECPrivateKey(keyBlock.Bytes); err != nil {
		return nil, err
	}
	a.pool.AddCert(a.cert)
	sum := sha256.Sum256(keyBlock.Bytes)
	a.secret = sum[:]
	return a, nil
}

func makeCA(dir, path string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "test CA"},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(10 * 365 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	both := append(public, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})...)
	tmp := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := os.WriteFile(tmp, both, 0o600); err != nil {
		return err
	}
	defer os.Remove(tmp)
	if err := os.Link(tmp, path); err != nil && !errors.Is(err, os.ErrExist) {
		return err // another node was first when it exists
	}
	return os.WriteFile(filepath.Join(dir, "ca.pem"), public, 0o644)
}

// issue makes a certificate for a node, good for a day in either direction so
// that no offset of a clock is about certificates.
func (a *authority) issue(id string, ips ...net.IP) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: id, SerialNumber: "0"},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames: []string{id, "localhost"}, IPAddresses: ips,
		URIs:        []*url.URL{{Scheme: "cloister", Host: testCluster, Path: "/node/" + id}},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// The authority is also the keyring of every kvnode: one key, of the CA's.
var _ sealed.Ring = (*authority)(nil)

// Active implements sealed.Ring.
func (a *authority) Active() (uint32, []byte) {
	key, _ := a.Key(1)
	return 1, key
}

// Key implements sealed.Ring.
func (a *authority) Key(id uint32) ([]byte, bool) {
	return a.secret, id == 1
}
