package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cloister-os/cloister/node/api/wire"
)

// Bounds of trying again.
const (
	tryFor   = 30 * time.Second // one call, counted anew from each event of a stream
	maxPause = 5 * time.Second
)

// refused is a node's answer that is no success.
type refused struct {
	problem error
	status  int
	kind    string        // the problem's type
	after   time.Duration // what it says to wait; 0 = nothing
}

func (r *refused) Error() string { return r.problem.Error() }

func (r *refused) Unwrap() error { return r.problem }

// cutError is an answer that ended before its end.
type cutError struct{ err error }

func (e *cutError) Error() string {
	return fmt.Sprintf("the node stopped in the middle of its answer: %v", e.err)
}

func (e *cutError) Unwrap() error { return e.err }

// send sends a call until a node answers it, as long as that can do no harm. It
// returns nothing when an earlier sending of a deletion had done it.
func (c *Client) send(ctx context.Context, what *call) (*http.Response, error) {
	maybe := false // an earlier sending may have been carried out
	for {
		what.tries++
		req, err := c.request(ctx, what, what.reader())
		if err != nil {
			return nil, err
		}
		resp, err := c.answer(req)
		if err == nil {
			return resp, nil
		}
		var no *refused
		if errors.As(err, &no) && no.status == http.StatusNotFound && maybe && what.method == http.MethodDelete {
			return nil, nil
		}
		again, happened := c.verdict(err)
		maybe = maybe || happened
		if !again || happened && !what.safe || ctx.Err() != nil || time.Since(what.began) > tryFor {
			return nil, c.explain(err)
		}
		wait := what.wait(err)
		c.next()
		if what.tries < len(c.servers) {
			wait = 0 // the others may be well
		}
		if !pause(ctx, wait) {
			return nil, c.explain(err)
		}
	}
}

// verdict says of a failure whether there is a point in sending the request
// again, and whether it may have been carried out.
func (c *Client) verdict(err error) (again, happened bool) {
	var no *refused
	if errors.As(err, &no) {
		switch {
		case no.kind == "urn:cloister:unknown":
			return true, true
		case no.kind == "urn:cloister:read-only":
			return len(c.servers) > 1, false
		case no.status == http.StatusServiceUnavailable && no.kind != "":
			return no.after > 0, false
		case no.status == http.StatusServiceUnavailable || no.status == http.StatusBadGateway && no.kind == "" || no.status == http.StatusGatewayTimeout && no.kind == "":
			return true, true // of something between us and the node
		}
		return false, false
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return len(c.servers) > 1 || !errors.Is(err, syscall.ECONNREFUSED) && !noHost(err) || c.memory.answered, false
	}
	var cert *tls.CertificateVerificationError
	if errors.As(err, &cert) {
		return len(c.servers) > 1, false
	}
	return true, true
}

func noHost(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns)
}

// broken reports whether a stream ended for a reason that another one may not
// have.
func broken(err error) bool {
	var cut *cutError
	var p *wire.Problem
	return errors.As(err, &cut) || errors.As(err, &p) && p.Status == http.StatusServiceUnavailable
}

// next goes over to the next server.
func (c *Client) next() { c.at = (c.at + 1) % len(c.servers) }

// wait is how long to wait before the next try: what the node said, else longer
// each time, and never the same for all.
func (c *call) wait(err error) time.Duration {
	d := min(100*time.Millisecond<<min(c.tries, 6), maxPause)
	var no *refused
	if errors.As(err, &no) && no.after > 0 {
		d = min(no.after, maxPause)
	}
	return d/2 + rand.N(d/2+1)
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// typeOf is the type of a problem as a node sends it; "" = it is none of ours.
func typeOf(body []byte) string {
	var p wire.Problem
	if json.Unmarshal(body, &p) != nil || p.Title == "" {
		return ""
	}
	if p.Type == "" {
		return "about:blank"
	}
	return p.Type
}

func retryAfter(h http.Header) time.Duration {
	n, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || n < 0 {
		return 0
	}
	return time.Duration(n) * time.Second
}

// where names the servers for people.
func (c *Client) where() string {
	var list []string
	for _, s := range c.servers {
		list = append(list, s.String())
	}
	return strings.Join(list, ", ")
}

// explain turns a failure to reach a node into a sentence that says what to do.
func (c *Client) explain(err error) error {
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var no *refused
	switch {
	case errors.As(err, &no):
		return no.problem
	case errors.Is(err, context.Canceled):
		return errors.New("interrupted")
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no node answers at %s: start it with `cloister serve`, or say where it is with CLOISTER_SERVER", c.where())
	case errors.As(err, &authority):
		return fmt.Errorf("the certificate of %s is not of the authority in this profile: sign in again with --ca and the node's ca.pem", c.where())
	case errors.As(err, &name):
		return fmt.Errorf("the certificate of %s is for other names: use one of them, or add this one with names in the node's configuration", c.where())
	}
	var inner *url.Error
	if errors.As(err, &inner) {
		err = inner.Err
	}
	return fmt.Errorf("%s cannot be reached: %w", c.where(), err)
}
