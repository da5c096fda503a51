package child

import (
	"net"
	"net/http"
	"strings"
	"sync"
)

// allowed are the only requests that pass: what package engine sends. Pulling,
// pushing, copying, signing in, remote models, profiles and the server's own
// OpenAI front are not among them.
var allowed = map[string]bool{
	"GET /api/version":   true,
	"GET /api/tags":      true,
	"GET /api/ps":        true,
	"POST /api/show":     true,
	"POST /api/create":   true,
	"DELETE /api/delete": true,
	"POST /api/generate": true,
	"POST /api/chat":     true,
	"POST /api/embed":    true,
}

// front lets only the allowed requests through to the inference server.
func front(inner http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !allowed[r.Method+" "+r.URL.Path] || strings.Contains(r.URL.RawPath, "%") {
			http.Error(w, `{"error":"not offered by this engine"}`, http.StatusForbidden)
			return
		}
		r.Host = "localhost" // the server refuses other hosts
		inner.ServeHTTP(w, r)
	})
}

// idle is a listener that nobody can connect to. server.Serve insists on one;
// its first Accept says that the routes are in place.
type idle struct {
	path      string
	accepting chan struct{}
	closed    chan struct{}
	accept    sync.Once
	close     sync.Once
}

func newIdle(path string) *idle {
	return &idle{path: path, accepting: make(chan struct{}), closed: make(chan struct{})}
}

// Accept blocks until Close.
func (l *idle) Accept() (net.Conn, error) {
	l.accept.Do(func() { close(l.accepting) })
	<-l.closed
	return nil, net.ErrClosed
}

// Close ends Accept.
func (l *idle) Close() error {
	l.close.Do(func() { close(l.closed) })
	return nil
}

// Addr is a unix address, which makes the server check the request's host.
func (l *idle) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }
