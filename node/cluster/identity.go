package cluster

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/cloister-os/cloister/auth/seal"
)

// serverTLS is this node's side of connections that others open. Who has no
// certificate gets through the handshake, and no further unless it joins: only
// so can a refusal be a sentence.
func (p *Port) serverTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, ClientAuth: tls.RequestClientCert, SessionTicketsDisabled: true,
		NextProtos:     []string{"cloister-raft/1", "cloister-store/1", HTTPProtocol, JoinProtocol},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return p.cfg.Certificate() },
	}
}

// clientTLS is this node's side of connections that it opens. The other end's
// name is its node's, not its host's, so the chain is checked here and not by
// the library.
func (p *Port) clientTLS(node, protocol string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{protocol}, SessionTicketsDisabled: true,
		InsecureSkipVerify:   true, // VerifyConnection does more
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return p.cfg.Certificate() },
		VerifyConnection: func(s tls.ConnectionState) error {
			peer, err := p.identify(s.PeerCertificates)
			if err != nil {
				return err
			}
			if peer.Node != node {
				return fmt.Errorf("%w: at that address is node %s, not %s; say where %s is with: cloister node readdress %s HOST:PORT",
					ErrRefused, peer.Node, node, node, node)
			}
			return nil
		},
	}
}

// identify verifies a chain and says which node it is of, or why it is refused.
func (p *Port) identify(chain []*x509.Certificate) (seal.Identity, error) {
	if len(chain) == 0 {
		return seal.Identity{}, fmt.Errorf("%w: the other side showed no certificate; a node joins with: cloister node join", ErrRefused)
	}
	id, err := verify(chain[0], p.roots, p.cfg.Cluster, p.cfg.Now())
	if err != nil {
		return seal.Identity{}, err
	}
	if id.Node == p.cfg.Node {
		return seal.Identity{}, fmt.Errorf("%w: two nodes are called %s; stop one of them, and let it join under another name", ErrRefused, id.Node)
	}
	return id, p.cfg.Admit(id)
}

// verify checks that a certificate is of the cluster and in force.
func verify(leaf *x509.Certificate, roots *x509.CertPool, cluster string, now time.Time) (seal.Identity, error) {
	id, ok := seal.Member(leaf)
	if !ok {
		return id, fmt.Errorf("%w: that is not a node's certificate", ErrRefused)
	}
	if id.Cluster != cluster {
		return id, fmt.Errorf("%w: node %s is of another cluster (%s, and this is %s); check the addresses, or let it join this one with an empty data folder",
			ErrRefused, id.Node, short(id.Cluster), short(cluster))
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	var invalid x509.CertificateInvalidError
	switch {
	case err == nil:
		return id, nil
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return id, fmt.Errorf("%w: the certificate of node %s is for %s to %s, and here it is %s; set the clocks of both machines right",
			ErrRefused, id.Node, stamp(leaf.NotBefore), stamp(leaf.NotAfter), stamp(now))
	}
	return id, fmt.Errorf("%w: the certificate of node %s is not of this cluster's authority; let it join with an empty data folder", ErrRefused, id.Node)
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// short is the beginning of a cluster's id, for people.
func short(id string) string {
	if len(id) > 8 {
		return id[:8]
	}
	return id
}
