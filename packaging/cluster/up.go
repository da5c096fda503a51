package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// up starts the nodes that do not run and returns when all of them vote.
func (c *cluster) up(ctx context.Context) error {
	for i, m := range c.members {
		if i > 0 && !joined(m) {
			continue
		}
		if err := c.start(m); err != nil {
			return err
		}
	}
	if err := c.wait(ctx, "node-1 to be ready", func() (bool, error) { return c.ready(ctx, c.members[0]) }); err != nil {
		return err
	}
	if err := c.signIn(ctx); err != nil {
		return err
	}
	for _, m := range c.members[1:] {
		if joined(m) {
			continue
		}
		if err := c.join(ctx, m); err != nil {
			return err
		}
		if err := c.start(m); err != nil {
			return err
		}
	}
	if err := c.vote(ctx); err != nil {
		return err
	}
	fmt.Printf("Three nodes vote. See %s; stop them with: make cluster-stop\n", c.file())
	for _, m := range c.members {
		fmt.Printf("  %s  %s  (peers: %s, process %d)\n", m.Name, m.URL, m.Peer, m.PID)
	}
	fmt.Printf("Sign in as the user in %s.\n", c.adminFile())
	return nil
}

// joined reports whether a node has a data folder.
func joined(m *member) bool { return exists(filepath.Join(m.Data, "cluster.json")) }

// start runs a node unless it runs already.
func (c *cluster) start(m *member) error {
	if c.runs(m) {
		return nil
	}
	out, err := os.OpenFile(m.Data+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	args := []string{"serve", "--data", m.Data, "--listen", strings.TrimPrefix(m.URL, "https://"), "--cluster-peer", m.Peer, "--node", m.Name}
	if c.pack != "" && m == c.members[0] {
		args = append(args, "--pack", c.pack)
	}
	cmd := exec.Command(c.binary, args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // it outlives this program
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", c.binary, err)
	}
	m.PID = cmd.Process.Pid
	m.ended = make(chan struct{})
	go func(ended chan struct{}) {
		_ = cmd.Wait() // whether it ended is all that counts
		close(ended)
	}(m.ended)
	return c.write()
}

// ready reports whether a node can serve, or that it ended.
func (c *cluster) ready(ctx context.Context, m *member) (bool, error) {
	if !c.runs(m) {
		return false, fmt.Errorf("%s ended: see %s.log", m.Name, m.Data)
	}
	pem, err := os.ReadFile(filepath.Join(m.Data, "tls", "ca.pem"))
	if err != nil {
		return false, nil // the first thing that a node makes
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.URL+"/readyz", nil)
	if err != nil {
		return false, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return false, nil // not yet
	}
	return resp.StatusCode == http.StatusOK, resp.Body.Close()
}

// runs reports whether a node's process runs: the one that was started here, or
// that of nodes.json if it is the node's.
func (c *cluster) runs(m *member) bool {
	if m.ended != nil {
		select {
		case <-m.ended:
			return false
		default:
			return true
		}
	}
	if m.PID == 0 {
		return false
	}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", m.PID))
	return err == nil && bytes.Contains(line, []byte("\x00serve\x00")) && bytes.Contains(line, []byte("\x00"+m.Data+"\x00"))
}

// command is the program as the administrator, speaking to a node.
func (c *cluster) command(ctx context.Context, m *member, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.binary, args...)
	cmd.Env = append(os.Environ(), "HOME="+c.dir, "XDG_CONFIG_HOME="+filepath.Join(c.dir, "profile"),
		"CLOISTER_CA="+filepath.Join(m.Data, "tls", "ca.pem"))
	return cmd
}

// admin is the first administrator of a cluster that is there to try things out.
type admin struct {
	URL      string `json:"url"`
	CA       string `json:"ca"`
	User     string `json:"user"`
	Password string `json:"password"`
}

func (c *cluster) adminFile() string { return filepath.Join(c.dir, "admin.json") }

// signIn completes the first start, or signs in again.
func (c *cluster) signIn(ctx context.Context) error {
	m := c.members[0]
	ca := filepath.Join(m.Data, "tls", "ca.pem")
	var a admin
	b, err := os.ReadFile(c.adminFile())
	if err == nil {
		err = json.Unmarshal(b, &a)
	}
	args := []string{"login", "--url", m.URL, "--ca", ca, "--user", a.User, "--password-stdin"}
	if errors.Is(err, fs.ErrNotExist) {
		a = admin{URL: m.URL, CA: ca, User: "admin", Password: rand.Text()}
		if b, err = json.MarshalIndent(a, "", "  "); err == nil {
			err = os.WriteFile(c.adminFile(), append(b, '\n'), 0o600)
		}
	}
	if err != nil {
		return err
	}
	if setup := filepath.Join(m.Data, "setup.json"); exists(setup) {
		args = []string{"setup", "--from", setup, "--user", a.User, "--password-stdin"}
	}
	cmd := c.command(ctx, m, args...)
	cmd.Stdin = strings.NewReader(a.Password + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("sign in to %s: %s", m.URL, bytes.TrimSpace(out))
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// join makes a node's data folder.
func (c *cluster) join(ctx context.Context, m *member) error {
	out, err := c.command(ctx, c.members[0], "node", "invite", "--json").Output()
	if err != nil {
		return fmt.Errorf("invite %s: %w", m.Name, told(err))
	}
	var invitation struct{ Token string }
	if err := json.Unmarshal(out, &invitation); err != nil {
		return err
	}
	cmd := c.command(ctx, c.members[0], "node", "join", invitation.Token, "--data", m.Data, "--node", m.Name, "--cluster-peer", m.Peer)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("let %s join: %s", m.Name, bytes.TrimSpace(out))
	}
	return nil
}

// told is what a command said when it failed.
func told(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) && len(exit.Stderr) > 0 {
		return errors.New(strings.TrimSpace(string(exit.Stderr)))
	}
	return err
}

// vote waits until every node votes and answers.
func (c *cluster) vote(ctx context.Context) error {
	return c.wait(ctx, "all three nodes to vote", func() (bool, error) {
		for _, m := range c.members {
			if ready, err := c.ready(ctx, m); !ready || err != nil {
				return false, err
			}
		}
		out, err := c.command(ctx, c.members[0], "node", "list", "--json").Output()
		if err != nil {
			return false, nil // the lead may be changing
		}
		var nodes []struct {
			Role    string
			Healthy bool
		}
		if err := json.Unmarshal(out, &nodes); err != nil {
			return false, err
		}
		voters := 0
		for _, n := range nodes {
			if n.Healthy && (n.Role == "leader" || n.Role == "voter") {
				voters++
			}
		}
		return voters == size, nil
	})
}

// wait asks again and again until it is so, fails, or takes too long.
func (c *cluster) wait(ctx context.Context, what string, so func() (bool, error)) error {
	for {
		done, err := so()
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited in vain for %s: see %s", what, filepath.Join(c.dir, "node-*.log"))
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// stopWithin is how long a node may take to end by itself.
const stopWithin = 15 * time.Second

// down ends the nodes that up started.
func (c *cluster) down(ctx context.Context) error {
	for _, m := range c.members {
		if c.runs(m) {
			_ = syscall.Kill(m.PID, syscall.SIGTERM) // it may just have ended
		}
	}
	late, cancel := context.WithTimeout(ctx, stopWithin)
	defer cancel()
	for _, m := range c.members {
		if err := c.wait(late, m.Name+" to stop", func() (bool, error) { return !c.runs(m), nil }); err != nil {
			fmt.Fprintf(os.Stderr, "cluster: %s does not stop, so it is killed\n", m.Name)
			_ = syscall.Kill(m.PID, syscall.SIGKILL)
		}
		m.PID = 0
	}
	if exists(c.file()) {
		if err := c.write(); err != nil {
			return err
		}
	}
	fmt.Printf("The nodes are stopped; their data stays in %s.\n", c.dir)
	return nil
}
