package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cloister-os/cloister/test/bench/load"
)

// system is a replicated store of three processes on this machine, under TLS with
// client certificates, and the load that can be put on it.
type system interface {
	name() string
	start(ctx context.Context, dir string) error
	// drive puts a load on the leader from a process of its own.
	drive(ctx context.Context, j load.Job) (load.Figures, error)
	cpu() time.Duration // what the three processes have used so far
	stop()
}

// procs are a system's three processes.
type procs []*exec.Cmd

func (p *procs) launch(dir, name string, args ...string) error {
	log, err := os.Create(filepath.Join(dir, fmt.Sprintf("log-%d", len(*p))))
	if err != nil {
		return err
	}
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := errors.Join(cmd.Start(), log.Close()); err != nil {
		return err
	}
	*p = append(*p, cmd)
	return nil
}

func (p *procs) stop() {
	for _, c := range *p {
		_ = c.Process.Kill()
		_ = c.Wait()
	}
	*p = nil
}

// cpu reads user and system time, in hundredths of a second, from /proc.
func (p *procs) cpu() (sum time.Duration) {
	for _, c := range *p {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.Process.Pid))
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		fields := strings.Fields(rest)
		for _, f := range fields[11:13] {
			n, _ := strconv.ParseInt(f, 10, 64)
			sum += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return sum
}

// pki is a CA with a certificate for servers and one for clients.
type pki struct{ ca, server, serverKey, client, clientKey string }

func newPKI(dir string) (p pki, err error) {
	at := func(name string) string { return filepath.Join(dir, name) }
	p = pki{at("ca.pem"), at("server.pem"), at("server.key"), at("client.pem"), at("client.key")}
	root, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return p, err
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, &root.PublicKey, root)
	if err != nil {
		return p, err
	}
	if err := writePEM(p.ca, "CERTIFICATE", der); err != nil {
		return p, err
	}
	private, err := x509.MarshalECPrivateKey(root)
	if err != nil {
		return p, err
	}
	// kvnode finds its CA, with its key, in this file and issues its own.
	both := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private})...)
	if err := os.WriteFile(at("ca.both"), both, 0o600); err != nil {
		return p, err
	}
	return p, errors.Join(issue(ca, root, p.server, p.serverKey, 2), issue(ca, root, p.client, p.clientKey, 3))
}

func issue(ca *x509.Certificate, root *ecdsa.PrivateKey, cert, key string, serial int64) error {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "bench"}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, ca, &k.PublicKey, root)
	if err != nil {
		return err
	}
	private, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		return err
	}
	return errors.Join(writePEM(cert, "CERTIFICATE", der), writePEM(key, "EC PRIVATE KEY", private))
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

func (p pki) clientTLS() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(p.client, p.clientKey)
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(p.ca)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(b)
	return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots, MinVersion: tls.VersionTLS13}, nil
}

// freePorts returns n loopback addresses that nobody listens on.
func freePorts(n int) (out []string, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		out = append(out, l.Addr().String())
	}
	return out, nil
}

// until asks again until f is content, at most a minute.
func until(ctx context.Context, what string, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// generator runs a load generator and reads what it prints.
func generator(ctx context.Context, j load.Job, program string, args ...string) (f load.Figures, err error) {
	args = append(args, "-clients", fmt.Sprint(j.Clients), "-bytes", fmt.Sprint(j.Bytes), "-for", j.For.String(), "-name", j.Name, fmt.Sprintf("-reads=%t", j.Reads))
	cmd := exec.CommandContext(ctx, program, args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return f, fmt.Errorf("%s: %w: %s", filepath.Base(program), err, bytes.TrimSpace(errs.Bytes()))
	}
	return f, json.Unmarshal(out, &f)
}

// etcd is Debian's etcd-server, driven by etcd's own client.
type etcd struct {
	procs
	keys    pki
	clients []string
	lead    int
}

func (*etcd) name() string { return "etcd" }

func (e *etcd) start(ctx context.Context, dir string) (err error) {
	if _, err := exec.LookPath("etcd"); err != nil {
		return errors.New("etcd is not installed: apt-get install etcd-server")
	}
	if err := build(ctx, "build/peers/etcdload", "test/bench/etcd", "."); err != nil {
		return err
	}
	if e.keys, err = newPKI(dir); err != nil {
		return err
	}
	ports, err := freePorts(6)
	if err != nil {
		return err
	}
	e.clients = ports[:3]
	var members []string
	for i, p := range ports[3:] {
		members = append(members, fmt.Sprintf("n%d=https://%s", i, p))
	}
	for i := range 3 {
		client, peer := "https://"+ports[i], "https://"+ports[3+i]
		if err := e.launch(dir, "etcd", "--name", fmt.Sprintf("n%d", i), "--data-dir", filepath.Join(dir, fmt.Sprint(i)),
			"--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
			"--initial-cluster", strings.Join(members, ","), "--initial-cluster-token", "bench", "--log-level", "error", "--quota-backend-bytes", "8589934592",
			"--cert-file", e.keys.server, "--key-file", e.keys.serverKey, "--trusted-ca-file", e.keys.ca, "--client-cert-auth",
			"--peer-cert-file", e.keys.server, "--peer-key-file", e.keys.serverKey, "--peer-trusted-ca-file", e.keys.ca, "--peer-client-cert-auth"); err != nil {
			return err
		}
	}
	return until(ctx, "wait for etcd", e.findLeader)
}

func (e *etcd) findLeader() error {
	c, err := e.keys.clientTLS()
	if err != nil {
		return err
	}
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: c}, Timeout: 2 * time.Second}
	defer web.CloseIdleConnections()
	for i, addr := range e.clients {
		r, err := web.Get("https://" + addr + "/metrics")
		if err != nil {
			return err
		}
		lines := bufio.NewScanner(io.LimitReader(r.Body, 8<<20))
		for lines.Scan() {
			if lines.Text() == "etcd_server_is_leader 1" {
				e.lead = i
				_ = r.Body.Close()
				return nil
			}
		}
		_ = r.Body.Close()
	}
	return errors.New("no member leads")
}

func (e *etcd) drive(ctx context.Context, j load.Job) (load.Figures, error) {
	return generator(ctx, j, "build/peers/etcdload", "-server", e.clients[e.lead], "-ca", e.keys.ca, "-cert", e.keys.client, "-key", e.keys.clientKey)
}

// build builds a program of another module folder.
func build(ctx context.Context, out, dir, pkg string) error {
	abs, err := filepath.Abs(out)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", abs, pkg)
	cmd.Dir = dir
	if b, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w: %s", out, err, bytes.TrimSpace(b))
	}
	return nil
}
