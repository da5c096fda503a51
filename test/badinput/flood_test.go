package badinput

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	silent = 700 // clients that connect and say nothing
	slow   = 700 // that send a byte of a request's body, and no more
	fast   = 100 // that come again and again, each time anew
	probes = 5   // for each way of asking
)

// TestAFloodDoesNotSilenceHealth: a node in a flood of 1,500 clients is asked how it
// is, each time over a new connection, from the address that the flood comes from and
// from another. No answer is missing, and the flood is there to the end.
func TestAFloodDoesNotSilenceHealth(t *testing.T) {
	n := ready(t)
	host := strings.TrimPrefix(n.setup.URL, "https://")
	_, port, err := net.SplitHostPort(host)
	if err != nil {
		t.Fatal(err)
	}
	f := &flood{t: t, address: "127.0.0.1:" + port}
	f.begin()
	for _, from := range []string{"127.0.0.1", "127.0.0.2"} {
		for _, path := range []string{"/healthz", "/readyz"} {
			took := f.ask(from, path)
			t.Logf("%s from %s: %v, at worst %v", path, from, took[len(took)/2], took[len(took)-1])
		}
	}
	if ended := f.ended.Load(); ended == silent+slow {
		t.Error("everybody who stays was let go or answered before health was: nothing was proven")
	}
	if f.came.Load() == 0 {
		t.Error("nobody came anew: nothing was proven")
	}
	f.end()
	t.Logf("%d came anew", f.came.Load())
	n.eventually("the node answers as before", func() error {
		if a, err := n.try("GET", "/api/v1/status", nil, bearer(n.token())...); err != nil || a.status != http.StatusOK {
			return fmt.Errorf("%d %v", a.status, err)
		}
		return nil
	})
}

// flood is many clients of one node.
type flood struct {
	t           *testing.T
	address     string
	ended, came atomic.Int64 // who stays and was answered or let go; who came anew and was answered
	stop        context.CancelFunc
	clients     sync.WaitGroup
}

// begin returns once those who stay are there.
func (f *flood) begin() {
	ctx, stop := context.WithCancel(f.t.Context())
	f.stop = stop
	f.t.Cleanup(f.end)
	var there sync.WaitGroup
	there.Add(silent + slow)
	for range silent {
		f.clients.Go(func() { f.stays(ctx, &there, sayNothing) })
	}
	for range slow {
		f.clients.Go(func() { f.stays(ctx, &there, sendSlowly) })
	}
	for range fast {
		f.clients.Go(func() { f.comes(ctx) })
	}
	there.Wait()
}

func (f *flood) end() {
	f.stop()
	f.clients.Wait()
}

// stays connects and, until the end, does no more than begin says. Whoever is let go
// for others has stayed as long as a flood may.
func (f *flood) stays(ctx context.Context, there *sync.WaitGroup, begin func(net.Conn) (net.Conn, error)) {
	var c net.Conn
	raw, err := net.Dial("tcp", f.address)
	if err == nil {
		defer raw.Close()
		defer context.AfterFunc(ctx, func() { _ = raw.Close() })()
		c, err = begin(raw)
	}
	there.Done()
	if err == nil {
		_, _ = c.Read(make([]byte, 1)) // until the other side says something, or the end
	}
	f.ended.Add(1)
}

func sayNothing(c net.Conn) (net.Conn, error) { return c, nil }

func sendSlowly(c net.Conn) (net.Conn, error) {
	s := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	_, err := io.WriteString(s, "POST /api/v1/ask HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{")
	return s, err
}

func (f *flood) comes(ctx context.Context) {
	client := f.client("127.0.0.1")
	for ctx.Err() == nil {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+f.address+"/sign-in", nil)
		if err != nil {
			f.t.Error(err)
			return
		}
		if resp, err := client.Do(req); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body) // whatever it is
			resp.Body.Close()
			f.came.Add(1)
		}
	}
}

// client makes a new connection for each request.
func (f *flood) client(from string) *http.Client {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	return &http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true, DialContext: d.DialContext}}
}

// ask asks for a page some times and returns how long the answers took, the quickest
// first.
func (f *flood) ask(from, path string) (took []time.Duration) {
	f.t.Helper()
	client := f.client(from)
	for range probes {
		began := time.Now()
		resp, err := client.Get("https://" + f.address + path)
		if err != nil {
			f.t.Fatalf("%s from %s: %v", path, from, err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			f.t.Errorf("%s from %s: %s", path, from, resp.Status)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return took
}
