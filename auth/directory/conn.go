package directory

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// downFor is how long a server that did not answer is asked last.
const downFor = 15 * time.Second

// remote is a server and what is known of it.
type remote struct {
	server

	mu   sync.Mutex // guards all below
	down time.Time  // until then it is asked last
	kind Kind       // "" until its root entry was read
}

func (r *remote) failed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = time.Now().Add(downFor)
}

func (r *remote) up(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return now.After(r.down)
}

// conn is a connection to a server.
type conn struct {
	*ldap.Conn
	remote *remote
	raw    *bounded
}

// dial connects, secures the connection and reads what kind of server it is.
func (d *Directory) dial(ctx context.Context, r *remote) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialWait)
	defer cancel()
	tcp, err := (&net.Dialer{}).DialContext(ctx, "tcp", r.address)
	if err != nil {
		return nil, err
	}
	raw := &bounded{Conn: tcp}
	if deadline, ok := ctx.Deadline(); ok {
		_ = tcp.SetDeadline(deadline)
	}
	var c *ldap.Conn
	if r.startTLS {
		c = ldap.NewConn(raw, false)
		c.SetTimeout(dialWait)
		c.Start()
		err = c.StartTLS(r.tls(d.roots))
	} else {
		secure := tls.Client(raw, r.tls(d.roots))
		if err = secure.HandshakeContext(ctx); err == nil {
			c = ldap.NewConn(secure, true)
			c.Start()
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("no trusted connection: %w", err), tcp.Close())
	}
	_ = tcp.SetDeadline(time.Time{})
	c.SetTimeout(answerWait)
	return &conn{Conn: c, remote: r, raw: raw}, nil
}

// bindService makes a connection the service account's.
func (d *Directory) bindService(c *conn) error {
	if err := c.Bind(d.cfg.BindDN, d.cfg.BindPassword); err != nil {
		return fmt.Errorf("the service account cannot sign in: %w", plain(err))
	}
	return nil
}

// pool keeps connections for one use.
type pool struct {
	d       *Directory
	prepare func(*conn) error // of a new connection
	slots   chan struct{}     // one for each connection in use

	mu     sync.Mutex // guards all below
	idle   map[*remote][]*conn
	closed bool
}

func newPool(d *Directory, prepare func(*conn) error) *pool {
	return &pool{d: d, prepare: prepare, slots: make(chan struct{}, connections), idle: map[*remote][]*conn{}}
}

// with runs f on a connection: to the first server that is up, and to the next
// when one does not answer. An error that a server gave for an answer is
// returned as it is; if none answered, the error is ErrNoAnswer.
func (p *pool) with(ctx context.Context, f func(*conn) error) error {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrNoAnswer, ctx.Err())
	}
	var reasons []string
	for _, r := range p.d.order() {
		err := p.on(ctx, r, f)
		if err == nil || !silent(err) {
			return err
		}
		r.failed()
		reasons = append(reasons, fmt.Sprintf("%s: %v", r.address, plain(err)))
		if ctx.Err() != nil {
			break
		}
	}
	return fmt.Errorf("%w: %s", ErrNoAnswer, strings.Join(reasons, "; "))
}

// order is the servers in which they are asked: those that are up first.
func (d *Directory) order() []*remote {
	now := time.Now()
	var up, down []*remote
	for _, r := range d.servers {
		if r.up(now) {
			up = append(up, r)
		} else {
			down = append(down, r)
		}
	}
	return append(up, down...)
}

// on runs f on a connection to one server. An idle connection that the server
// has closed meanwhile says nothing about the server, so a new one is tried.
func (p *pool) on(ctx context.Context, r *remote, f func(*conn) error) error {
	for {
		c, used, err := p.take(ctx, r)
		if err != nil {
			return err
		}
		c.raw.allow(answerBytes)
		err = f(c)
		if err == nil || !silent(err) {
			p.give(c)
			return err
		}
		_ = c.Close()
		if used && ldap.IsErrorWithCode(err, ldap.ErrorNetwork) && !timedOut(err) && ctx.Err() == nil {
			continue
		}
		return err
	}
}

func (p *pool) take(ctx context.Context, r *remote) (c *conn, used bool, err error) {
	p.mu.Lock()
	for n := len(p.idle[r]); n > 0 && c == nil; n-- {
		c, p.idle[r] = p.idle[r][n-1], p.idle[r][:n-1]
		if c.IsClosing() {
			c = nil
		}
	}
	p.mu.Unlock()
	if c != nil {
		return c, true, nil
	}
	if c, err = p.d.dial(ctx, r); err != nil {
		return nil, false, &unreachable{err}
	}
	if p.prepare != nil {
		c.raw.allow(answerBytes)
		if err := p.prepare(c); err != nil {
			_ = c.Close()
			return nil, false, &unreachable{err}
		}
	}
	return c, false, nil
}

func (p *pool) give(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || c.IsClosing() {
		_ = c.Close()
		return
	}
	p.idle[c.remote] = append(p.idle[c.remote], c)
}

func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, idle := range p.idle {
		for _, c := range idle {
			_ = c.Close()
		}
	}
	p.idle = map[*remote][]*conn{}
}

// unreachable is a server that could not be used: not there, not trusted, or
// the service account is refused.
type unreachable struct{ error }

func (u *unreachable) Unwrap() error { return u.error }

// silent reports an error that is no answer to what was asked: the next server
// may know.
func silent(err error) bool {
	var u *unreachable
	return errors.As(err, &u) || ldap.IsErrorAnyOf(err, ldap.ErrorNetwork, ldap.LDAPResultBusy, ldap.LDAPResultUnavailable,
		ldap.LDAPResultTimeLimitExceeded, ldap.LDAPResultServerDown, ldap.LDAPResultTimeout, ldap.ErrorUnexpectedResponse,
		ldap.LDAPResultAdminLimitExceeded, ldap.LDAPResultOther, ldap.LDAPResultOperationsError)
}

func timedOut(err error) bool {
	return strings.Contains(err.Error(), "timed out") || strings.Contains(err.Error(), "timeout")
}

// plain is an error of go-ldap as one line without what was sent.
func plain(err error) error {
	var e *ldap.Error
	if !errors.As(err, &e) {
		return err
	}
	name := ldap.LDAPResultCodeMap[e.ResultCode]
	if e.ResultCode == ldap.ErrorNetwork && e.Err != nil {
		return e.Err
	}
	return fmt.Errorf("%s (LDAP result %d)", name, e.ResultCode)
}

// bounded is a network connection that takes so many bytes of an answer and no
// more: go-ldap itself reads what it is sent, up to 2 GB.
type bounded struct {
	net.Conn
	mu   sync.Mutex
	left int64
	on   bool
}

func (b *bounded) allow(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left, b.on = n, true
}

// Read implements net.Conn.
func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.Conn.Read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left -= int64(n); b.on && b.left < 0 {
		return 0, fmt.Errorf("the directory's answer is longer than %d bytes", int64(answerBytes))
	}
	return n, err
}
