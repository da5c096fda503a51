package seal

import (
	"crypto/tls"
	"crypto/x509"
	"net"
)

func open(dir string) (*Keys, error) { return nil, ErrSeal }

func (k *Keys) derive(purpose string) []byte { return nil }

// Seal encrypts and authenticates plain, bound to aad.
func (k *Keys) Seal(aad, plain []byte) ([]byte, error) { return nil, ErrSeal }

// Open undoes Seal; any change to sealed or aad is an error.
func (k *Keys) Open(aad, sealed []byte) ([]byte, error) { return nil, ErrSeal }

// CA is the internal certificate authority.
type CA struct{}

// CA opens the internal certificate authority, creating it at the first call.
func (k *Keys) CA() (*CA, error) { return nil, ErrSeal }

// Certificate is the CA's own certificate.
func (c *CA) Certificate() *x509.Certificate { return nil }

// PEM is the CA's own certificate, for clients to trust.
func (c *CA) PEM() []byte { return nil }

// Fingerprint is the SHA-256 of the CA's certificate as colon-separated hex.
func (c *CA) Fingerprint() string { return "" }

// ServerTLS returns a configuration whose certificate names the given hosts and
// addresses beside localhost and this host's name; it lasts 24 hours and is
// renewed at half its life.
func (c *CA) ServerTLS(names []string, ips []net.IP) (*tls.Config, error) { return nil, ErrSeal }
