// Package client speaks to a node's /api/v1 the way any program can.
//
// It promises: it trusts the profile's certificate authority and no other; an
// error is one sentence that says what to do; a body is bounded; a token is sent
// to the profile's address only. It may import node/api/wire and nothing else of
// Cloister.
package client

import (
	"bufio"
	"bytes"
	"context"
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
	"syscall"
	"time"

	"github.com/cloister-os/cloister/node/api/wire"
)

const (
	maxAnswer = 64 << 20 // bytes of a JSON answer
	maxEvent  = 32 << 20 // bytes of one event
)

// Client speaks to one node.
type Client struct {
	base  *url.URL
	token string
	http  *http.Client
}

// New returns a client for a profile.
func New(p Profile) (*Client, error) {
	base, err := url.Parse(p.URL)
	if err != nil || base.Scheme != "https" || base.Host == "" {
		return nil, fmt.Errorf("%q is not the address of a node: it looks like https://HOST:PORT", p.URL)
	}
	c := &tls.Config{MinVersion: tls.VersionTLS13}
	if p.CA != "" {
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM([]byte(p.CA)) {
			return nil, errors.New("the certificate authority is not a PEM file: take ca.pem from the node's tls folder")
		}
	}
	t := &http.Transport{
		TLSClientConfig: c, ForceAttemptHTTP2: true, TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: 10 * time.Minute,
		DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
	}
	return &Client{base: base, token: p.Token, http: &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // a token follows no redirect
	}}}, nil
}

// Do sends in (nil = no body) as JSON and decodes the answer into out (nil = it
// does not matter).
func (c *Client) Do(ctx context.Context, method, path string, in, out any) error {
	resp, err := c.send(ctx, method, path, in, "application/json")
	if err != nil {
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
// returns an error (io.EOF = enough), or the node sends an error.
func (c *Client) Stream(ctx context.Context, method, path string, in any, f func(kind string, data []byte) error) error {
	resp, err := c.send(ctx, method, path, in, "text/event-stream")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	err = events(resp.Body, func(kind string, data []byte) error {
		if kind == "error" {
			return problem(resp.StatusCode, data)
		}
		return f(kind, data)
	})
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// Download sends in as JSON and copies the answer's bytes.
func (c *Client) Download(ctx context.Context, path string, in any, w io.Writer) (int64, error) {
	resp, err := c.send(ctx, http.MethodPost, path, in, "application/octet-stream")
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

// Put sends bytes and decodes the answer into out.
func (c *Client) Put(ctx context.Context, path string, r io.Reader, size int64, out any) error {
	req, err := c.request(ctx, http.MethodPut, path, r, "application/json")
	if err != nil {
		return err
	}
	req.ContentLength = size
	req.Header.Set("Content-Type", "application/octet-stream")
	resp, err := c.answer(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(out)
}

func (c *Client) send(ctx context.Context, method, path string, in any, accept string) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	req, err := c.request(ctx, method, path, body, accept)
	if err != nil {
		return nil, err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return c.answer(req)
}

func (c *Client) request(ctx context.Context, method, path string, body io.Reader, accept string) (*http.Request, error) {
	ref, err := url.Parse(path)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base.ResolveReference(ref).String(), body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", accept)
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	return req, nil
}

func (c *Client) answer(req *http.Request) (*http.Response, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.explain(err)
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		return nil, problem(resp.StatusCode, b)
	}
	return resp, nil
}

// explain turns a failure to reach the node into a sentence that says what to do.
func (c *Client) explain(err error) error {
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	switch {
	case errors.Is(err, context.Canceled):
		return errors.New("interrupted")
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no node answers at %s: start it with `cloister serve`, or say where it is with CLOISTER_URL", c.base)
	case errors.As(err, &authority):
		return fmt.Errorf("the certificate of %s is not of the authority in this profile: sign in again with --ca and the node's ca.pem", c.base)
	case errors.As(err, &name):
		return fmt.Errorf("the certificate of %s is for other names: use one of them, or add this one with names in the node's configuration", c.base)
	}
	var inner *url.Error
	if errors.As(err, &inner) {
		err = inner.Err
	}
	return fmt.Errorf("%s cannot be reached: %w", c.base, err)
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
func events(r io.Reader, f func(kind string, data []byte) error) error {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 64<<10), maxEvent)
	kind, data := "message", []byte(nil)
	for s.Scan() {
		line := s.Text()
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "" && data != nil:
			if err := f(kind, data); err != nil {
				return err
			}
			kind, data = "message", nil
		case field == "event":
			kind = value
		case field == "data":
			data = append(data, value...)
		}
	}
	if err := s.Err(); err != nil {
		return fmt.Errorf("the node stopped in the middle of its answer: %w", err)
	}
	return nil
}
