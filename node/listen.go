package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/cloister-os/cloister/auth/seal"
	"github.com/cloister-os/cloister/node/webcert"
)

// Bounds of the listener; those of its connections are the gate's.
const (
	headerWait     = 10 * time.Second
	idleWait       = 2 * time.Minute
	maxHeaderBytes = 32 << 10
)

// listen takes the address, so that a port in use is known before anything
// else starts; who connects waits until serve.
func listen(address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	switch {
	case err == nil:
		return l, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("the address %s is in use: stop what uses it, or choose another with --listen", address)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("the address %s may not be used by this account: choose a port above 1023 with --listen", address)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("the address %s is not one of this machine: choose another with --listen", address)
	}
	return nil, fmt.Errorf("the address %s cannot be used: %w", address, err)
}

// webTLS is the node's side of every connection from people and programs.
func (n *Node) webTLS() (*tls.Config, error) {
	host := reached(n.cfg.Listen, n.place.Address)
	names, ips := split(append([]string{host, n.place.Service}, n.cfg.Names...))
	if a, ok := n.listener.Addr().(*net.TCPAddr); ok && a.IP.IsUnspecified() {
		ips = append(ips, interfaceIPs()...)
	}
	own, err := n.ca.NodeCert(seal.Identity{Names: names, IPs: ips}, n.certLife, nil)
	if err != nil {
		return nil, fmt.Errorf("make the node's certificate: %w", err)
	}
	n.web = webcert.New(webcert.Config{
		Internal: own.Get, Sealer: n.keys, Copy: n.disk.web(), Names: n.served(host), Logger: n.log,
	})
	return &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: n.web.Get, NextProtos: []string{"h2", "http/1.1"}}, nil
}

// served is what people reach the service by, for the organisation's certificate:
// the service's name and what the configuration adds, or else this node's host.
func (n *Node) served(host string) []string {
	var out []string
	for _, name := range append([]string{n.place.Service}, n.cfg.Names...) {
		if name != "" {
			out = append(out, name)
		}
	}
	if len(out) == 0 && host != "" {
		out = append(out, host)
	}
	return out
}

// split tells host names and addresses apart.
func split(list []string) (names []string, ips []net.IP) {
	for _, n := range list {
		if ip := net.ParseIP(n); ip != nil {
			ips = append(ips, ip)
		} else if n != "" {
			names = append(names, n)
		}
	}
	return names, ips
}

func baseContext(ctx context.Context) func(net.Listener) context.Context {
	return func(net.Listener) context.Context { return ctx }
}

func interfaceIPs() []net.IP {
	var out []net.IP
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsUnspecified() {
			out = append(out, n.IP)
		}
	}
	return out
}

// reached is the host that people reach the node by: the one it listens on, and
// where that is all of the machine's, the one that other nodes reach it by; "" when
// there is none.
func reached(listen, peer string) string {
	host, _, _ := net.SplitHostPort(listen)
	if host != "" && !net.ParseIP(host).IsUnspecified() {
		return host
	}
	if host, _, err := net.SplitHostPort(peer); err == nil {
		return host
	}
	return ""
}

// server answers with h. Bodies have their deadline from api.Shell.
func server(h http.Handler, c *tls.Config, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: h, TLSConfig: c, ReadHeaderTimeout: headerWait, IdleTimeout: idleWait,
		MaxHeaderBytes: maxHeaderBytes, ErrorLog: slog.NewLogLogger(quiet{log.Handler()}, slog.LevelDebug),
	}
}

// quiet keeps what strangers cause (failed handshakes) out of everybody's log.
type quiet struct{ slog.Handler }

// Handle implements slog.Handler.
func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "TLS handshake") || strings.Contains(r.Message, io.EOF.Error()) {
		return nil
	}
	return q.Handler.Handle(ctx, r)
}
