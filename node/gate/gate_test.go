package gate

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"testing"
	"time"
)

func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// site is a server behind a gate. Requests for /work last until goOn is closed.
type site struct {
	t       *testing.T
	gate    *Gate
	address string
	began   chan string   // who asked for /work
	goOn    chan struct{} // ends them
}

func open(t *testing.T, cfg Config) *site {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg.TLS = &tls.Config{Certificates: []tls.Certificate{certificate(t)}, NextProtos: []string{"h2", "http/1.1"}}
	cfg.Logger = slog.New(slog.DiscardHandler)
	s := &site{t: t, gate: New(l, cfg), address: l.Addr().String(), began: make(chan string, 10_000), goOn: make(chan struct{})}
	work := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/work" {
			s.began <- r.RemoteAddr
			<-s.goOn
		}
		fmt.Fprint(w, r.Proto)
	})
	busy := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "come again", http.StatusServiceUnavailable)
	})
	vital := func(path string) bool { return path == "/healthz" }
	server := &http.Server{Handler: s.gate.Guard(vital, busy, work), ConnContext: s.gate.Context, TLSConfig: cfg.TLS, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(s.gate) }()
	t.Cleanup(func() {
		select {
		case <-s.goOn:
		default:
			close(s.goOn)
		}
		if err := server.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
	return s
}

// client makes a connection of its own for each request, from an address of this
// machine.
func (s *site) client(from string, h2 bool) *http.Client {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: h2, DisableKeepAlives: true, DialContext: d.DialContext}
	s.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: time.Minute}
}

func (s *site) get(c *http.Client, path string) (int, string, error) {
	resp, err := c.Get("https://" + s.address + path)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// work has so many requests served, each on its own connection, and waits until all
// are.
func (s *site) work(n int) {
	s.t.Helper()
	c := s.client("127.0.0.1", false)
	for range n {
		go func() { _, _, _ = s.get(c, "/work") }() // it ends with the site
	}
	for range n {
		<-s.began
	}
}

// shaken opens a connection with its handshake done, on which nothing was said.
func (s *site) shaken(from string) *tls.Conn {
	s.t.Helper()
	d := &tls.Dialer{NetDialer: &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}, Config: &tls.Config{InsecureSkipVerify: true}}
	c, err := d.DialContext(s.t.Context(), "tcp", s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	return c.(*tls.Conn)
}

func (s *site) raw(from string) net.Conn {
	s.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.Dial("tcp", s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	return c
}

func (s *site) counts() (shaking, open, guests int) {
	s.gate.mu.Lock()
	defer s.gate.mu.Unlock()
	return s.gate.shaking.n, s.gate.open.n, s.gate.guests.n
}

// become waits until the gate holds so many.
func (s *site) become(what string, is func(shaking, open, guests int) bool) {
	s.t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if is(s.counts()) {
			return
		}
	}
	a, b, c := s.counts()
	s.t.Fatalf("never %s: %d shaking, %d open, %d guests", what, a, b, c)
}

// waitedFor counts the handshakes that wait for the other side.
func (s *site) waitedFor() (n int) {
	s.gate.mu.Lock()
	defer s.gate.mu.Unlock()
	for _, c := range s.gate.shaking.all() {
		if c.resting {
			n++
		}
	}
	return n
}

// closed waits until the other side has closed a connection.
func (s *site) closed(c net.Conn) {
	s.t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	var timeout net.Error
	if _, err := io.Copy(io.Discard, c); errors.As(err, &timeout) && timeout.Timeout() {
		s.t.Errorf("%v was not closed", c.LocalAddr())
	}
}

func TestBothProtocolsAreServed(t *testing.T) {
	s := open(t, Config{})
	for h2, want := range map[bool]string{true: "HTTP/2.0", false: "HTTP/1.1"} {
		if status, body, err := s.get(s.client("127.0.0.1", h2), "/"); err != nil || status != http.StatusOK || body != want {
			t.Errorf("%d %s %v, not %s", status, body, err, want)
		}
	}
	s.become("is empty", func(a, b, c int) bool { return a+b+c == 0 })
}

// TestHealthIsAnsweredWhileEveryPlaceIsTaken: all connections are at work, none of
// which has ended when health was answered; everything else is told to come again,
// and is served once there is room.
func TestHealthIsAnsweredWhileEveryPlaceIsTaken(t *testing.T) {
	const places = 20
	s := open(t, Config{Connections: places, Guests: 4})
	s.work(places)
	for _, h2 := range []bool{false, true} {
		c := s.client("127.0.0.1", h2)
		for range 10 {
			if status, _, err := s.get(c, "/healthz"); err != nil || status != http.StatusOK {
				t.Errorf("health: %d, %v", status, err)
			}
			if status, _, err := s.get(c, "/"); err != nil || status != http.StatusServiceUnavailable {
				t.Errorf("anything else: %d, %v", status, err)
			}
		}
	}
	if _, open, _ := s.counts(); open != places {
		t.Errorf("%d places are taken: nothing was proven", open)
	}
	// Guests who say nothing, however many, are let go for one who asks.
	for range 40 {
		s.shaken("127.0.0.1")
	}
	if status, _, err := s.get(s.client("127.0.0.1", false), "/healthz"); err != nil || status != http.StatusOK {
		t.Errorf("health beside silent guests: %d, %v", status, err)
	}
	guest := s.shaken("127.0.0.1") // who comes first and asks when there is room is served
	s.become("the guest has a place", func(shaking, _, guests int) bool { return shaking == 0 && guests == 4 })
	close(s.goOn)
	s.become("there is room", func(_, open, _ int) bool { return open == 0 })
	if _, err := io.WriteString(guest, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(guest), nil)
	if err != nil || resp.StatusCode != http.StatusOK || resp.Close {
		t.Errorf("the guest: %+v, %v", resp, err)
	}
}

// TestWhoSaysNothingIsLetGo: more connections than there are places, on which
// nothing, or half a request, was said; people are served beside them, and only the
// crowd's own are closed for it.
func TestWhoSaysNothingIsLetGo(t *testing.T) {
	const places = 20
	s := open(t, Config{Connections: places})
	patient := s.shaken("127.0.0.2")
	first := s.shaken("127.0.0.1")
	for i := range 3 * places {
		c := s.shaken("127.0.0.1")
		if i%2 == 0 {
			if _, err := io.WriteString(c, "GET / HT"); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.closed(first)
	for _, from := range []string{"127.0.0.1", "127.0.0.2"} {
		for range 5 {
			if status, _, err := s.get(s.client(from, false), "/"); err != nil || status != http.StatusOK {
				t.Errorf("from %s: %d, %v", from, status, err)
			}
		}
	}
	if _, err := io.WriteString(patient, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if resp, err := http.ReadResponse(bufio.NewReader(patient), nil); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("who was there first, from another address, was let go: %v", err)
	}
}

// TestHandshakesThatAreNotGoneOnWith: silent and half handshakes hold neither a place
// nor a turn.
func TestHandshakesThatAreNotGoneOnWith(t *testing.T) {
	const places = 10
	s := open(t, Config{Handshakes: places, Within: time.Hour})
	first := s.raw("127.0.0.1")
	s.become("the first is there", func(shaking, _, _ int) bool { return shaking == 1 })
	var half []net.Conn
	for i := range 5 * places {
		c := s.raw("127.0.0.1")
		if i%2 == 0 {
			if _, err := c.Write(hello(t)); err != nil { // and no more
				t.Fatal(err)
			}
			half = append(half, c)
		}
	}
	s.closed(first)
	for _, c := range half { // the server has answered, or let it go: who is still worked on keeps the places from the others
		_ = c.SetReadDeadline(time.Now().Add(time.Minute))
		var timeout net.Error
		if _, err := c.Read(make([]byte, 1)); errors.As(err, &timeout) && timeout.Timeout() {
			t.Fatalf("%v was neither answered nor let go", c.LocalAddr())
		}
	}
	s.become("the places are taken by who is waited for", func(shaking, _, _ int) bool { return shaking == places && s.waitedFor() == places })
	for _, from := range []string{"127.0.0.1", "127.0.0.2"} {
		if status, _, err := s.get(s.client(from, false), "/"); err != nil || status != http.StatusOK {
			t.Errorf("from %s: %d, %v", from, status, err)
		}
	}
	if shaking, _, _ := s.counts(); shaking < places-2 {
		t.Errorf("%d handshakes are left: nothing was proven", shaking)
	}
}

// hello is the first flight of a handshake.
func hello(t *testing.T) []byte {
	t.Helper()
	ours, theirs := net.Pipe()
	defer ours.Close()
	go func() { _ = tls.Client(theirs, &tls.Config{InsecureSkipVerify: true}).Handshake() }() // it ends with the pipe
	b := make([]byte, 8<<10)
	n, err := ours.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

// TestAnIdleConnectionIsKeptWhileThereIsRoom: who comes back finds it.
func TestAnIdleConnectionIsKeptWhileThereIsRoom(t *testing.T) {
	s := open(t, Config{})
	c := s.client("127.0.0.1", false)
	c.Transport.(*http.Transport).DisableKeepAlives = false
	reused := 0
	trace := &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
		if i.Reused {
			reused++
		}
	}}
	for range 3 {
		req, err := http.NewRequestWithContext(httptrace.WithClientTrace(context.Background(), trace), http.MethodGet, "https://"+s.address+"/", strings.NewReader(""))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	if reused != 2 {
		t.Errorf("it was used again %d times", reused)
	}
}

// TestAClosedGateLetsNobodyIn: handshakes end with it, and so does Accept.
func TestAClosedGateLetsNobodyIn(t *testing.T) {
	s := open(t, Config{Within: time.Hour})
	c := s.raw("127.0.0.1")
	s.become("it is there", func(shaking, _, _ int) bool { return shaking == 1 })
	if err := s.gate.Close(); err != nil {
		t.Fatal(err)
	}
	s.closed(c)
	if _, err := s.gate.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accepted: %v", err)
	}
	if err := s.gate.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed twice: %v", err)
	}
}
