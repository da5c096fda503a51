package bulk

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
	password = "correct horse battery staple"
	patience = 4 * time.Minute // for anything that must happen
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

// cluster is three nodes and an administrator who is signed in to the first.
type cluster struct {
	t      testing.TB
	binary string
	dir    string
	nodes  []*node
	http   *http.Client
	key    string // of the API
}

type node struct {
	name, listen, peer, data string
	process                  *exec.Cmd
	ended                    chan struct{}
}

func (n *node) url() string { return "https://" + n.listen }

// start starts three nodes that all vote.
func start(t testing.TB) *cluster {
	t.Helper()
	c := &cluster{t: t, binary: program(t), dir: t.TempDir()}
	for i := range 3 {
		name := fmt.Sprint("node-", i+1)
		c.nodes = append(c.nodes, &node{name: name, listen: "localhost:" + port(t), peer: "127.0.0.1:" + port(t), data: filepath.Join(c.dir, name)})
	}
	t.Cleanup(func() {
		for _, n := range c.nodes {
			c.kill(n)
			if t.Failed() {
				b, _ := os.ReadFile(n.data + ".log")
				t.Logf("the log of %s ends with\n%s", n.name, b[max(0, len(b)-3000):])
			}
		}
	})
	c.serve(c.nodes[0])
	c.trust()
	c.ready(c.nodes[0])
	c.run(password+"\n", "setup", "--from", filepath.Join(c.nodes[0].data, "setup.json"), "--user", "ada", "--password-stdin")
	for _, n := range c.nodes[1:] {
		var invitation struct{ Token string }
		c.read(&invitation, "node", "invite", "--json")
		c.run("", "node", "join", invitation.Token, "--data", n.data, "--node", n.name, "--cluster-peer", n.peer)
		c.serve(n)
	}
	c.allVote()
	var key struct{ Secret string }
	c.read(&key, "key", "create", "bulk", "--scope", "model", "--json")
	c.key = key.Secret
	return c
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

// command is the program as the administrator.
func (c *cluster) command(args ...string) *exec.Cmd {
	cmd := exec.Command(c.binary, args...)
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "CLOISTER_") && !strings.HasPrefix(e, "XDG_") && !strings.HasPrefix(e, "HOME=") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Env = append(cmd.Env, "HOME="+c.dir)
	return cmd
}

// serve starts a node.
func (c *cluster) serve(n *node, flags ...string) {
	c.t.Helper()
	log, err := os.OpenFile(n.data+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		c.t.Fatal(err)
	}
	defer log.Close()
	n.process = c.command(append([]string{"serve", "--data", n.data, "--listen", n.listen, "--cluster-peer", n.peer, "--log-level", "debug", "--sync-every", "0"}, flags...)...)
	n.process.Stdout, n.process.Stderr = log, log
	if err := n.process.Start(); err != nil {
		c.t.Fatal(err)
	}
	n.ended = make(chan struct{})
	go func(p *exec.Cmd, ended chan struct{}) { _ = p.Wait(); close(ended) }(n.process, n.ended)
}

// kill ends a node without a word.
func (c *cluster) kill(n *node) {
	if n.process == nil {
		return
	}
	_ = n.process.Process.Kill()
	<-n.ended
	n.process = nil
	if c.http != nil {
		c.http.CloseIdleConnections()
	}
}

// trust makes a client that trusts the cluster.
func (c *cluster) trust() {
	c.t.Helper()
	c.soon("the first node has made its authority", func() error {
		pem, err := os.ReadFile(filepath.Join(c.nodes[0].data, "tls", "ca.pem"))
		if err != nil {
			return err
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(pem)
		c.http = &http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
		return nil
	})
}

func (c *cluster) ready(n *node) {
	c.t.Helper()
	c.soon(n.name+" is ready", func() error {
		resp, err := c.http.Get(n.url() + "/readyz")
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

// soon asks until it is so.
func (c *cluster) soon(what string, try func() error) {
	c.t.Helper()
	end := time.Now().Add(patience)
	for err := try(); err != nil; err = try() {
		if time.Now().After(end) {
			c.t.Fatalf("after %v it is not so that %s: %v", patience, what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (c *cluster) try(stdin string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := c.command(args...)
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

func (c *cluster) run(stdin string, args ...string) string {
	c.t.Helper()
	out, err := c.try(stdin, args...)
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

func (c *cluster) read(into any, args ...string) {
	c.t.Helper()
	if err := json.Unmarshal([]byte(c.run("", args...)), into); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) allVote() {
	c.t.Helper()
	c.soon("all nodes vote", func() error {
		out, err := c.try("", "node", "list", "--json")
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
		if voters != len(c.nodes) {
			return errors.New(out)
		}
		return nil
	})
}
