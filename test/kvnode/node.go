package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/cloister-os/cloister/node/cluster"
	"github.com/cloister-os/cloister/store/consensus"
)

// node is a running kvnode.
type node struct {
	cfg    config
	log    *slog.Logger
	ca     *authority
	port   *cluster.Port
	store  *consensus.Node
	server *http.Server
	bench  net.Listener // nil = no benchmark is served
	terms  atomic.Int64
	offset atomic.Int64 // of the clock, nanoseconds
	failed chan error   // why the front ended by itself
	done   chan struct{}
}

// open starts in order: certificates, the road to the peers, the store, the front.
func open(ctx context.Context, c config, log *slog.Logger) (_ *node, err error) {
	n := &node{cfg: c, log: log, failed: make(chan error, 1), done: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.close())
		}
	}()
	n.readClock()
	if n.ca, err = openCA(c.ca); err != nil {
		return nil, fmt.Errorf("open the test CA: %w", err)
	}
	if c.peer != "" {
		if err := n.openPort(); err != nil {
			return nil, err
		}
	}
	cfg, err := n.storeConfig()
	if err != nil {
		return nil, err
	}
	if n.store, err = consensus.Open(ctx, cfg); err != nil {
		return nil, err
	}
	go n.countTerms()
	go n.followClock()
	if n.cfg.bench != "" {
		if err := n.serveBench(n.cfg.bench); err != nil {
			return nil, err
		}
	}
	return n, n.serve()
}

// openPort opens the product's peer port under the test's CA.
func (n *node) openPort() error {
	cert, err := n.ca.issue(n.cfg.id)
	if err != nil {
		return err
	}
	n.port, err = cluster.Open(cluster.Config{
		Address: n.cfg.peer, Cluster: testCluster, Node: n.cfg.id, CA: n.ca.cert, Logger: n.log, Program: "kvnode", Now: n.now,
		Certificate: func() (*tls.Certificate, error) { return &cert, nil },
	})
	return err
}

func (n *node) storeConfig() (consensus.Config, error) {
	c := consensus.Config{
		Dir: filepath.Join(n.cfg.dir, "store"), NodeID: n.cfg.id, Logger: n.log, Program: "kvnode",
		Address: n.cfg.peer, Found: n.cfg.found, Now: n.now,
		Stabilize:    300 * time.Millisecond, // tests start many clusters
		ReserveBytes: n.cfg.reserve, QueueBytes: n.cfg.queue, SnapshotEntries: n.cfg.entries,
	}
	if n.port != nil {
		c.Peers = n.port
	}
	if n.cfg.sealed {
		c.Ring = n.ca
	}
	if n.cfg.history > 0 {
		c.Retention = n.cfg.history
		c.Machine.StateKeep, c.Machine.MemtableBytes = n.cfg.history, 2<<20
	}
	if n.cfg.sync != "" {
		d, err := time.ParseDuration(n.cfg.sync)
		if err != nil {
			return c, fmt.Errorf("-sync: %w", err)
		}
		c.SyncEvery = d
	}
	return c, nil
}

func (n *node) serve() error {
	host, _, err := net.SplitHostPort(n.cfg.listen)
	if err != nil {
		return fmt.Errorf("-listen: %w", err)
	}
	cert, err := n.ca.issue(n.cfg.id, net.ParseIP(host))
	if err != nil {
		return err
	}
	l, err := tls.Listen("tcp", n.cfg.listen, &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"},
	})
	if err != nil {
		return err
	}
	n.server = &http.Server{Handler: n.front(), ReadHeaderTimeout: 30 * time.Second, ErrorLog: slog.NewLogLogger(n.log.Handler(), slog.LevelDebug)}
	go func() { n.failed <- n.server.Serve(l) }()
	fmt.Println("https://" + l.Addr().String()) // for whoever started us
	return nil
}

// close stops in reverse.
func (n *node) close() error {
	var err error
	close(n.done)
	if n.bench != nil {
		err = n.bench.Close()
	}
	if n.server != nil {
		err = errors.Join(err, n.server.Close())
	}
	if n.store != nil {
		err = errors.Join(err, n.store.Close())
	}
	if n.port != nil {
		err = errors.Join(err, n.port.Close())
	}
	return err
}

// countTerms counts how often another node, or none, began to lead.
func (n *node) countTerms() {
	for {
		changed := n.store.LeadershipChanged()
		select {
		case <-changed:
			n.terms.Add(1)
		case <-n.done:
			return
		}
		select { // a closed channel that is never replaced is the end of the store
		case <-n.done:
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// now is the node's clock.
func (n *node) now() time.Time { return time.Now().Add(time.Duration(n.offset.Load())) }

// followClock keeps the offset of the clock as its file says.
func (n *node) followClock() {
	for n.cfg.clock != "" {
		n.readClock()
		select {
		case <-n.done:
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (n *node) readClock() {
	if b, err := os.ReadFile(n.cfg.clock); err == nil {
		if d, err := time.ParseDuration(string(b)); err == nil {
			n.offset.Store(int64(d))
		}
	}
}
