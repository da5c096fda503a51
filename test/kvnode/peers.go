package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/cloister-os/cloister/store/consensus"
)

const handshakeTimeout = 10 * time.Second

// peers is the peer port: mutual TLS 1.3 on one listener, protocols told apart
// by ALPN.
type peers struct {
	ca       *authority
	cert     tls.Certificate
	listener net.Listener
	once     sync.Once
	done     chan struct{}
	doors    map[string]*door
}

var _ consensus.Peers = (*peers)(nil)

// door is the listener of one protocol.
type door struct {
	peers *peers
	conns chan net.Conn
	once  sync.Once
	shut  chan struct{}
}

// peerConn knows who is at the other end.
type peerConn struct {
	*tls.Conn
	id string
}

// PeerID implements consensus.PeerConn.
func (c peerConn) PeerID() string { return c.id }

func listenPeers(ca *authority, id, address string) (*peers, error) {
	cert, err := ca.issue(id)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("open the peer port: %w", err)
	}
	p := &peers{ca: ca, cert: cert, listener: l, done: make(chan struct{}), doors: map[string]*door{}}
	for _, protocol := range []string{consensus.RaftProtocol, consensus.StoreProtocol} {
		p.doors[protocol] = &door{peers: p, conns: make(chan net.Conn), shut: make(chan struct{})}
	}
	go p.accept()
	return p, nil
}

func (p *peers) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		go p.greet(c)
	}
}

func (p *peers) greet(c net.Conn) {
	t := tls.Server(c, &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{p.cert},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: p.ca.pool,
		NextProtos: []string{consensus.RaftProtocol, consensus.StoreProtocol},
	})
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
	defer cancel()
	if err := t.HandshakeContext(ctx); err != nil {
		c.Close()
		return
	}
	d := p.doors[t.ConnectionState().NegotiatedProtocol]
	id, err := nodeOf(t.ConnectionState())
	if d == nil || err != nil {
		t.Close()
		return
	}
	select {
	case d.conns <- peerConn{t, id}:
	case <-d.shut:
		t.Close()
	case <-p.done:
		t.Close()
	}
}

// nodeOf is the node that a certificate was issued to.
func nodeOf(s tls.ConnectionState) (string, error) {
	for _, u := range s.PeerCertificates[0].URIs {
		if id, ok := strings.CutPrefix(u.Path, "/node/"); ok && u.Scheme == "cloister" {
			return id, nil
		}
	}
	return "", errors.New("the certificate names no node")
}

// Listener implements consensus.Peers.
func (p *peers) Listener(protocol string) net.Listener { return p.doors[protocol] }

// Dial implements consensus.Peers.
func (p *peers) Dial(ctx context.Context, to consensus.Peer, protocol string) (net.Conn, error) {
	d := tls.Dialer{Config: &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{p.cert}, RootCAs: p.ca.pool,
		NextProtos: []string{protocol}, ServerName: to.ID,
		VerifyConnection: func(s tls.ConnectionState) error {
			id, err := nodeOf(s)
			if err == nil && id != to.ID {
				err = fmt.Errorf("at %s is node %q, not %q", to.Address, id, to.ID)
			}
			return err
		},
	}}
	c, err := d.DialContext(ctx, "tcp", to.Address)
	if err != nil {
		return nil, err
	}
	return peerConn{c.(*tls.Conn), to.ID}, nil
}

func (p *peers) close() error {
	p.once.Do(func() { close(p.done) })
	return p.listener.Close()
}

// Accept implements net.Listener.
func (d *door) Accept() (net.Conn, error) {
	select {
	case c := <-d.conns:
		return c, nil
	case <-d.shut:
		return nil, net.ErrClosed
	case <-d.peers.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (d *door) Close() error {
	d.once.Do(func() { close(d.shut) })
	return nil
}

// Addr implements net.Listener.
func (d *door) Addr() net.Addr { return d.peers.listener.Addr() }
