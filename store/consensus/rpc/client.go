package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Kinds of frames that answer; the peer's own kinds are all others.
const (
	Answer  byte = 0 // its number is the question's
	Refusal byte = 1 // its body is a sentence
)

// maxCalls bounds the questions of one connection that wait for their answers.
const maxCalls = 64 << 10

// RefusedError is a question that the peer refused.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return e.Reason }

// Client asks questions over a connection.
type Client struct {
	*Conn

	mu    sync.Mutex // guards all below
	next  uint64
	calls map[uint64]func([]byte, error)
}

// NewClient asks over c. What the peer says unasked goes to h. end is called when
// the connection has ended, after every question got its answer or its error.
func NewClient(c net.Conn, quiet time.Duration, h Handler, end func(error)) *Client {
	cl := &Client{Conn: New(c, quiet), calls: map[uint64]func([]byte, error){}}
	go func() {
		err := cl.Read(func(kind byte, id uint64, body []byte) error {
			if kind > Refusal {
				return h(kind, id, body)
			}
			cl.answer(kind, id, body)
			return nil
		})
		cl.cancel(err)
		end(err)
	}()
	return cl
}

// Ask sends a question; done is called once, with its answer or an error, by the
// goroutine that reads.
func (c *Client) Ask(kind byte, body []byte, done func([]byte, error)) {
	c.mu.Lock()
	if c.calls == nil || len(c.calls) >= maxCalls {
		ended := c.calls == nil
		c.mu.Unlock()
		if ended {
			done(nil, c.Err())
		} else {
			done(nil, fmt.Errorf("%d questions wait for this peer's answers", maxCalls))
		}
		return
	}
	c.next++
	id := c.next
	c.calls[id] = done
	c.mu.Unlock()
	if err := c.Send(kind, id, body); err != nil {
		if f := c.take(id); f != nil {
			f(nil, err)
		}
	}
}

// Call asks and waits for the answer.
func (c *Client) Call(ctx context.Context, kind byte, body []byte) ([]byte, error) {
	type result struct {
		body []byte
		err  error
	}
	got := make(chan result, 1)
	c.Ask(kind, body, func(b []byte, err error) { got <- result{b, err} })
	select {
	case r := <-got:
		return r.body, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (c *Client) take(id uint64) func([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.calls[id]
	delete(c.calls, id)
	return f
}

func (c *Client) answer(kind byte, id uint64, body []byte) {
	f := c.take(id)
	switch {
	case f == nil:
	case kind == Refusal:
		f(nil, &RefusedError{string(body)})
	default:
		f(body, nil)
	}
}

// cancel answers what was asked with the connection's error.
func (c *Client) cancel(err error) {
	c.mu.Lock()
	calls := c.calls
	c.calls = nil
	c.mu.Unlock()
	for _, f := range calls {
		f(nil, errors.Join(errors.New("the connection broke"), err))
	}
}
