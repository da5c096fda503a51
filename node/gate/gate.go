// Package gate is how people's connections come in: a listener that takes them
// through their handshake and gives each a place.
//
// It promises: a flood takes nothing that health needs. Who connects and says
// nothing, or little, is let go when others come; handshakes are worked on by half of
// the processors, one address after the other, so that an address that opens a
// thousand connections waits for itself; when every place is taken by work, some more
// are kept for what is vital, and everything else is told to come again. All of it is
// bounded. Of Cloister it imports store/threads alone.
package gate

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/cloister-os/cloister/store/threads"
)

// Config bounds a gate. Zero values are the defaults.
type Config struct {
	TLS         *tls.Config   // required
	Connections int           // open at once; 0 = 4096
	Guests      int           // more of them for what is vital, when all are at work; 0 = 256
	Handshakes  int           // connections before the end of their handshake; 0 = 2048
	Within      time.Duration // a handshake; 0 = 10 s
	Logger      *slog.Logger  // required
}

// Gate is a net.Listener of TLS connections, for an http.Server that has Context as
// its ConnContext and Guard around its handler. It is safe for concurrent use.
type Gate struct {
	cfg   Config
	inner net.Listener
	turns *turns
	ready chan *tls.Conn
	done  chan struct{}
	close sync.Once
	tasks sync.WaitGroup

	mu      sync.Mutex // guards all below, and the places of every conn
	shaking pool       // who is waited for may be let go
	open    pool       // who is not being served may be let go
	guests  pool       // all may be let go: what is vital is answered at once
}

var _ net.Listener = (*Gate)(nil)

// New begins to take connections from the listener, which the gate closes.
func New(l net.Listener, cfg Config) *Gate {
	or := func(n, otherwise int) int {
		if n == 0 {
			return otherwise
		}
		return n
	}
	if cfg.Within == 0 {
		cfg.Within = 10 * time.Second
	}
	g := &Gate{
		cfg: cfg, inner: l, turns: newTurns(max(1, threads.Processors()/2)), ready: make(chan *tls.Conn), done: make(chan struct{}),
		shaking: pool{most: or(cfg.Handshakes, 2048), shares: true}, open: pool{most: or(cfg.Connections, 4096)}, guests: pool{most: or(cfg.Guests, 256)},
	}
	g.tasks.Go(g.take)
	return g
}

// Accept implements net.Listener: the connection's handshake is done.
func (g *Gate) Accept() (net.Conn, error) {
	select {
	case c := <-g.ready:
		return c, nil
	case <-g.done:
		return nil, net.ErrClosed
	}
}

// Addr implements net.Listener.
func (g *Gate) Addr() net.Addr { return g.inner.Addr() }

// Close implements net.Listener: it ends the handshakes, not the connections.
func (g *Gate) Close() error {
	err := net.ErrClosed
	g.close.Do(func() {
		close(g.done)
		err = g.inner.Close()
		g.mu.Lock()
		all := g.shaking.all()
		g.mu.Unlock()
		for _, c := range all {
			_ = c.Conn.Close() // nobody is spoken to yet
		}
		g.tasks.Wait()
	})
	return err
}

// take takes connections until the gate is closed.
func (g *Gate) take() {
	for {
		raw, err := g.inner.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			g.cfg.Logger.Warn("a connection could not be taken", "error", err)
			select {
			case <-time.After(50 * time.Millisecond): // out of file descriptors, as a rule
				continue
			case <-g.done:
				return
			}
		}
		c := &conn{Conn: raw, gate: g, source: sourceOf(raw.RemoteAddr()), shaking: true}
		g.mu.Lock()
		out, ok := g.shaking.enter(c)
		g.mu.Unlock()
		out.drop()
		if !ok {
			c.drop()
			continue
		}
		select {
		case <-g.done: // Close has not seen it
			_ = c.Conn.Close()
		default:
		}
		g.tasks.Go(func() { g.shake(c) })
	}
}

// shake takes a connection through its handshake and gives it a place.
func (g *Gate) shake(c *conn) {
	t := tls.Server(c, g.cfg.TLS)
	_ = c.Conn.SetDeadline(time.Now().Add(g.cfg.Within)) // a closed one fails below
	err := t.Handshake()
	c.shaken()
	if err == nil {
		err = c.Conn.SetDeadline(time.Time{})
	}
	if err != nil || !g.place(c) {
		_ = c.Close()
		return
	}
	select {
	case g.ready <- t:
	case <-g.done:
		_ = c.Close()
	}
}

// rests says that a connection is waited for, and works that it no longer is.
func (g *Gate) rests(c *conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c.rest()
}

func (g *Gate) works(c *conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c.hold()
}

// place gives a connection a place among the open ones, or else among the guests.
func (g *Gate) place(c *conn) bool {
	g.mu.Lock()
	if c.pool == nil { // it was let go
		g.mu.Unlock()
		return false
	}
	c.leave()
	out, ok := g.open.enter(c)
	if !ok {
		out, ok = g.guests.enter(c)
	}
	g.mu.Unlock()
	out.drop()
	return ok
}

type connKey struct{}

// Context is an http.Server's ConnContext.
func (g *Gate) Context(ctx context.Context, c net.Conn) context.Context {
	t, ok := c.(*tls.Conn)
	if !ok {
		return ctx
	}
	return context.WithValue(ctx, connKey{}, t.NetConn())
}

// Guard serves requests, and of a guest's those that are vital. To the others, busy
// answers.
func (g *Gate) Guard(vital func(path string) bool, busy, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, ok := r.Context().Value(connKey{}).(*conn)
		if !ok {
			next.ServeHTTP(w, r)
			return
		}
		if !g.begin(c) && !vital(r.URL.Path) {
			w.Header().Set("Connection", "close")
			busy.ServeHTTP(w, r)
			return
		}
		defer g.end(c)
		next.ServeHTTP(w, r)
	})
}

// begin keeps a connection from being let go while a request is served. It is false
// for a guest for whom there is still no place.
func (g *Gate) begin(c *conn) bool {
	g.mu.Lock()
	var out *conn
	if c.pool == &g.guests {
		c.leave()
		var ok bool
		if out, ok = g.open.enter(c); !ok {
			out, _ = g.guests.enter(c)
		}
	}
	isGuest := c.pool == &g.guests
	if c.serving++; !isGuest {
		c.hold()
	}
	g.mu.Unlock()
	out.drop()
	return !isGuest
}

func (g *Gate) end(c *conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.serving--; c.serving == 0 {
		c.rest()
	}
}

// sourceOf is the address that a connection comes from; of IPv6 the network, since
// one machine may have all of its addresses.
func sourceOf(a net.Addr) netip.Addr {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	ip, _ := netip.AddrFromSlice(t.IP)
	if ip = ip.Unmap(); ip.Is6() {
		ip = netip.PrefixFrom(ip, 64).Masked().Addr()
	}
	return ip
}
