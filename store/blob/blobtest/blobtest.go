// Package blobtest makes a cluster's worth of blob stores that speak to one
// another over TLS on this machine. Only tests may import it. It may import
// store/blob and store/blob/exchange.
package blobtest

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"github.com/cloister-os/cloister/store/blob"
	"github.com/cloister-os/cloister/store/blob/exchange"
)

// Network is the nodes and whether they reach one another.
type Network struct {
	mu    sync.Mutex
	nodes map[string]*Node
}

// NewNetwork returns a network without nodes.
func NewNetwork() *Network { return &Network{nodes: map[string]*Node{}} }

// Node is one node: it serves Handler to the others, with Wrong in the way.
type Node struct {
	Name     string
	Blobs    *blob.Store
	Exchange *exchange.Client

	net     *Network
	server  *httptest.Server
	client  *http.Client
	mu      sync.Mutex
	down    bool
	handler http.Handler
	wrong   func(w http.ResponseWriter, r *http.Request, right http.Handler)
}

type callerKey struct{}

// Caller is the node that sent a request.
func Caller(ctx context.Context) string {
	name, _ := ctx.Value(callerKey{}).(string)
	return name
}

// Add adds a node with a blob store in a folder. It answers 503 until Handle.
func (n *Network) Add(t testing.TB, name, dir string) *Node {
	t.Helper()
	blobs, err := blob.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	node := &Node{Name: name, Blobs: blobs, net: n}
	node.server = httptest.NewUnstartedServer(http.HandlerFunc(node.serve))
	node.server.EnableHTTP2 = true
	node.server.StartTLS()
	t.Cleanup(node.server.Close)
	transport := node.server.Client().Transport.(*http.Transport).Clone()
	transport.TLSClientConfig.InsecureSkipVerify = true // names are the test's, not the certificate's
	transport.DialContext = n.dial
	node.client = &http.Client{Transport: from{name, transport}}
	t.Cleanup(node.client.CloseIdleConnections)
	node.Exchange = exchange.NewClient(node, slog.New(slog.DiscardHandler))
	n.mu.Lock()
	defer n.mu.Unlock()
	n.nodes[name] = node
	return node
}

// Remove takes a node out of the network for ever.
func (n *Network) Remove(name string) {
	n.mu.Lock()
	node := n.nodes[name]
	delete(n.nodes, name)
	n.mu.Unlock()
	if node != nil {
		node.Down(true)
	}
}

// from says who sends, as the certificate does in earnest.
type from struct {
	name string
	*http.Transport
}

// RoundTrip implements http.RoundTripper.
func (f from) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("From-Node", f.name)
	return f.Transport.RoundTrip(r)
}

func (n *Network) dial(ctx context.Context, _, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	node := n.nodes[host]
	n.mu.Unlock()
	if node == nil || node.isDown() {
		return nil, errors.New("connection refused")
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", node.server.Listener.Addr().String())
}

// Others implements exchange.Peers.
func (n *Node) Others() []string {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	all := slices.Sorted(maps.Keys(n.net.nodes))
	return slices.DeleteFunc(all, func(name string) bool { return name == n.Name })
}

// Client implements exchange.Peers.
func (n *Node) Client() *http.Client { return n.client }

// Handle sets what the node answers.
func (n *Node) Handle(h http.Handler) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.handler = h
}

// Misbehave puts f before the node's right answers; nil ends it.
func (n *Node) Misbehave(f func(w http.ResponseWriter, r *http.Request, right http.Handler)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.wrong = f
}

// Down cuts the node off, or brings it back.
func (n *Node) Down(down bool) {
	n.mu.Lock()
	n.down = down
	n.mu.Unlock()
	if down {
		n.server.CloseClientConnections()
	}
}

func (n *Node) isDown() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.down
}

func (n *Node) serve(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	h, wrong, down := n.handler, n.wrong, n.down
	n.mu.Unlock()
	if h == nil || down {
		http.Error(w, "starting", http.StatusServiceUnavailable)
		return
	}
	r = r.WithContext(context.WithValue(r.Context(), callerKey{}, r.Header.Get("From-Node")))
	if wrong != nil {
		wrong(w, r, h)
		return
	}
	h.ServeHTTP(w, r)
}
