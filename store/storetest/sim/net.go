package sim

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/cloister-os/cloister/store/consensus"
)

// network joins nodes by connections that are late, stall, and break. What is
// sent over one connection arrives in order, as over TCP; connections overtake
// one another. A road that is cut holds what is sent until it is mended, or the
// connection ends.
type network struct {
	mu        sync.Mutex // guards all below and all wires
	rnd       *rand.Rand // of delays
	delay     map[road]time.Duration
	cut       map[road]bool
	listeners map[string]map[string]*listener // by address and protocol
	conns     map[*conn]bool
}

// road is one direction between two nodes.
type road struct{ from, to string }

const (
	usualDelay = 300 * time.Microsecond
	wireBytes  = 4 << 20 // that a connection holds before its writer waits
)

func newNetwork(rnd *rand.Rand) *network {
	return &network{
		rnd: rnd, delay: map[road]time.Duration{}, cut: map[road]bool{},
		listeners: map[string]map[string]*listener{}, conns: map[*conn]bool{},
	}
}

// setCut cuts or mends one direction.
func (n *network) setCut(r road, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[r] = cut
	n.stir()
}

// setDelay makes one direction slow; 0 = as usual.
func (n *network) setDelay(r road, d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.delay[r] = d
}

// stir wakes everybody; mu is held.
func (n *network) stir() {
	for c := range n.conns {
		c.in.stir()
		c.out.stir()
	}
}

// late is how long something takes now; mu is held.
func (n *network) late(r road) time.Duration {
	d := max(n.delay[r], usualDelay)
	return d/2 + time.Duration(n.rnd.Int64N(int64(d)))
}

// shake breaks connections with a probability.
func (n *network) shake(p float64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.conns {
		if n.rnd.Float64() < p {
			c.reset()
		}
	}
}

// host is one life of a node on the network. It implements consensus.Peers.
type host struct {
	net     *network
	id      string
	address string
	dead    bool // guarded by net.mu
}

func (n *network) host(id, address string) *host { return &host{net: n, id: id, address: address} }

// die ends a life: nothing of it is heard any more. When it is told, the others'
// connections break at once; otherwise they only fall silent.
func (h *host) die(told bool) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.dead = true
	for c := range h.net.conns {
		if c.host != h {
			continue
		}
		c.closed = true
		if told {
			c.peer.out.broken = true
			c.peer.in.broken = true
			c.peer.in.stir()
			c.peer.out.stir()
		} else {
			c.out.held = true
		}
		c.in.stir()
		c.out.stir()
		delete(h.net.conns, c)
	}
	for _, l := range h.net.listeners[h.address] {
		if l.host == h {
			l.shut()
		}
	}
}

// Listener implements consensus.Peers.
func (h *host) Listener(protocol string) net.Listener {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	l := &listener{host: h, conns: make(chan *conn, 256), closed: make(chan struct{})}
	if h.dead {
		l.shut()
		return l
	}
	if h.net.listeners[h.address] == nil {
		h.net.listeners[h.address] = map[string]*listener{}
	}
	h.net.listeners[h.address][protocol] = l
	return l
}

var errRefused = errors.New("connection refused")

// Dial implements consensus.Peers.
func (h *host) Dial(ctx context.Context, p consensus.Peer, protocol string) (net.Conn, error) {
	there, back := road{h.id, p.ID}, road{p.ID, h.id}
	for {
		h.net.mu.Lock()
		wait, cut, dead := h.net.late(there)+h.net.late(back), h.net.cut[there] || h.net.cut[back], h.dead
		h.net.mu.Unlock()
		if dead {
			return nil, errRefused
		}
		if cut {
			wait = 200 * time.Millisecond // and once more
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if !cut {
			return h.connect(p, protocol)
		}
	}
}

func (h *host) connect(p consensus.Peer, protocol string) (net.Conn, error) {
	n := h.net
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.listeners[p.Address][protocol]
	if l == nil || l.ended || l.host.dead || h.dead {
		return nil, errRefused
	}
	if l.host.id != p.ID {
		return nil, errors.New("another node answers there")
	}
	up, down := newWire(road{h.id, p.ID}), newWire(road{p.ID, h.id})
	a := &conn{host: h, other: p.ID, in: down, out: up}
	b := &conn{host: l.host, other: h.id, in: up, out: down}
	a.peer, b.peer = b, a
	select {
	case l.conns <- b:
	default:
		return nil, errRefused
	}
	n.conns[a], n.conns[b] = true, true
	return a, nil
}

// listener implements net.Listener.
type listener struct {
	host   *host
	conns  chan *conn
	closed chan struct{}
	ended  bool // guarded by net.mu
}

// shut ends it; net.mu is held.
func (l *listener) shut() {
	if !l.ended {
		l.ended = true
		close(l.closed)
	}
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *listener) Close() error {
	l.host.net.mu.Lock()
	defer l.host.net.mu.Unlock()
	l.shut()
	return nil
}

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return addr(l.host.address) }

type addr string

// Network implements net.Addr.
func (addr) Network() string { return "sim" }

// String implements net.Addr.
func (a addr) String() string { return string(a) }

// wire is one direction of a connection.
type wire struct {
	road     road
	segments []segment
	bytes    int
	ended    bool // its writer closed: the last segment is the end
	broken   bool
	held     bool          // its writer's power went: nothing arrives any more
	changed  chan struct{} // closed and replaced when anything changes
	awaited  bool          // somebody waits for changed
}

// wait returns what is closed at the next change; net.mu is held.
func (w *wire) wait() chan struct{} {
	w.awaited = true
	return w.changed
}

type segment struct {
	at   time.Time
	data []byte // empty = the end
}

func newWire(r road) *wire { return &wire{road: r, changed: make(chan struct{})} }

func (w *wire) stir() {
	if !w.awaited {
		return
	}
	w.awaited = false
	close(w.changed)
	w.changed = make(chan struct{})
}

// conn is one end of a connection.
type conn struct {
	host    *host
	other   string
	peer    *conn
	in, out *wire

	// Guarded by net.mu.
	closed  bool
	readBy  time.Time
	writeBy time.Time
}

// PeerID is the node at the other end.
func (c *conn) PeerID() string { return c.other }

// reset breaks a connection at both ends; net.mu is held.
func (c *conn) reset() {
	for _, w := range []*wire{c.in, c.out} {
		w.broken = true
		w.stir()
	}
	delete(c.host.net.conns, c)
	delete(c.host.net.conns, c.peer)
}

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	for {
		n, wait, changed, err := c.tryRead(b)
		if n > 0 || err != nil {
			return n, err
		}
		sleep(wait, changed)
	}
}

// tryRead returns what has arrived, or how long to wait for a change.
func (c *conn) tryRead(b []byte) (n int, wait time.Duration, changed chan struct{}, err error) {
	c.host.net.mu.Lock()
	defer c.host.net.mu.Unlock()
	w, now := c.in, time.Now()
	switch {
	case c.closed:
		return 0, 0, nil, net.ErrClosed
	case w.broken:
		return 0, 0, nil, syscall.ECONNRESET
	case !c.readBy.IsZero() && !now.Before(c.readBy):
		return 0, 0, nil, os.ErrDeadlineExceeded
	}
	wait = -1
	if !c.readBy.IsZero() {
		wait = c.readBy.Sub(now)
	}
	if len(w.segments) == 0 || w.held || c.host.net.cut[w.road] {
		return 0, wait, w.wait(), nil
	}
	first := &w.segments[0]
	if d := first.at.Sub(now); d > 0 {
		if wait < 0 || d < wait {
			wait = d
		}
		return 0, wait, w.wait(), nil
	}
	if len(first.data) == 0 {
		return 0, 0, nil, io.EOF
	}
	n = copy(b, first.data)
	first.data = first.data[n:]
	w.bytes -= n
	if len(first.data) == 0 {
		w.segments = w.segments[1:]
	}
	if w.bytes+n >= wireBytes {
		w.stir()
	}
	return n, 0, nil, nil
}

// sleep waits for a change, at most for a while; without end when it is negative.
func sleep(wait time.Duration, changed chan struct{}) {
	if wait < 0 {
		<-changed
		return
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-changed:
	case <-t.C:
	}
}

// Write implements net.Conn.
func (c *conn) Write(b []byte) (int, error) {
	for {
		wait, changed, err := c.tryWrite(b)
		if err != nil {
			return 0, err
		}
		if changed == nil {
			return len(b), nil
		}
		sleep(wait, changed)
	}
}

func (c *conn) tryWrite(b []byte) (wait time.Duration, changed chan struct{}, err error) {
	n := c.host.net
	n.mu.Lock()
	defer n.mu.Unlock()
	w, now := c.out, time.Now()
	switch {
	case c.closed:
		return 0, nil, net.ErrClosed
	case w.broken || c.peer.closed && !w.held && !n.cut[w.road] && !c.peer.host.dead:
		return 0, nil, syscall.EPIPE
	case !c.writeBy.IsZero() && !now.Before(c.writeBy):
		return 0, nil, os.ErrDeadlineExceeded
	case w.bytes >= wireBytes:
		if c.writeBy.IsZero() {
			return -1, w.wait(), nil
		}
		return c.writeBy.Sub(now), w.wait(), nil
	}
	if len(b) > 0 {
		c.send(append([]byte(nil), b...))
	}
	return 0, nil, nil
}

// send puts a segment on the wire; net.mu is held.
func (c *conn) send(data []byte) {
	w := c.out
	at := time.Now().Add(c.host.net.late(w.road))
	if k := len(w.segments); k > 0 && at.Before(w.segments[k-1].at) {
		at = w.segments[k-1].at
	}
	w.segments = append(w.segments, segment{at, data})
	w.bytes += len(data)
	w.stir()
}

// Close implements net.Conn.
func (c *conn) Close() error {
	n := c.host.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	if !c.out.ended {
		c.out.ended = true
		c.send(nil)
	}
	c.in.stir()
	delete(n.conns, c)
	return nil
}

// LocalAddr implements net.Conn.
func (c *conn) LocalAddr() net.Addr { return addr(c.host.id) }

// RemoteAddr implements net.Conn.
func (c *conn) RemoteAddr() net.Addr { return addr(c.other) }

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error { return c.within(&c.readBy, &c.writeBy, t) }

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error { return c.within(&c.readBy, &c.readBy, t) }

// SetWriteDeadline implements net.Conn.
func (c *conn) SetWriteDeadline(t time.Time) error { return c.within(&c.writeBy, &c.writeBy, t) }

func (c *conn) within(a, b *time.Time, t time.Time) error {
	c.host.net.mu.Lock()
	defer c.host.net.mu.Unlock()
	*a, *b = t, t
	c.in.stir()
	c.out.stir()
	return nil
}
