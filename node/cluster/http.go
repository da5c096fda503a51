package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/cloister-os/cloister/store/consensus"
)

type callerKey struct{}

// Caller is the node that sent the request that the context belongs to; "" when
// it is not a request between nodes.
func Caller(ctx context.Context) string {
	id, _ := ctx.Value(callerKey{}).(string)
	return id
}

// Handle answers HTTP requests from other nodes. Until it is called they get
// 503. See Caller.
func (p *Port) Handle(h http.Handler) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.handler = h
}

// Client sends HTTP requests to other nodes: http://NODE/path, where NODE is the
// node's name. The connection under it is TLS that proves the node; its
// certificate and membership are checked as for every connection of the port. A
// request has no deadline of its own: its context has.
func (p *Port) Client() *http.Client { return p.client }

// plain hides from net/http that TLS lies below: it would do what the port has
// done already, the negotiation of HTTP/2 above all.
type plain struct {
	net.Conn
	peer string
}

// plainListener gives a protocol's connections as plain ones.
type plainListener struct{ net.Listener }

// Accept implements net.Listener.
func (l plainListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return plain{c, c.(*Conn).PeerID()}, nil
}

func (p *Port) newServer() *http.Server {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true) // TLS lies below: see Conn
	return &http.Server{
		Protocols: &protocols, HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 256},
		ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 5 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if c, ok := c.(plain); ok {
				return context.WithValue(ctx, callerKey{}, c.peer)
			}
			return ctx
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			p.mu.Lock()
			h := p.handler
			p.mu.Unlock()
			if h == nil || Caller(r.Context()) == "" {
				w.Header().Set("Retry-After", "1")
				http.Error(w, "This node is starting; try again in a moment.", http.StatusServiceUnavailable)
				return
			}
			h.ServeHTTP(w, r)
		}),
	}
}

func (p *Port) newClient() *http.Client {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	t := &http.Transport{
		Protocols: &protocols, HTTP2: &http.HTTP2Config{SendPingTimeout: 5 * time.Second, PingTimeout: 5 * time.Second},
		DialContext: func(ctx context.Context, _, hostport string) (net.Conn, error) {
			node, _, err := net.SplitHostPort(hostport)
			if err != nil {
				return nil, err
			}
			if p.cfg.Lookup == nil {
				return nil, errors.New("this port knows no addresses")
			}
			address, known := p.cfg.Lookup(node)
			if !known {
				return nil, fmt.Errorf("there is no node %q in this cluster; see: cloister node list", node)
			}
			c, err := p.Dial(ctx, consensus.Peer{ID: node, Address: address}, HTTPProtocol)
			if err != nil {
				return nil, err
			}
			return plain{c, node}, nil
		},
		DisableCompression: true, MaxIdleConnsPerHost: 4, IdleConnTimeout: 2 * time.Minute, MaxResponseHeaderBytes: 64 << 10,
	}
	return &http.Client{Transport: peerTransport{t}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// peerTransport takes https for what it is here: the port's own TLS.
type peerTransport struct{ *http.Transport }

// RoundTrip implements http.RoundTripper.
func (t peerTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme == "https" {
		r = r.Clone(r.Context())
		r.URL.Scheme = "http"
	}
	return t.Transport.RoundTrip(r)
}

// sentence is an error's text without its kind, for the other side to read.
func sentence(err error) string {
	text := err.Error()
	for _, kind := range []error{ErrRemoved, errNotYet, ErrRefused} {
		text = strings.TrimPrefix(text, kind.Error()+": ")
	}
	if len(text) > 1024 {
		text = text[:1024]
	}
	return text
}
