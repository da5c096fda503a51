package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"html"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cloister-os/cloister/node/api"
	"github.com/cloister-os/cloister/node/gate"
	"github.com/cloister-os/cloister/node/health"
)

// front is what the listener answers with from the first second: health always,
// and everything else once the node is up. Before that it says what the node
// waits for.
type front struct {
	up    atomic.Pointer[http.Handler] // everything; nil until the node is up
	phase atomic.Pointer[phase]
	web   atomic.Pointer[tls.Config] // what a browser is met with
}

// phase is a step of the start that may take long.
type phase struct {
	name     string // one word, for a program: "starting", "waiting", "refused"
	sentence string // for a person
	// also serves some paths during the phase: a sealed node's way to be
	// unsealed. nil = none.
	also func(path string) http.Handler
}

// enter says what the node waits for from now on.
func (f *front) enter(p phase) { f.phase.Store(&p) }

// ServeHTTP implements http.Handler.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h := f.up.Load(); h != nil {
		(*h).ServeHTTP(w, r)
		return
	}
	now := f.phase.Load()
	switch {
	case r.URL.Path == "/healthz":
		health.Live(w, r)
		return
	case r.URL.Path == "/readyz":
		health.Ready(health.Check{Name: now.name, Ready: func(context.Context) error { return errors.New(now.sentence) }})(w, r)
		return
	}
	if now.also != nil {
		if h := now.also(r.URL.Path); h != nil {
			h.ServeHTTP(w, r)
			return
		}
	}
	w.Header().Set("Retry-After", "2")
	if strings.HasPrefix(r.URL.Path, "/api/") || strings.HasPrefix(r.URL.Path, "/v1/") {
		api.Unready(w, now.sentence)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = fmt.Fprintf(w, waitingPage, html.EscapeString(now.sentence)) // whoever asked may have gone
}

// waitingPage needs nothing that is not up yet: no style, no script.
const waitingPage = `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>Cloister is starting</title></head>
<body><main><h1>Cloister is not ready yet</h1><p>%s</p><p>Load this page again in a moment.</p></main></body>
</html>
`

// openFront begins to answer on the listener, or goes on with the node's own
// certificate when it answered already.
func (n *Node) openFront(context.Context) error {
	n.front.enter(phase{name: "starting", sentence: "This node is starting."})
	c, err := n.webTLS()
	if err != nil {
		return err
	}
	n.serveFront(c)
	return nil
}

// serveFront answers on the listener; a second call changes the certificate alone.
func (n *Node) serveFront(web *tls.Config) {
	if n.front.web.Swap(web) != nil {
		return
	}
	c := &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: web.NextProtos,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return n.front.web.Load(), nil },
	}
	door := gate.New(n.listener, gate.Config{TLS: c, Logger: n.log})
	n.server = server(door.Guard(api.Vital, api.Shell(n.log, n.requests.Count, api.Full()), api.Shell(n.log, n.requests.Count, &n.front)), c, n.log)
	n.server.ConnContext = door.Context
	requests, cut := context.WithCancel(context.Background())
	n.server.BaseContext = baseContext(requests)
	ended := make(chan struct{})
	n.rooms.opened("the server", func() error {
		defer cut()
		ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
		defer cancel()
		err := n.server.Shutdown(ctx)
		if err != nil {
			cut()
			err = n.server.Close()
		}
		<-ended
		return err
	})
	go func() {
		defer close(ended)
		if err := n.server.Serve(door); !errors.Is(err, http.ErrServerClosed) {
			n.rooms.fail(fmt.Errorf("the listener ended: %w", err))
		}
	}()
}

// stopWithin is how long requests under way may take when the node stops. Event
// streams never end by themselves, so they are cut after it.
const stopWithin = 2 * time.Second
