package seal

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// How long certificates live. A node's is renewed at half its life; it begins
// three hours early, for the clocks of those who check it.
const (
	caYears  = 10
	nodeLife = 24 * time.Hour
	headway  = 3 * time.Hour
)

// CA is the internal certificate authority. It is safe for concurrent use.
type CA struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

// CA opens the internal certificate authority, making it at the first call. Its
// key is sealed; its certificate is not secret, and must be of that key.
func (k *Keys) CA() (*CA, error) {
	der, err := k.sealedFile(caFile, newKeyDER)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParseECPrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("%w: the CA's key: %w", ErrSeal, err)
	}
	path := filepath.Join(k.dir, caCert)
	if _, err := os.Lstat(path); os.IsNotExist(err) {
		der, err := selfSigned(key, time.Now())
		if err != nil {
			return nil, fmt.Errorf("%w: make the CA's certificate: %w", ErrSeal, err)
		}
		if err := create(k.dir, caCert, encodePEM(der), 0o644); err != nil {
			return nil, err
		}
	}
	cert, err := readCert(path)
	if err != nil {
		return nil, err
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("%w: %s is not the certificate of this CA's key: restore it from its copy", ErrSeal, path)
	}
	return &CA{key: key, cert: cert}, nil
}

func newKeyDER() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return x509.MarshalECPrivateKey(key)
}

func selfSigned(key *ecdsa.PrivateKey, now time.Time) ([]byte, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	// The serial in the name tells the CAs of two installations apart in a
	// browser's list.
	name := pkix.Name{Organization: []string{"Cloister"}, CommonName: fmt.Sprintf("Cloister internal CA %x", serial.Bytes()[:4])}
	tmpl := &x509.Certificate{
		SerialNumber: serial, Subject: name, NotBefore: now.Add(-headway), NotAfter: now.AddDate(caYears, 0, 0),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
	}
	return x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
}

// newSerial is 16 random bytes, the first of which makes it positive and long.
func newSerial() (*big.Int, error) {
	b := make([]byte, 16)
	if _, err := rand.Read(b); err != nil {
		return nil, err
	}
	b[0] = b[0]&0x3f | 0x40
	return new(big.Int).SetBytes(b), nil
}

func encodePEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func readCert(path string) (*x509.Certificate, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSeal, err)
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("%w: %s holds no certificate: restore it from its copy", ErrSeal, path)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrSeal, path, err)
	}
	return cert, nil
}

// Certificate is the CA's own certificate.
func (c *CA) Certificate() *x509.Certificate { return c.cert }

// PEM is the CA's own certificate, for clients to trust.
func (c *CA) PEM() []byte { return encodePEM(c.cert.Raw) }

// Fingerprint is the SHA-256 of the CA's certificate as colon-separated hex, the
// way browsers and openssl show it.
func (c *CA) Fingerprint() string {
	sum := sha256.Sum256(c.cert.Raw)
	parts := make([]string, len(sum))
	for i, b := range sum {
		parts[i] = fmt.Sprintf("%02X", b)
	}
	return strings.Join(parts, ":")
}
