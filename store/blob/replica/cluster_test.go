package replica_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/blob"
	"github.com/cloister-os/cloister/store/blob/blobtest"
	"github.com/cloister-os/cloister/store/blob/exchange"
	"github.com/cloister-os/cloister/store/blob/replica"
	"github.com/cloister-os/cloister/store/storetest"
)

// notes is a space whose values are the hash that they refer to.
const notes store.Space = "H/note/"

func referencers() []blob.Referencer {
	return []blob.Referencer{{Prefix: notes.Prefix(), Refs: func(item store.Item) ([]blob.Hash, error) {
		if len(item.Value) != len(blob.Hash{}) {
			return nil, errors.New("what is this?")
		}
		return []blob.Hash{blob.Hash(item.Value)}, nil
	}}}
}

// cluster is some nodes with one replicated state.
type cluster struct {
	t     testing.TB
	net   *blobtest.Network
	store *storetest.Model
	nodes []*node
	log   *record
}

type node struct {
	*blobtest.Node
	*replica.Replica
	dir  string
	stop func()
}

// record keeps what was logged.
type record struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (r *record) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(b)
}

func (r *record) has(s string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Contains(r.text.String(), s)
}

// membership is three voters, the first of which leads.
type membership struct {
	c     *cluster
	leads bool
}

func (m membership) Voters() int { return len(m.c.nodes) }
func (m membership) Leads() bool { return m.leads }

// short are times that a test can wait for.
func short() replica.Config {
	return replica.Config{Grace: time.Millisecond, Lease: time.Hour, Every: 200 * time.Millisecond, Collect: time.Hour, ScrubBytes: -1}
}

func newCluster(t testing.TB, n int, cfg replica.Config) *cluster {
	t.Helper()
	c := &cluster{t: t, net: blobtest.NewNetwork(), store: storetest.NewModel(time.Now), log: &record{}}
	for i := range n {
		c.nodes = append(c.nodes, &node{dir: t.TempDir(), Node: nil})
		c.start(i, cfg)
	}
	return c
}

// start starts a node, or starts it again.
func (c *cluster) start(i int, cfg replica.Config) *node {
	c.t.Helper()
	n := c.nodes[i]
	n.Node = c.net.Add(c.t, fmt.Sprint("node-", i+1), n.dir)
	logger := slog.New(slog.NewTextHandler(c.log, nil))
	cfg.Node, cfg.Store, cfg.Blobs, cfg.Client, cfg.Logger = n.Name, c.store, n.Blobs, n.Exchange, logger
	cfg.Cluster, cfg.Referencers = membership{c, i == 0}, referencers()
	r, err := replica.New(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	n.Replica = r
	n.Handle(exchange.NewServer(exchange.ServerConfig{
		Store: n.Blobs, Doubt: r.Doubt, Received: r.Received, Hold: r.Hold, Caller: blobtest.Caller, Logger: logger,
	}))
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() { _ = r.Run(ctx) })
	n.stop = sync.OnceFunc(func() { cancel(); ended.Wait() })
	c.t.Cleanup(n.stop)
	return n
}

// write puts bytes at a node and names them in a note, as every room does.
func (c *cluster) write(i int, note string, b []byte) blob.Hash {
	c.t.Helper()
	h, err := c.tryWrite(i, note, b)
	if err != nil {
		c.t.Fatal(err)
	}
	return h
}

func (c *cluster) tryWrite(i int, note string, b []byte) (blob.Hash, error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	n := c.nodes[i]
	h, err := n.Blobs.PutBytes(ctx, b)
	if err != nil {
		return h, err
	}
	if err := n.Blobs.Secure(ctx, h); err != nil {
		return h, err
	}
	tx := store.NewTx()
	tx.Put(notes.Key(note), h[:])
	n.Blobs.Name(tx, h, int64(len(b)))
	_, err = c.store.Apply(ctx, tx)
	return h, err
}

func (c *cluster) forget(note string) {
	c.t.Helper()
	tx := store.NewTx()
	tx.Delete(notes.Key(note))
	if _, err := c.store.Apply(c.t.Context(), tx); err != nil {
		c.t.Fatal(err)
	}
}

// floor lets nobody read the past any more.
func (c *cluster) floor() {
	c.t.Helper()
	tx := store.NewTx()
	tx.Put(store.RetentionFloor, []byte(store.Number(uint64(c.store.Applied()))))
	if _, err := c.store.Apply(c.t.Context(), tx); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) holders(h blob.Hash) (n int) {
	for _, node := range c.nodes {
		if node.Blobs.Has(h) {
			n++
		}
	}
	return n
}

// soon waits for something that happens by itself.
func soon(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(90 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never came about that %s", what)
		}
	}
}

func random(n int, seed uint64) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)}).Read(b)
	return b
}
