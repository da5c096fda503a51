// Package cluster is a node's road to the other nodes: one port, mutual TLS 1.3,
// and the way a new node comes in.
//
// It promises: nothing is read from or said to another node before its
// certificate is known to be of this cluster, in force, and of a node that has
// not been removed; who dials knows that the other end is the node it meant, or
// gets one sentence that says what to do; a connection ends when the membership
// of the node at its other end does; certificates are renewed without ending
// one; handshakes, connections and frames are bounded, and a stranger who opens
// many delays nobody else. ALPN separates the protocols: raft, the store's
// calls, HTTP/2 between nodes (Handle, Client), and joining, which is the only
// one without a certificate and takes a one-time token instead.
//
// It may import store, store/consensus for the names of its protocols, and
// auth/seal for identities.
package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/cloister-os/cloister/auth/seal"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/consensus"
)

// The protocols of the peer port beside the store's.
const (
	HTTPProtocol = "h2"
	JoinProtocol = "cloister-join/1"
)

// ErrRefused is the kind of every refusal by another node, or of one: another
// cluster, a removed node, a program that is too old, a clock that is wrong.
var ErrRefused = errors.New("the connection between nodes was refused")

// ErrRemoved is the refusal of a node that was removed, or whose name another one
// has since. It matches ErrRefused; trying again is in vain.
var ErrRemoved = fmt.Errorf("%w: this node is no longer of the cluster", ErrRefused)

// Config is what a port needs to know.
type Config struct {
	// Address to listen on, host:port. Port 0 takes a free one: see Port.Addr.
	Address string
	// Cluster and Node are this node's identity; they must be those of the
	// certificate.
	Cluster, Node string
	// CA is the cluster's authority: certificates of any other are refused.
	CA *x509.Certificate
	// Certificate returns this node's certificate, renewed when it is time. It
	// is asked at each handshake.
	Certificate func() (*tls.Certificate, error)
	// Admit says why a node of this cluster may not connect or be connected to;
	// nil when it may. Once a second it is asked again of each connection. nil =
	// all nodes with a certificate of the cluster.
	Admit func(seal.Identity) error
	// Address of a node by name, for Client. Required for Client only.
	Lookup func(node string) (address string, known bool)
	// Program is the version of this program, told to the others.
	Program string
	// Format is the data format that the cluster works at; nil = the oldest.
	Format func() int
	// Logger is slog.Default when nil.
	Logger *slog.Logger
	// Now is time.Now when nil; certificates are checked by it.
	Now func() time.Time
}

var _ consensus.Peers = (*Port)(nil)

// Port is the open peer port.
type Port struct {
	cfg      Config
	log      *slog.Logger
	roots    *x509.CertPool
	listener net.Listener
	serving  *tls.Config
	client   *http.Client
	web      *http.Server
	stop     context.CancelFunc
	ended    sync.WaitGroup

	mu      sync.Mutex // guards all below
	closed  bool
	queues  map[string]*queue
	conns   map[*Conn]struct{}
	perPeer map[string]int
	waiting []*handshake // oldest first
	handler http.Handler
	joiner  Joiner
}

// Open takes the address and answers other nodes from then on: protocols that
// nobody listens to yet are refused as "starting".
func Open(cfg Config) (*Port, error) {
	if cfg.Cluster == "" || cfg.Node == "" || cfg.CA == nil || cfg.Certificate == nil {
		return nil, fmt.Errorf("%w: a peer port needs a cluster, a node, an authority and a certificate", store.ErrInvalid)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Format == nil {
		cfg.Format = func() int { return store.OldestFormat }
	}
	if cfg.Admit == nil {
		cfg.Admit = func(seal.Identity) error { return nil }
	}
	l, err := net.Listen("tcp", cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("the peer address %s cannot be used: %w", cfg.Address, err)
	}
	p := &Port{
		cfg: cfg, log: cfg.Logger, roots: x509.NewCertPool(), listener: l,
		queues: map[string]*queue{}, conns: map[*Conn]struct{}{}, perPeer: map[string]int{},
	}
	p.roots.AddCert(cfg.CA)
	p.serving = p.serverTLS()
	p.client = p.newClient()
	p.web = p.newServer()
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	p.ended.Go(p.accept)
	p.ended.Go(func() { p.review(ctx) })
	web := plainListener{p.Listener(HTTPProtocol)}
	p.ended.Go(func() { _ = p.web.Serve(web) }) // ends with the port
	return p, nil
}

// Addr is the address that the port listens on.
func (p *Port) Addr() net.Addr { return p.listener.Addr() }

// Close ends the port and every connection.
func (p *Port) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	conns := p.list()
	queues := slices.Collect(maps.Values(p.queues))
	waiting := slices.Clone(p.waiting)
	p.mu.Unlock()
	p.stop()
	err := p.listener.Close()
	for _, q := range queues {
		q.close()
	}
	for _, h := range waiting {
		_ = h.conn.Close()
	}
	_ = p.web.Close()
	p.client.CloseIdleConnections()
	for _, c := range conns {
		c.abort()
	}
	p.ended.Wait()
	return err
}

// reviewEvery is how often membership is asked again of open connections.
const reviewEvery = time.Second

// review ends the connections of nodes whose membership ended.
func (p *Port) review(ctx context.Context) {
	tick := time.NewTicker(reviewEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			p.Review()
		}
	}
}

// Review asks Admit again of every open connection and ends those that it
// refuses. It happens by itself once a second.
func (p *Port) Review() {
	p.mu.Lock()
	conns := p.list()
	p.mu.Unlock()
	refused := map[who]error{}
	for _, c := range conns {
		key := who{c.peer.Node, c.peer.Joined}
		err, asked := refused[key]
		if !asked {
			err = p.cfg.Admit(c.peer)
			refused[key] = err
		}
		if err != nil {
			p.log.Info("a connection between nodes ended", "peer", c.peer.Node, "reason", err)
			c.abort()
		}
	}
}

// list is every open connection. The caller holds mu.
func (p *Port) list() []*Conn {
	out := make([]*Conn, 0, len(p.conns))
	for c := range p.conns {
		out = append(out, c)
	}
	return out
}

// who is a node's identity within its cluster.
type who struct {
	node   string
	joined int64
}
