package cluster

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloister-os/cloister/store/consensus"
)

// careless is a TLS client that checks nothing.
func careless(raw net.Conn, p *Port, certificate bool) *tls.Conn {
	cfg := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{consensus.RaftProtocol}}
	if certificate {
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return p.cfg.Certificate() }
	}
	return tls.Client(raw, cfg)
}

const renewals = 100

// TestAHundredRenewalsUnderLoadDropNothing renews 60-second certificates a
// hundred times while requests run over lasting connections, over a stream that
// is open all the time, and over new connections. The clock is the test's: it
// goes on by 31 seconds once every worker has made a whole round, so a machine
// under load proves the same.
func TestAHundredRenewalsUnderLoadDropNothing(t *testing.T) {
	w, now := newWorld(t, "one"), &clock{}
	w.life = time.Minute
	a, certA := w.open("node-1", now, nil)
	b, certB := w.open("node-2", now, nil)
	echo(b, consensus.RaftProtocol)
	b.Handle(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }))

	lasting, err := dial(t, a, peer(b, "node-2"), consensus.RaftProtocol)
	if err != nil {
		t.Fatal(err)
	}
	defer lasting.Close()
	if _, err := says(lasting, "x", len("node-1:x")); err != nil {
		t.Fatal(err)
	}
	rounds := []func() error{
		func() error { _, err := says(lasting, "abc", 3); return err },
		func() error { return post(a.Client()) },
		func() error { return post(a.Client()) },
		func() error { return fresh(t, a, b) },
		func() error { return fresh(t, a, b) },
	}
	done := make([]atomic.Int64, len(rounds))
	stop := make(chan struct{})
	var dropped atomic.Int64
	var workers sync.WaitGroup
	for i, round := range rounds {
		workers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := round(); err != nil {
					dropped.Add(1)
					t.Errorf("a request was dropped: %v", err)
					return
				}
				done[i].Add(1)
			}
		})
	}
	for certA.Issued() <= renewals && dropped.Load() == 0 {
		now.advance(31 * time.Second)
		for i := range done {
			for target := done[i].Load() + 2; done[i].Load() < target && dropped.Load() == 0; {
				time.Sleep(100 * time.Microsecond)
			}
		}
	}
	close(stop)
	workers.Wait()
	if certB.Issued() <= renewals/2 {
		t.Errorf("the other side renewed only %d times", certB.Issued())
	}
}

func post(c *http.Client) error {
	res, err := c.Post("http://node-2/", "text/plain", strings.NewReader("load"))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, err = io.ReadAll(res.Body)
	return err
}

// fresh opens a connection of its own.
func fresh(t *testing.T, a, b *Port) error {
	c, err := a.Dial(t.Context(), peer(b, "node-2"), consensus.RaftProtocol)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = says(c, "x", len("node-1:x"))
	return err
}
