package seal

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// A node that waits for shares must be reached over TLS, and all its keys are
// sealed. So it keeps one certificate with its key in clear, which it uses for
// nothing else: it proves no membership, so it is no use against other nodes, and
// who steals it still needs a place in the network between a holder and the node.
const (
	frontFile = "front.pem"
	frontLife = 397 * 24 * time.Hour // it is made anew at each start
)

// KeepFront makes the certificate for the time when the node waits for shares.
func (k *Keys) KeepFront(ca *CA, id Identity) error {
	id.Cluster, id.Node = "", ""
	cert, err := ca.issue(id, time.Now(), frontLife)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSeal, err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSeal, err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
	for _, der := range cert.Certificate {
		text = append(text, encodePEM(der)...)
	}
	return replace(k.dir, frontFile, text, 0o600)
}

// Front is the certificate that KeepFront made.
func (l *Locked) Front() (*tls.Certificate, error) {
	path := filepath.Join(l.dir, frontFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s is missing, and shares can only be taken over TLS: put it back from its copy", ErrSeal, path)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSeal, err)
	}
	cert, err := tls.X509KeyPair(text, text)
	if err != nil {
		return nil, fmt.Errorf("%w: %s is damaged: put it back from its copy", ErrSeal, path)
	}
	return &cert, nil
}
