package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/cloister-os/cloister/test/chaos/history"
	"github.com/cloister-os/cloister/test/kvnode/wire"
)

// problem is a refusal by a node.
type problem struct{ wire.Problem }

func (p *problem) Error() string { return string(p.Kind) + ": " + p.Detail }

// post sends a request and decodes its answer. An error that is not a *problem
// says nothing of what happened.
func post(ctx context.Context, client *http.Client, url string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return json.NewDecoder(resp.Body).Decode(out)
	}
	p := &problem{}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&p.Problem); err != nil || p.Kind == "" {
		return fmt.Errorf("%s: %v", resp.Status, err)
	}
	if resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") == "" {
		return errors.New("a node that sheds does not say when to come back")
	}
	return p
}

// cutShare is how many of a client's connections break before their time.
const cutShare = 0.1

// cutter dials connections of which some break after a random number of bytes in
// either direction: in a handshake, in a request, before an answer, within one.
func cutter(rnd *rand.Rand) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, proto, address string) (net.Conn, error) {
		c, err := (&net.Dialer{Timeout: 3 * time.Second}).DialContext(ctx, proto, address)
		if err != nil || rnd.Float64() >= cutShare {
			return c, err
		}
		left := &atomic.Int64{}
		left.Store(int64(rnd.IntN(8000)))
		return &cutConn{c, left}, nil
	}
}

type cutConn struct {
	net.Conn
	left *atomic.Int64
}

// Write implements net.Conn.
func (c *cutConn) Write(b []byte) (int, error) {
	if left := c.left.Add(-int64(len(b))); left < 0 {
		n, _ := c.Conn.Write(b[:max(0, len(b)+int(left))])
		_ = c.Conn.Close()
		return n, errors.New("the connection was cut")
	}
	return c.Conn.Write(b)
}

// Read implements net.Conn.
func (c *cutConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.left.Add(-int64(n)) < 0 {
		_ = c.Conn.Close()
		return 0, errors.New("the connection was cut")
	}
	return n, err
}

// client does operations, one after the other, and writes its history.
type client struct {
	number int
	c      *Cluster
	rnd    *rand.Rand
	http   *http.Client
	name   string // the beginning of its ids, used once in a history
	ops    int
}

func (c *Cluster) newClient(number int, seed uint64) *client {
	rnd := rand.New(rand.NewPCG(seed, uint64(number)+1000))
	dial := rand.New(rand.NewPCG(seed, uint64(number)+2000))
	trust := c.client.Transport.(*http.Transport).TLSClientConfig.Clone()
	name := fmt.Sprintf("%d.%d", seed%1_000_000, number)
	return &client{number: number, name: name, c: c, rnd: rnd, http: &http.Client{Transport: &http.Transport{
		TLSClientConfig: trust, DialContext: cutter(dial), MaxConnsPerHost: 1, TLSHandshakeTimeout: 3 * time.Second,
	}}}
}

// begin makes the next operation.
func (l *client) begin() *history.Op {
	l.ops++
	if l.ops%20 == 0 {
		l.http.CloseIdleConnections()
	}
	return &history.Op{ID: fmt.Sprintf("%s-%d", l.name, l.ops), Client: l.number}
}

// transact does a transaction, trying again only what surely did not happen, or
// what has an idempotency key.
func (l *client) transact(ctx context.Context, o *history.Op, tx *wire.Tx) {
	o.Tx = tx
	open := false // an earlier try may have happened
	l.try(ctx, o, wire.TxPath, tx, &o.Done, func(err error) bool {
		var p *problem
		if errors.As(err, &p) && p.Kind != wire.Unknown {
			o.Kind = p.Kind
			return p.Kind == wire.Busy || p.Kind == wire.ReadOnly
		}
		if notSent(err) {
			o.Kind = ""
			return true
		}
		open = true
		return tx.Once != ""
	})
	if o.Outcome == history.Refused && open {
		o.Outcome, o.Return = history.Unknown, history.Never
	}
	l.c.history.Add(o)
}

// look does a read, trying again whatever happens.
func (l *client) look(ctx context.Context, o *history.Op, r *wire.Read) bool {
	o.Read = r
	l.try(ctx, o, wire.ReadPath, r, &o.View, func(error) bool { return true })
	if o.Outcome == history.OK {
		l.c.history.Add(o)
	}
	return o.Outcome == history.OK
}

// notSent reports an error that came before anything was sent.
func notSent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

const maxTries = 4

// try sends a request to random nodes. again says of an error whether the next
// may be tried.
func (l *client) try(ctx context.Context, o *history.Op, path string, in, out any, again func(error) bool) {
	o.Call = l.c.history.Now()
	for {
		o.Tries++
		n := l.c.nodes[l.rnd.IntN(len(l.c.nodes))]
		o.Node = n.id
		err := l.once(ctx, n, path, in, out)
		o.Return = l.c.history.Now()
		if err == nil {
			o.Outcome = history.OK
			return
		}
		o.Outcome, o.Why = history.Refused, err.Error()
		if !again(err) || o.Tries >= maxTries || ctx.Err() != nil {
			return
		}
		time.Sleep(time.Duration(l.rnd.IntN(30)) * time.Millisecond)
	}
}

func (l *client) once(ctx context.Context, n *node, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(1500+l.rnd.IntN(4000))*time.Millisecond)
	defer cancel()
	return post(ctx, l.http, n.url()+path, in, out)
}
