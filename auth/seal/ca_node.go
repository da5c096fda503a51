package seal

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Identity is what a node's certificate says.
type Identity struct {
	Cluster string // the cluster's id; "" = a certificate that proves no membership
	Node    string // the node's name in the cluster
	// Joined tells two nodes apart that had the same name one after the other:
	// when it joined, in milliseconds; 0 for who founded the cluster.
	Joined int64
	Names  []string // host names beside localhost and this host's own
	IPs    []net.IP // addresses beside 127.0.0.1 and ::1
}

const memberScheme = "cloister"

// uri is cloister://<cluster>/node/<node>.
func (i Identity) uri() *url.URL {
	return &url.URL{Scheme: memberScheme, Host: i.Cluster, Path: "/node/" + i.Node}
}

// Member reads from a certificate whom it says its holder is. It proves nothing
// before the certificate itself is verified.
func Member(cert *x509.Certificate) (Identity, bool) {
	for _, u := range cert.URIs {
		node, ok := strings.CutPrefix(u.Path, "/node/")
		if u.Scheme != memberScheme || u.Host == "" || !ok || node == "" {
			continue
		}
		joined, err := strconv.ParseInt(cert.Subject.SerialNumber, 10, 64)
		return Identity{Cluster: u.Host, Node: node, Joined: joined}, err == nil
	}
	return Identity{}, false
}

// NodeCert is a node's certificate, renewed as it is used: whoever asks gets one
// that has at least half its life before it, so a node that was off for a week
// has a good one before it dials or answers. It is safe for concurrent use.
type NodeCert struct {
	ca   *CA
	id   Identity
	life time.Duration
	now  func() time.Time

	mu      sync.Mutex // guards all below
	current *tls.Certificate
	issued  time.Time
	count   int
}

// NodeCert returns the certificate of a node. life is 24 hours when 0; now is
// time.Now when nil. Tests choose both.
func (c *CA) NodeCert(id Identity, life time.Duration, now func() time.Time) (*NodeCert, error) {
	if life <= 0 {
		life = nodeLife
	}
	if now == nil {
		now = time.Now
	}
	n := &NodeCert{ca: c, life: life, now: now, id: Identity{
		Cluster: id.Cluster, Node: id.Node, Joined: id.Joined,
		Names: []string{"localhost"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}}
	names := id.Names
	if host, err := os.Hostname(); err == nil && host != "" {
		names = append([]string{host}, names...)
	}
	for _, name := range names {
		name = strings.ToLower(strings.TrimSuffix(name, "."))
		if name != "" && !slices.Contains(n.id.Names, name) {
			n.id.Names = append(n.id.Names, name)
		}
	}
	for _, ip := range id.IPs {
		if !slices.ContainsFunc(n.id.IPs, ip.Equal) {
			n.id.IPs = append(n.id.IPs, ip)
		}
	}
	_, err := n.Get()
	return n, err
}

// Get returns the certificate in force.
func (n *NodeCert) Get() (*tls.Certificate, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.now()
	age := now.Sub(n.issued)
	if n.current != nil && age >= 0 && age < n.life/2 {
		return n.current, nil
	}
	cert, err := n.ca.issue(n.id, now, n.life)
	if err != nil {
		return nil, fmt.Errorf("renew the node's certificate: %w", err)
	}
	n.current, n.issued, n.count = cert, now, n.count+1
	return cert, nil
}

// Issued counts the certificates made so far.
func (n *NodeCert) Issued() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.count
}

// ServerTLS returns a configuration whose certificate is good for the names and
// addresses, and always for localhost, this host's name, 127.0.0.1 and ::1. It
// lasts 24 hours and is replaced, at a handshake, once half of that is over.
func (c *CA) ServerTLS(names []string, ips []net.IP) (*tls.Config, error) {
	n, err := c.NodeCert(Identity{Names: names, IPs: ips}, 0, nil)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS13,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return n.Get() },
	}, nil
}

// issue makes a key and a certificate for a node. The CA's certificate goes with
// it, so that whoever connects can compare its fingerprint.
func (c *CA) issue(id Identity, now time.Time, life time.Duration) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{Organization: []string{"Cloister"}, CommonName: id.Names[len(id.Names)-1]},
		NotBefore: now.Add(-headway), NotAfter: now.Add(life), DNSNames: id.Names, IPAddresses: id.IPs,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	if id.Cluster != "" {
		tmpl.URIs = []*url.URL{id.uri()}
		tmpl.Subject.SerialNumber = strconv.FormatInt(id.Joined, 10)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, c.cert, &key.PublicKey, c.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der, c.cert.Raw}, PrivateKey: key, Leaf: leaf}, nil
}
