package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloister-os/cloister/auth/seal"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/consensus"
)

// clock is a clock that a test moves.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time           { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) advance(by time.Duration) { c.ahead.Add(int64(by)) }

// world is a cluster's authority and its ports.
type world struct {
	t     *testing.T
	ca    *seal.CA
	id    string
	life  time.Duration
	mu    sync.Mutex
	where map[string]string
	gone  map[string]error
}

func newWorld(t *testing.T, id string) *world {
	t.Helper()
	keys, err := seal.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ca, err := keys.CA()
	if err != nil {
		t.Fatal(err)
	}
	return &world{t: t, ca: ca, id: id, where: map[string]string{}, gone: map[string]error{}}
}

// open opens a node's port; change may be nil.
func (w *world) open(node string, clock *clock, change func(*Config)) (*Port, *seal.NodeCert) {
	w.t.Helper()
	cert, err := w.ca.NodeCert(seal.Identity{Cluster: w.id, Node: node, Joined: 1}, w.life, clock.now)
	if err != nil {
		w.t.Fatal(err)
	}
	cfg := Config{
		Address: "127.0.0.1:0", Cluster: w.id, Node: node, CA: w.ca.Certificate(), Certificate: cert.Get, Program: "test", Now: clock.now,
		Admit:  func(id seal.Identity) error { w.mu.Lock(); defer w.mu.Unlock(); return w.gone[id.Node] },
		Lookup: func(n string) (string, bool) { w.mu.Lock(); defer w.mu.Unlock(); a, ok := w.where[n]; return a, ok },
	}
	if change != nil {
		change(&cfg)
	}
	p, err := Open(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := p.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			w.t.Error(err)
		}
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.where[node] = p.Addr().String()
	return p, cert
}

func (w *world) remove(node string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gone[node] = fmt.Errorf("%w: node %s was removed from the cluster; let it join again with an empty data folder", ErrRefused, node)
}

// echo answers every connection of a protocol with what it says, behind the name
// of who opened it.
func echo(p *Port, protocol string) {
	l := p.Listener(protocol)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.WriteString(c, c.(consensus.PeerConn).PeerID()+":")
				_, _ = io.Copy(c, c)
			}()
		}
	}()
}

func peer(p *Port, id string) consensus.Peer {
	return consensus.Peer{ID: id, Address: p.Addr().String()}
}

func dial(t *testing.T, from *Port, to consensus.Peer, protocol string) (net.Conn, error) {
	t.Helper()
	return from.Dial(t.Context(), to, protocol)
}

// says sends a word and reads the answer.
func says(c net.Conn, word string, answer int) (string, error) {
	if _, err := io.WriteString(c, word); err != nil {
		return "", err
	}
	b := make([]byte, answer)
	_, err := io.ReadFull(c, b)
	return string(b), err
}

func TestProtocolsAreSeparateAndProveWhoIsThere(t *testing.T) {
	w, now := newWorld(t, "one"), &clock{}
	a, _ := w.open("node-1", now, nil)
	b, _ := w.open("node-2", now, nil)
	echo(b, consensus.RaftProtocol)
	c, err := dial(t, a, peer(b, "node-2"), consensus.RaftProtocol)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, err := says(c, "hello", len("node-1:hello")); err != nil || got != "node-1:hello" {
		t.Errorf("%q %v", got, err)
	}
	if id := c.(consensus.PeerConn).PeerID(); id != "node-2" {
		t.Errorf("the dialer believes that it speaks to %q", id)
	}
	if _, err := dial(t, a, peer(b, "node-2"), consensus.StoreProtocol); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "starting") {
		t.Errorf("a protocol that nobody listens to: %v", err)
	}
	if _, err := dial(t, a, peer(b, "node-3"), consensus.RaftProtocol); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "at that address is node node-2") {
		t.Errorf("another node than meant: %v", err)
	}
}

func TestHTTPBetweenNodesNamesTheCaller(t *testing.T) {
	w, now := newWorld(t, "one"), &clock{}
	a, _ := w.open("node-1", now, nil)
	b, _ := w.open("node-2", now, nil)
	if res, err := a.Client().Get("http://node-2/"); err != nil || res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("before Handle: %v %v", res, err)
	}
	b.Handle(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s %s", Caller(r.Context()), r.URL.Path, r.Proto)
	}))
	for _, url := range []string{"http://node-2/blobs/x", "https://node-2/blobs/x"} {
		res, err := a.Client().Get(url)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil || string(got) != "node-1 /blobs/x HTTP/2.0" {
			t.Errorf("%s: %q %v", url, got, err)
		}
	}
	if _, err := a.Client().Get("http://node-9/"); err == nil || !strings.Contains(err.Error(), `no node "node-9"`) {
		t.Errorf("an unknown node: %v", err)
	}
}

// TestWhoIsRefusedIsToldWhy goes through everything that may meet by mistake.
// Each side must refuse, and the dialer must read what to do.
func TestWhoIsRefusedIsToldWhy(t *testing.T) {
	week := &clock{}
	week.advance(7 * 24 * time.Hour)
	tests := []struct {
		name   string
		dialer func(w, other *world) *Port
		to     string
		want   string
	}{
		{"two clusters", func(_, other *world) *Port { p, _ := other.open("node-2", &clock{}, nil); return p }, "node-1", "is of another cluster"},
		{"the same id from another authority", func(w, other *world) *Port {
			other.id = w.id
			p, _ := other.open("node-2", &clock{}, func(c *Config) { c.CA = w.ca.Certificate() })
			return p
		}, "node-1", "not of this cluster's authority"},
		{"the same name", func(w, _ *world) *Port { p, _ := w.open("node-1", &clock{}, nil); return p }, "node-1", "two nodes are called node-1"},
		{"removed", func(w, _ *world) *Port { p, _ := w.open("node-2", &clock{}, nil); w.remove("node-2"); return p }, "node-1", "was removed"},
		{"a clock that is a week ahead", func(w, _ *world) *Port { p, _ := w.open("node-2", week, nil); return p }, "node-1", "set the clocks"},
		{"an old program", func(w, _ *world) *Port {
			p, _ := w.open("node-2", &clock{}, func(c *Config) { c.Format = func() int { return store.Format + 1 } })
			return p
		}, "node-1", "install the cluster's program"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w, other := newWorld(t, "0123456789"), newWorld(t, "abcdefghij")
			server, _ := w.open("node-1", &clock{}, nil)
			echo(server, consensus.RaftProtocol)
			c, err := dial(t, tt.dialer(w, other), peer(server, tt.to), consensus.RaftProtocol)
			if err == nil {
				c.Close()
				t.Fatal("it was let in")
			}
			if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want one sentence with %q", err, tt.want)
			}
			server.mu.Lock()
			defer server.mu.Unlock()
			if len(server.conns) != 0 {
				t.Error("the server kept the connection")
			}
		})
	}
}

// TestTheServerRefusesByItself does what the dialer of the test above would have
// done for it: its dialer checks nothing.
func TestTheServerRefusesByItself(t *testing.T) {
	w, other := newWorld(t, "0123456789"), newWorld(t, "abcdefghij")
	server, _ := w.open("node-1", &clock{}, nil)
	echo(server, consensus.RaftProtocol)
	stranger, _ := other.open("node-2", &clock{}, nil)
	for name, certificate := range map[string]bool{"another cluster's certificate": true, "no certificate": false} {
		raw, err := net.Dial("tcp", server.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		c := careless(raw, stranger, certificate)
		err = stranger.greet(c)
		if !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
		_ = raw.SetDeadline(time.Now().Add(10 * time.Second))
		if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("%s: the connection went on after the refusal", name)
		}
	}
}

func TestAConnectionEndsWithTheMembership(t *testing.T) {
	w, now := newWorld(t, "one"), &clock{}
	a, _ := w.open("node-1", now, nil)
	b, _ := w.open("node-2", now, nil)
	echo(b, consensus.StoreProtocol)
	c, err := dial(t, a, peer(b, "node-2"), consensus.StoreProtocol)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := says(c, "x", len("node-1:x")); err != nil {
		t.Fatal(err)
	}
	w.remove("node-1")
	b.Review()
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection of a removed node is still open: %v", err)
	}
	if _, err := dial(t, a, peer(b, "node-2"), consensus.StoreProtocol); !errors.Is(err, ErrRefused) {
		t.Errorf("it could connect again: %v", err)
	}
}

// TestNodesThatWereOffForAWeekComeBack opens connections after every certificate
// there was has run out long ago.
func TestNodesThatWereOffForAWeekComeBack(t *testing.T) {
	w, now := newWorld(t, "one"), &clock{}
	a, certA := w.open("node-1", now, nil)
	b, _ := w.open("node-2", now, nil)
	echo(b, consensus.RaftProtocol)
	if c, err := dial(t, a, peer(b, "node-2"), consensus.RaftProtocol); err != nil {
		t.Fatal(err)
	} else {
		c.Close()
	}
	before := certA.Issued()
	now.advance(7 * 24 * time.Hour)
	c, err := dial(t, a, peer(b, "node-2"), consensus.RaftProtocol)
	if err != nil {
		t.Fatalf("after a week: %v", err)
	}
	defer c.Close()
	if certA.Issued() == before {
		t.Error("nothing was renewed: this test proves nothing")
	}
}

func TestAStrangerWhoOpensManyDelaysNobody(t *testing.T) {
	w, now := newWorld(t, "one"), &clock{}
	a, _ := w.open("node-1", now, nil)
	b, _ := w.open("node-2", now, nil)
	echo(b, consensus.RaftProtocol)
	for range 2 * maxHandshakes {
		c, err := net.Dial("tcp", b.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close() // silent until the end
	}
	c, err := dial(t, a, peer(b, "node-2"), consensus.RaftProtocol)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting) > maxHandshakes {
		t.Errorf("%d handshakes are under way", len(b.waiting))
	}
}

func TestAPortThatClosesEndsWhatIsOpen(t *testing.T) {
	w, now := newWorld(t, "one"), &clock{}
	a, _ := w.open("node-1", now, nil)
	b, _ := w.open("node-2", now, nil)
	echo(b, consensus.RaftProtocol)
	c, err := dial(t, a, peer(b, "node-2"), consensus.RaftProtocol)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	l := b.Listener(consensus.StoreProtocol)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener: %v", err)
	}
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := io.ReadAll(c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("a connection outlived its port")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := a.Dial(ctx, peer(b, "node-2"), consensus.RaftProtocol); err == nil {
		t.Error("a closed port answers")
	}
}
