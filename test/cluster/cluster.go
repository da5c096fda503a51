// Package cluster starts three real processes and drives them like a person would,
// for tests; its own tests try what may befall a cluster as a whole: a restore
// while it runs, a lost quorum, a bare machine, a new data format.
//
// It promises: every node is its own process with its own folder and ports, and
// ends with the test; a test that failed shows how each node's log ends. It imports
// nothing of Cloister.
package cluster

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	password = "correct horse battery staple" // of ada, the administrator
	patience = 2 * time.Minute                // for anything that must happen
)

// program is the built cloister: that of CLOISTER_BINARY, else of make build, else
// one that is built now.
func program(t testing.TB) string {
	t.Helper()
	if b := os.Getenv("CLOISTER_BINARY"); b != "" {
		return b
	}
	path, err := filepath.Abs("../../build/cloister")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		return path
	}
	path = filepath.Join(t.TempDir(), "cloister")
	if out, err := exec.Command("go", "build", "-o", path, "../../cmd/cloister").CombinedOutput(); err != nil {
		t.Fatalf("build cloister: %v\n%s", err, out)
	}
	return path
}

// Cluster is the nodes and an administrator who is signed in to one of them.
type Cluster struct {
	T      testing.TB
	Binary string
	Dir    string // the administrator's home, and the nodes' folders
	Nodes  []*Node
	HTTP   *http.Client // trusts the cluster; nil until the first node has run

	all []*Node // that ever were
}

// Node is one node.
type Node struct {
	Name, Listen, Peer, Data string

	process *exec.Cmd // nil = not running
	ended   chan struct{}
}

// URL is where people reach the node.
func (n *Node) URL() string { return "https://" + n.Listen }

// Start starts three nodes that all vote.
func Start(t testing.TB) *Cluster {
	t.Helper()
	c := &Cluster{T: t, Binary: program(t), Dir: t.TempDir()}
	t.Cleanup(c.end)
	c.Nodes = []*Node{c.Node("node-1")}
	first := c.Nodes[0]
	c.Serve(first)
	c.Trust(first)
	c.Ready(first)
	c.Run(password+"\n", "setup", "--from", filepath.Join(first.Data, "setup.json"), "--user", "ada", "--password-stdin")
	c.Join(c.Node("node-2"), c.Node("node-3"))
	return c
}

// end kills what still runs.
func (c *Cluster) end() {
	for _, n := range c.all {
		c.Kill(n)
		if c.T.Failed() {
			c.T.Logf("the log of %s ends with\n%s", n.Name, tail(c.Log(n), 3000))
		}
	}
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// Log is what a node has written.
func (c *Cluster) Log(n *Node) string {
	b, _ := os.ReadFile(n.Data + ".log") // a node that never started has none
	return string(b)
}

// Node is a node with a folder, a port for people and one for peers, that is not
// in the cluster yet.
func (c *Cluster) Node(name string) *Node {
	c.T.Helper()
	n := &Node{Name: name, Listen: "localhost:" + port(c.T), Peer: "127.0.0.1:" + port(c.T), Data: filepath.Join(c.Dir, name)}
	c.all = append(c.all, n)
	return n
}

// Join has nodes join the cluster, and waits until all vote.
func (c *Cluster) Join(nodes ...*Node) {
	c.T.Helper()
	for _, n := range nodes {
		var invitation struct{ Token string }
		c.Read(&invitation, "node", "invite", "--json")
		c.Run("", "node", "join", invitation.Token, "--data", n.Data, "--node", n.Name, "--cluster-peer", n.Peer)
		c.Serve(n)
		c.Nodes = append(c.Nodes, n)
	}
	c.AllVote()
}

// SignIn signs the administrator in to a node.
func (c *Cluster) SignIn(n *Node) {
	c.T.Helper()
	c.Run(password+"\n", "login", "--url", n.URL(), "--ca", filepath.Join(n.Data, "tls", "ca.pem"), "--user", "ada", "--password-stdin")
}

func port(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// Command is the program as the administrator.
func (c *Cluster) Command(args ...string) *exec.Cmd {
	cmd := exec.Command(c.Binary, args...)
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "CLOISTER_") && !strings.HasPrefix(e, "XDG_") && !strings.HasPrefix(e, "HOME=") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Env = append(cmd.Env, "HOME="+c.Dir)
	return cmd
}

// Serve starts a node.
func (c *Cluster) Serve(n *Node, flags ...string) {
	c.T.Helper()
	log, err := os.OpenFile(n.Data+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		c.T.Fatal(err)
	}
	defer log.Close()
	n.process = c.Command(append([]string{"serve", "--data", n.Data, "--listen", n.Listen, "--cluster-peer", n.Peer, "--log-level", "debug", "--sync-every", "0"}, flags...)...)
	n.process.Stdout, n.process.Stderr = log, log
	if err := n.process.Start(); err != nil {
		c.T.Fatal(err)
	}
	n.ended = make(chan struct{})
	go func(p *exec.Cmd, ended chan struct{}) { _ = p.Wait(); close(ended) }(n.process, n.ended)
}

// Kill ends a node without a word.
func (c *Cluster) Kill(n *Node) {
	if n.process == nil {
		return
	}
	_ = n.process.Process.Kill()
	<-n.ended
	n.process = nil
	if c.HTTP != nil {
		c.HTTP.CloseIdleConnections()
	}
}

// Trust makes a client that trusts the cluster of a node.
func (c *Cluster) Trust(n *Node) {
	c.T.Helper()
	c.Soon(n.Name+" has made its authority", func() error {
		pem, err := os.ReadFile(filepath.Join(n.Data, "tls", "ca.pem"))
		if err != nil {
			return err
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(pem)
		c.HTTP = &http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
		return nil
	})
}

// Ready waits until a node can serve.
func (c *Cluster) Ready(n *Node) {
	c.T.Helper()
	c.Soon(n.Name+" is ready", func() error {
		resp, err := c.HTTP.Get(n.URL() + "/readyz")
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	})
}

// Soon asks until it is so.
func (c *Cluster) Soon(what string, try func() error) {
	c.T.Helper()
	end := time.Now().Add(patience)
	for err := try(); err != nil; err = try() {
		if time.Now().After(end) {
			c.T.Fatalf("after %v it is not so that %s: %v", patience, what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Try runs the program as the administrator and returns what it printed.
func (c *Cluster) Try(stdin string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := c.Command(args...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		return "", err
	}
	defer context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })()
	if err := cmd.Wait(); err != nil {
		return "", fmt.Errorf("cloister %q: %w: %s", args, err, errs.String())
	}
	return out.String(), nil
}

// Run is Try for what must not fail.
func (c *Cluster) Run(stdin string, args ...string) string {
	c.T.Helper()
	out, err := c.Try(stdin, args...)
	if err != nil {
		c.T.Fatal(err)
	}
	return out
}

// Read decodes the JSON that a command prints.
func (c *Cluster) Read(into any, args ...string) {
	c.T.Helper()
	if err := json.Unmarshal([]byte(c.Run("", args...)), into); err != nil {
		c.T.Fatal(err)
	}
}

// AllVote waits until all nodes vote and are well.
func (c *Cluster) AllVote() {
	c.T.Helper()
	c.Soon("all nodes vote", func() error {
		out, err := c.Try("", "node", "list", "--json")
		if err != nil {
			return err
		}
		var list []struct {
			Role    string
			Healthy bool
		}
		if err := json.Unmarshal([]byte(out), &list); err != nil {
			return err
		}
		voters := 0
		for _, n := range list {
			if n.Healthy && (n.Role == "leader" || n.Role == "voter") {
				voters++
			}
		}
		if voters != len(c.Nodes) {
			return errors.New(out)
		}
		return nil
	})
}
