// Package rpc carries frames between two nodes over one connection.
//
// It promises: a frame arrives whole, in order and once, or the connection ends;
// no frame is longer than MaxFrame, whatever the other end claims; what waits to
// be written is bounded in bytes; a peer that stops reading or speaking ends the
// connection instead of holding anybody up.
//
// It knows nothing of what the frames mean, and imports nothing of Cloister.
package rpc

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

const (
	// MaxFrame is the largest body of a frame.
	MaxFrame = 1 << 20
	// maxWaiting bounds what waits to be written to a peer that reads slowly.
	maxWaiting = 16 << 20
	// writeWithin is how long the peer may take to accept what is written.
	writeWithin = 10 * time.Second

	headBytes = 4 + 1 + 8 // length of the body, kind, number
)

// ErrClosed is the error of a connection that this end closed.
var ErrClosed = errors.New("the connection is closed")

// Handler is told of each frame, by the goroutine that reads. The body is its
// own. An error ends the connection.
type Handler func(kind byte, id uint64, body []byte) error

// Conn is a connection that carries frames.
type Conn struct {
	conn  net.Conn
	quiet time.Duration // how long the peer may say nothing

	wake chan struct{} // filled when there is something to write
	done chan struct{} // closed at the end

	mu   sync.Mutex // guards all below
	out  []byte
	idle []byte // the other buffer, while nothing is being written
	err  error
}

// New carries frames over c and ends it when the peer says nothing for a while.
func New(c net.Conn, quiet time.Duration) *Conn {
	conn := &Conn{conn: c, quiet: quiet, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go conn.write()
	return conn
}

// Send puts a frame in line. It returns an error when the connection has ended;
// nil says nothing about the frame's arrival.
func (c *Conn) Send(kind byte, id uint64, body []byte) error {
	if len(body) > MaxFrame {
		return fmt.Errorf("a frame of %d bytes where at most %d go", len(body), MaxFrame)
	}
	c.mu.Lock()
	if c.err != nil {
		defer c.mu.Unlock()
		return c.err
	}
	if len(c.out)+len(body) > maxWaiting {
		c.mu.Unlock()
		err := fmt.Errorf("the peer does not read: %d bytes wait for it", maxWaiting)
		c.fail(err)
		return err
	}
	c.out = binary.BigEndian.AppendUint32(c.out, uint32(len(body)))
	c.out = append(c.out, kind)
	c.out = binary.BigEndian.AppendUint64(c.out, id)
	c.out = append(c.out, body...)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return nil
}

// write writes what is in line, all at once.
func (c *Conn) write() {
	for {
		select {
		case <-c.wake:
		case <-c.done:
			return
		}
		c.mu.Lock()
		b := c.out
		c.out, c.idle = c.idle[:0], nil
		c.mu.Unlock()
		if len(b) > 0 {
			err := c.conn.SetWriteDeadline(time.Now().Add(writeWithin))
			if err == nil {
				_, err = c.conn.Write(b)
			}
			if err != nil {
				c.fail(err)
				return
			}
		}
		c.mu.Lock()
		if cap(b) <= MaxFrame {
			c.idle = b[:0]
		}
		c.mu.Unlock()
	}
}

// Read hands each frame to h until the connection ends, and returns why it did.
func (c *Conn) Read(h Handler) error {
	r := bufio.NewReaderSize(deadlined{c.conn, c.quiet}, 64<<10)
	var head [headBytes]byte
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return c.fail(err)
		}
		n := binary.BigEndian.Uint32(head[:])
		if n > MaxFrame {
			return c.fail(fmt.Errorf("a frame of %d bytes where at most %d go: the peer is no node of this program", n, MaxFrame))
		}
		body := make([]byte, n)
		if _, err := io.ReadFull(r, body); err != nil {
			return c.fail(err)
		}
		if err := h(head[4], binary.BigEndian.Uint64(head[5:]), body); err != nil {
			return c.fail(err)
		}
	}
}

// deadlined gives each read its own time.
type deadlined struct {
	net.Conn
	within time.Duration
}

// Read implements io.Reader.
func (d deadlined) Read(b []byte) (int, error) {
	if err := d.SetReadDeadline(time.Now().Add(d.within)); err != nil {
		return 0, err
	}
	return d.Conn.Read(b)
}

// fail ends the connection for a reason and returns the first one.
func (c *Conn) fail(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
		close(c.done)
		c.conn.Close()
	}
	return c.err
}

// Done is closed when the connection has ended.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err is why the connection has ended, nil while it lives.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the connection.
func (c *Conn) Close() { c.fail(ErrClosed) }
