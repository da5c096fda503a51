// Package client speaks to the nodes' /api/v1 the way any program can.
//
// It promises: it trusts the profile's certificate authority and no other; an
// error is one sentence that says what to do; a body is bounded; a token is sent
// to the profile's addresses only; a node that is away is no error while another
// one answers; what changes something is sent again only with its idempotency
// key, or when it certainly did not happen; what was written through one node is
// seen through the next. It may import node/api/wire and nothing else of Cloister.
package client

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/cloister-os/cloister/node/api/wire"
)

const (
	maxAnswer = 64 << 20 // bytes of a JSON answer
	maxEvent  = 32 << 20 // bytes of one event
)

// Client speaks to a node, or to any of several that are one installation. It is
// for one goroutine at a time.
type Client struct {
	servers []*url.URL
	at      int // the server that is asked first: the last one that answered
	token   string
	http    *http.Client
	memory  memory
}

// New returns a client for a profile.
func New(p Profile) (*Client, error) {
	c := &Client{token: p.Token}
	for _, address := range p.Servers() {
		u, err := url.Parse(address)
		if err != nil || u.Scheme != "https" || u.Host == "" {
			return nil, fmt.Errorf("%q is not the address of a node: it looks like https://HOST:PORT", address)
		}
		c.servers = append(c.servers, u)
	}
	if len(c.servers) == 0 {
		return nil, fmt.Errorf("%q is not the address of a node: it looks like https://HOST:PORT", p.URL)
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS13}
	if p.CA != "" {
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM([]byte(p.CA)) {
			return nil, errors.New("the certificate authority is not a PEM file: take ca.pem from the node's tls folder")
		}
	}
	dial := 10 * time.Second
	if len(c.servers) > 1 {
		dial = 3 * time.Second
	}
	t := &http.Transport{
		TLSClientConfig: conf, ForceAttemptHTTP2: true, TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: 10 * time.Minute,
		DialContext: (&net.Dialer{Timeout: dial}).DialContext,
		HTTP2:       &http.HTTP2Config{SendPingTimeout: 5 * time.Second, PingTimeout: 5 * time.Second}, // a dead machine says nothing
	}
	c.http = &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // a token follows no redirect
	}}
	c.memory = recall(p)
	for i, s := range c.servers {
		if s.String() == c.memory.Server {
			c.at = i
		}
	}
	return c, nil
}

// Do sends in (nil = no body) as JSON and decodes the answer into out (nil = it
// does not matter).
func (c *Client) Do(ctx context.Context, method, path string, in, out any) error {
	call, err := newCall(method, path, in, "application/json")
	if err != nil {
		return err
	}
	resp, err := c.send(ctx, call)
	if err != nil || resp == nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(out); err != nil {
		return fmt.Errorf("the node's answer cannot be read: %w", err)
	}
	return nil
}

// Stream sends in as JSON and calls f for each event, until the stream ends, f
// returns an error (io.EOF = enough), or the node sends an error. A stream that
// breaks goes on through another node, after the last event that came.
func (c *Client) Stream(ctx context.Context, method, path string, in any, f func(kind string, data []byte) error) error {
	call, err := newCall(method, path, in, "text/event-stream")
	if err != nil {
		return err
	}
	call.began = time.Now()
	for {
		resp, err := c.send(ctx, call)
		if err != nil {
			return err
		}
		var stopped error // by f: nothing may follow
		err = events(resp.Body, func(id, kind string, data []byte) error {
			if kind == "error" {
				return problem(resp.StatusCode, data)
			}
			if id != "" {
				call.last = id
			}
			call.began = time.Now()
			stopped = f(kind, data)
			return stopped
		})
		resp.Body.Close()
		switch {
		case errors.Is(err, io.EOF) || err == nil:
			return nil
		case stopped != nil || ctx.Err() != nil || !call.safe || !broken(err):
			return err
		}
		c.next()
		if !pause(ctx, call.wait(err)) {
			return err
		}
	}
}

// Download sends in as JSON and copies the answer's bytes.
func (c *Client) Download(ctx context.Context, path string, in any, w io.Writer) (int64, error) {
	call, err := newCall(http.MethodPost, path, in, "application/octet-stream")
	if err != nil {
		return 0, err
	}
	resp, err := c.send(ctx, call)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	n, err := io.Copy(w, resp.Body)
	if err != nil {
		return n, fmt.Errorf("the node stopped in the middle of the answer, so what came is not whole: %w", err)
	}
	return n, nil
}

// Put sends bytes once, to the node that answered last, and decodes the answer
// into out.
func (c *Client) Put(ctx context.Context, path string, r io.Reader, size int64, out any) error {
	req, err := c.request(ctx, &call{method: http.MethodPut, path: path, accept: "application/json"}, r)
	if err != nil {
		return err
	}
	req.ContentLength = size
	req.Header.Set("Content-Type", "application/octet-stream")
	resp, err := c.answer(req)
	if err != nil {
		return c.explain(err)
	}
	defer resp.Body.Close()
	return json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(out)
}

// call is one thing that is asked for, however often it is sent.
type call struct {
	method, path, accept string
	body                 []byte // nil = none
	key                  string // the idempotency key
	last                 string // the newest event that came
	safe                 bool   // it may be sent again when nobody knows whether it happened
	began                time.Time
	tries                int
}

func newCall(method, path string, in any, accept string) (*call, error) {
	c := &call{method: method, path: path, accept: accept, safe: repeatable(method, path), began: time.Now()}
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		c.body = b
	}
	if c.safe && method != http.MethodGet && method != http.MethodHead {
		c.key = rand.Text() // without one net/http repeats nothing by itself either
	}
	return c, nil
}

// repeatable reports whether a request may be sent again although an earlier
// sending may have been carried out: it changes nothing, or nothing more the
// second time, or the node knows it by its idempotency key.
func repeatable(method, path string) bool {
	path, _, _ = strings.Cut(path, "?")
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodDelete:
		return true
	case http.MethodPut:
		return strings.HasPrefix(path, "/api/v1/policies/")
	}
	switch path {
	case "/api/v1/ask", "/api/v1/keys", "/api/v1/sources", "/api/v1/login", "/api/v1/logout", "/api/v1/audit/export":
		return true
	}
	return strings.HasPrefix(path, "/api/v1/sources/") && strings.HasSuffix(path, "/sync") || strings.HasSuffix(path, "/accept")
}

func (c *Client) request(ctx context.Context, what *call, body io.Reader) (*http.Request, error) {
	ref, err := url.Parse(what.path)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, what.method, c.servers[c.at].ResolveReference(ref).String(), body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", what.accept)
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if what.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if what.key != "" {
		req.Header.Set("Idempotency-Key", what.key)
	}
	if what.last != "" {
		req.Header.Set("Last-Event-ID", what.last)
	}
	c.memory.remind(req)
	return req, nil
}

// answer sends a request to one server, once.
func (c *Client) answer(req *http.Request) (*http.Response, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	c.memory.note(req, resp, c.servers[c.at])
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		return nil, &refused{problem(resp.StatusCode, b), resp.StatusCode, typeOf(b), retryAfter(resp.Header)}
	}
	return resp, nil
}

func (c *call) reader() io.Reader {
	if c.body == nil {
		return nil
	}
	return bytes.NewReader(c.body)
}

// problem reads an error as the node sent it.
func problem(status int, body []byte) error {
	p := &wire.Problem{}
	if err := json.Unmarshal(body, p); err != nil || p.Title == "" {
		return fmt.Errorf("the node answered with status %d and no reason", status)
	}
	if p.Status == http.StatusUnprocessableEntity && len(p.Errors) > 0 {
		p.Detail = fmt.Sprintf("%s: %s", strings.TrimPrefix(p.Errors[0].Location, "body."), p.Errors[0].Message)
	}
	return p
}

// events reads server-sent events.
func events(r io.Reader, f func(id, kind string, data []byte) error) error {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 64<<10), maxEvent)
	id, kind, data := "", "message", []byte(nil)
	for s.Scan() {
		line := s.Text()
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "" && data != nil:
			if err := f(id, kind, data); err != nil {
				return err
			}
			id, kind, data = "", "message", nil
		case field == "id":
			id = value
		case field == "event":
			kind = value
		case field == "data":
			data = append(data, value...)
		}
	}
	if err := s.Err(); err != nil {
		return &cutError{err}
	}
	return nil
}
