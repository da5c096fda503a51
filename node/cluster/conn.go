package cluster

import (
	"crypto/tls"
	"fmt"
	"net"
	"sync"

	"github.com/cloister-os/cloister/auth/seal"
	"github.com/cloister-os/cloister/store/consensus"
)

var _ consensus.PeerConn = (*Conn)(nil)

// Conn is a connection to another node, proven and checked.
type Conn struct {
	*tls.Conn
	port *Port
	peer seal.Identity
}

// PeerID is the node at the other end.
func (c *Conn) PeerID() string { return c.peer.Node }

// Close ends the connection and tells the other side.
func (c *Conn) Close() error {
	c.port.forget(c)
	return c.Conn.Close()
}

// abort ends the connection at once: the other side may not be reading.
func (c *Conn) abort() {
	c.port.forget(c)
	_ = c.NetConn().Close()
}

// Bounds of the port.
const (
	maxConns        = 2048 // of all peers
	maxConnsPerPeer = 512
)

// keep registers a connection, or says why there may be no more of them.
func (p *Port) keep(c *Conn) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return fmt.Errorf("%w: node %s is stopping", ErrRefused, p.cfg.Node)
	case len(p.conns) >= maxConns, p.perPeer[c.peer.Node] >= maxConnsPerPeer:
		return fmt.Errorf("%w: node %s has too many connections with %s already; try again in a moment", ErrRefused, p.cfg.Node, c.peer.Node)
	}
	p.conns[c] = struct{}{}
	p.perPeer[c.peer.Node]++
	return nil
}

func (p *Port) forget(c *Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, there := p.conns[c]; !there {
		return
	}
	delete(p.conns, c)
	if p.perPeer[c.peer.Node]--; p.perPeer[c.peer.Node] == 0 {
		delete(p.perPeer, c.peer.Node)
	}
}

// maxQueued bounds the connections of one protocol that wait to be accepted.
const maxQueued = 128

// queue is the net.Listener of one protocol.
type queue struct {
	addr  net.Addr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

// Listener implements consensus.Peers. Each protocol has one listener; asking
// again after it was closed opens it anew.
func (p *Port) Listener(protocol string) net.Listener {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.queues[protocol]
	if q == nil || q.isClosed() {
		q = &queue{addr: p.listener.Addr(), conns: make(chan net.Conn, maxQueued), done: make(chan struct{})}
		p.queues[protocol] = q
	}
	if p.closed {
		q.close()
	}
	return q
}

// offer hands a connection to whoever listens to its protocol.
func (p *Port) offer(protocol string, c net.Conn) bool {
	p.mu.Lock()
	q := p.queues[protocol]
	p.mu.Unlock()
	if q == nil || q.isClosed() {
		return false
	}
	select {
	case q.conns <- c:
		return true
	default:
		return false
	}
}

func (p *Port) listened(protocol string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.queues[protocol]
	return q != nil && !q.isClosed() && len(q.conns) < cap(q.conns)
}

func (q *queue) isClosed() bool {
	select {
	case <-q.done:
		return true
	default:
		return false
	}
}

func (q *queue) close() { q.once.Do(func() { close(q.done) }) }

// Accept implements net.Listener.
func (q *queue) Accept() (net.Conn, error) {
	select {
	case <-q.done:
		return nil, net.ErrClosed
	default:
	}
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. Connections that nobody accepted are ended.
func (q *queue) Close() error {
	q.close()
	for {
		select {
		case c := <-q.conns:
			_ = c.Close()
		default:
			return nil
		}
	}
}

// Addr implements net.Listener.
func (q *queue) Addr() net.Addr { return q.addr }
