package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"github.com/cloister-os/cloister/auth/seal"
	"github.com/cloister-os/cloister/store/consensus"
)

// Bounds of what is not yet a connection.
const (
	handshakeWait = 5 * time.Second
	maxHandshakes = 256
	dialWait      = 5 * time.Second
)

// keepAlive notices within a quarter of a minute that the other machine is gone.
func keepAlive() net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 3 * time.Second, Count: 3}
}

// handshake is a connection of which nothing is known yet.
type handshake struct{ conn net.Conn }

// accept takes connections until the port is closed.
func (p *Port) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			p.log.Warn("the peer port could not take a connection", "error", err)
			time.Sleep(50 * time.Millisecond) // out of file descriptors, as a rule
			continue
		}
		h := p.begin(c)
		p.ended.Go(func() {
			defer p.end(h)
			p.receive(c)
		})
	}
}

// begin makes room for a handshake. When too many are under way, the oldest is
// ended: it has had its chance, and whoever opens many ends only their own.
func (p *Port) begin(c net.Conn) *handshake {
	h := &handshake{c}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) >= maxHandshakes {
		_ = p.waiting[0].conn.Close()
		p.waiting = p.waiting[1:]
	}
	p.waiting = append(p.waiting, h)
	return h
}

func (p *Port) end(h *handshake) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.waiting, h); i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
	}
}

// receive makes a connection of what came in, or ends it.
func (p *Port) receive(raw net.Conn) {
	if t, ok := raw.(*net.TCPConn); ok {
		_ = t.SetKeepAliveConfig(keepAlive()) // some networks cannot
	}
	c := tls.Server(raw, p.serving)
	_ = raw.SetDeadline(time.Now().Add(handshakeWait))
	if err := c.Handshake(); err != nil {
		p.refused(raw, err)
		_ = raw.Close()
		return
	}
	if protocol := c.ConnectionState().NegotiatedProtocol; protocol == JoinProtocol {
		p.takeJoin(c)
		return
	}
	peer, err := p.greeted(c)
	if err != nil {
		p.refused(raw, err)
		_ = c.Close()
		return
	}
	p.hand(c, peer)
}

// greeted reads the other side's hello, checks it and its certificate, and
// answers with ours or with a refusal.
func (p *Port) greeted(c *tls.Conn) (seal.Identity, error) {
	state := c.ConnectionState()
	mine := p.hello()
	var theirs hello
	if err := readFrame(c, maxHello, &theirs); err != nil {
		return seal.Identity{}, err
	}
	peer, err := p.identify(state.PeerCertificates)
	if err == nil {
		err = mine.fits(theirs)
	}
	if err == nil && !p.listened(state.NegotiatedProtocol) {
		err = fmt.Errorf("%w: node %s is starting or stopping; try again in a moment", errNotYet, p.cfg.Node)
	}
	if err != nil {
		mine.Refused, mine.Removed = sentence(err), errors.Is(err, ErrRemoved)
	}
	return peer, errors.Join(err, writeFrame(c, mine))
}

// hand gives a connection to whoever listens to its protocol.
func (p *Port) hand(c *tls.Conn, peer seal.Identity) {
	conn := &Conn{Conn: c, port: p, peer: peer}
	_ = c.SetDeadline(time.Time{})
	if err := p.keep(conn); err != nil {
		p.refused(c.NetConn(), err)
		_ = c.NetConn().Close()
		return
	}
	if !p.offer(c.ConnectionState().NegotiatedProtocol, conn) {
		_ = conn.Close()
	}
}

// errNotYet is a refusal that a moment heals.
var errNotYet = fmt.Errorf("%w, for now", ErrRefused)

// refused tells the operator what a node was told. Strangers who merely connect
// and leave are nobody's business.
func (p *Port) refused(c net.Conn, err error) {
	if errors.Is(err, ErrRefused) && !errors.Is(err, errNotYet) {
		p.log.Warn("a connection from another node was refused", "remote", c.RemoteAddr().String(), "reason", err)
	} else if !errors.Is(err, io.EOF) {
		p.log.Debug("a connection to the peer port failed", "remote", c.RemoteAddr().String(), "error", err)
	}
}

// Dial implements consensus.Peers.
func (p *Port) Dial(ctx context.Context, to consensus.Peer, protocol string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialWait)
	defer cancel()
	c, err := p.dial(ctx, to, protocol)
	if err != nil {
		return nil, fmt.Errorf("connect to node %s at %s: %w", to.ID, to.Address, err)
	}
	return c, nil
}

func (p *Port) dial(ctx context.Context, to consensus.Peer, protocol string) (*Conn, error) {
	dialer := net.Dialer{KeepAliveConfig: keepAlive()}
	raw, err := dialer.DialContext(ctx, "tcp", to.Address)
	if err != nil {
		return nil, err
	}
	// A context that ends, ends what is under way on the connection.
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	c := tls.Client(raw, p.clientTLS(to.ID, protocol))
	err = c.HandshakeContext(ctx)
	if err == nil {
		err = p.greet(c)
	}
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	peer, _ := seal.Member(c.ConnectionState().PeerCertificates[0])
	conn := &Conn{Conn: c, port: p, peer: peer}
	if err := p.keep(conn); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return conn, nil
}

// greet says hello and reads the answer.
func (p *Port) greet(c *tls.Conn) error {
	mine := p.hello()
	if err := writeFrame(c, mine); err != nil {
		return err
	}
	var theirs hello
	if err := readFrame(c, maxHello, &theirs); err != nil {
		return err
	}
	if theirs.Removed {
		return fmt.Errorf("%w: %s", ErrRemoved, theirs.Refused)
	}
	if theirs.Refused != "" {
		return fmt.Errorf("%w: %s", ErrRefused, theirs.Refused)
	}
	return mine.fits(theirs)
}
