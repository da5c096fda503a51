package consensus

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// fakeNet is a network of nodes over loopback TCP whose roads can be cut.
type fakeNet struct {
	mu    sync.Mutex
	cut   map[[2]string]bool // from, to: what from sends does not arrive
	conns map[*fakeConn]bool
}

func newFakeNet() *fakeNet {
	return &fakeNet{cut: map[[2]string]bool{}, conns: map[*fakeConn]bool{}}
}

// part cuts or mends the roads between two nodes, in both directions.
func (f *fakeNet) part(a, b string, cut bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cut[[2]string{a, b}], f.cut[[2]string{b, a}] = cut, cut
	f.breakConns(func(c *fakeConn) bool { return cut && c.between(a, b) })
}

// isolate cuts or mends all roads of a node.
func (f *fakeNet) isolate(a string, others []string, cut bool) {
	for _, b := range others {
		if a != b {
			f.part(a, b, cut)
		}
	}
}

// shake breaks the connections of a protocol once.
func (f *fakeNet) shake(protocol string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.breakConns(func(c *fakeConn) bool { return c.protocol == protocol })
}

func (f *fakeNet) breakConns(which func(*fakeConn) bool) {
	for c := range f.conns {
		if which(c) {
			c.Conn.Close()
			delete(f.conns, c)
		}
	}
}

func (f *fakeNet) isCut(from, to string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cut[[2]string{from, to}]
}

func (f *fakeNet) add(c *fakeConn) *fakeConn {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conns[c] = true
	return c
}

type fakeConn struct {
	net.Conn
	r          io.Reader
	net        *fakeNet
	self, peer string
	protocol   string
}

func (c *fakeConn) between(a, b string) bool {
	return c.self == a && c.peer == b || c.self == b && c.peer == a
}

func (c *fakeConn) PeerID() string             { return c.peer }
func (c *fakeConn) Read(b []byte) (int, error) { return c.r.Read(b) }

// fakePeers is one node's end of a fakeNet.
type fakePeers struct {
	net  *fakeNet
	id   string
	addr string

	mu        sync.Mutex
	listeners map[string]*fakeListener
}

func (f *fakeNet) node(t testing.TB, id string) *fakePeers {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &fakePeers{net: f, id: id, addr: l.Addr().String(), listeners: map[string]*fakeListener{}}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.welcome(c)
		}
	}()
	return p
}

func (p *fakePeers) welcome(c net.Conn) {
	r := bufio.NewReader(c)
	line, err := r.ReadString('\n')
	if err != nil {
		c.Close()
		return
	}
	from, protocol, _ := strings.Cut(strings.TrimSpace(line), " ")
	p.mu.Lock()
	l := p.listeners[protocol]
	p.mu.Unlock()
	if l == nil || p.net.isCut(from, p.id) {
		c.Close()
		return
	}
	select {
	case l.conns <- p.net.add(&fakeConn{Conn: c, r: r, net: p.net, self: p.id, peer: from, protocol: protocol}):
	case <-l.closed:
		c.Close()
	}
}

func (p *fakePeers) Listener(protocol string) net.Listener {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := &fakeListener{conns: make(chan net.Conn), closed: make(chan struct{}), addr: p.addr}
	p.listeners[protocol] = l
	return l
}

func (p *fakePeers) Dial(ctx context.Context, to Peer, protocol string) (net.Conn, error) {
	if p.net.isCut(p.id, to.ID) {
		return nil, errors.New("the road is cut")
	}
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", to.Address)
	if err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(c, "%s %s\n", p.id, protocol); err != nil {
		c.Close()
		return nil, err
	}
	return p.net.add(&fakeConn{Conn: c, r: c, net: p.net, self: p.id, peer: to.ID, protocol: protocol}), nil
}

type fakeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	addr   string
}

func (l *fakeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *fakeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *fakeListener) Addr() net.Addr { return address(l.addr) }
