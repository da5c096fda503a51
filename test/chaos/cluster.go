// Package chaos runs a cluster of kvnodes as real processes, each on a host of
// its own network and on a disk of its own, does to it what data centres do, and
// asks the histories of its clients whether the store kept its word.
//
// It promises that a seed chooses the faults, their victims and the clients'
// inputs, and that a failure keeps its seed, its history and the nodes' logs in
// build/chaos/<seed>. Tests are short by default; CLOISTER_CHAOS_SEEDS runs many
// seeds of everything (make chaos SEEDS=1000). Nothing asserts a time: what must
// come is waited for.
package chaos

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cloister-os/cloister/store/storetest/powercut"
	"github.com/cloister-os/cloister/test/chaos/history"
	"github.com/cloister-os/cloister/test/chaos/network"
	"github.com/cloister-os/cloister/test/kvnode/wire"
)

// patience is how long anything that must come is waited for. It is long, since
// machines are loaded; who waits in vain has found a fault.
const patience = 3 * time.Minute

// Options are what a cluster is made of.
type Options struct {
	Nodes int
	Disks bool     // power-cut disks in memory instead of folders
	Args  []string // more for each kvnode
}

// Cluster is a cluster of kvnodes.
type Cluster struct {
	t       testing.TB
	binary  string
	dir     string
	ca      string
	net     *network.Network
	nodes   []*node
	history *history.History
	client  *http.Client // of the harness itself: nothing is cut
}

// Start starts a cluster and returns when all its nodes vote.
func Start(t testing.TB, binary string, o Options) *Cluster {
	t.Helper()
	w, err := network.New(o.Nodes)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	c := &Cluster{t: t, binary: binary, dir: t.TempDir(), net: w, history: history.New()}
	c.ca = c.dir
	t.Cleanup(c.stop)
	for i := range o.Nodes {
		c.addNode(i, o)
	}
	if err := c.nodes[0].start(binary, c.ca); err != nil {
		t.Fatal(err)
	}
	c.nodes[0].found = false // it founds once
	c.trust()
	for _, n := range c.nodes[1:] {
		if err := n.start(binary, c.ca); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range c.nodes[1:] {
		c.join(n)
	}
	c.waitVoters(c.nodes...)
	return c
}

func (c *Cluster) addNode(i int, o Options) {
	id := fmt.Sprint("n", i+1)
	n := &node{
		id: id, number: i, host: c.net.Host(i), found: i == 0, args: o.Args,
		dir: filepath.Join(c.dir, id), log: filepath.Join(c.dir, id+".log"), clock: filepath.Join(c.dir, id+".clock"),
	}
	if err := os.Mkdir(n.dir, 0o700); err != nil {
		c.t.Fatal(err)
	}
	if err := n.setClock(0); err != nil {
		c.t.Fatal(err)
	}
	if o.Disks {
		if err := n.remount(c.t, powercut.New()); err != nil {
			c.t.Fatal(err)
		}
	}
	c.nodes = append(c.nodes, n)
}

// trust waits for the CA that the first node makes.
func (c *Cluster) trust() {
	c.t.Helper()
	var pem []byte
	c.until("the test CA is made", func() (err error) {
		pem, err = os.ReadFile(filepath.Join(c.ca, "ca.pem"))
		if err == nil && len(pem) == 0 {
			err = fmt.Errorf("it is empty")
		}
		return err
	})
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		c.t.Fatal("the test CA is not a certificate")
	}
	c.client = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true,
	}}
}

// stop ends all processes.
func (c *Cluster) stop() {
	c.net.Heal()
	for _, n := range c.nodes {
		n.end(syscall.SIGKILL)
	}
}

// until tries until there is no error.
func (c *Cluster) until(what string, try func() error) {
	c.t.Helper()
	if err := wait(c.t.Context(), try); err != nil {
		c.t.Fatalf("after %v it is not so that %s: %v\n%s", patience, what, err, c.tails())
	}
}

func wait(ctx context.Context, try func() error) error {
	deadline := time.Now().Add(patience)
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 250*time.Millisecond) {
		err := try()
		if err == nil || ctx.Err() != nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(pause)
	}
}

func (c *Cluster) tails() string {
	var b strings.Builder
	for _, n := range c.nodes {
		fmt.Fprintf(&b, "==== %s\n%s\n", n.id, n.tail())
	}
	return b.String()
}

// status asks a node how it is.
func (c *Cluster) status(n *node) (wire.Status, error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), 5*time.Second)
	defer cancel()
	return c.glance(ctx, n)
}

func (c *Cluster) glance(ctx context.Context, n *node) (wire.Status, error) {
	var s wire.Status
	err := get(ctx, c.client, n.url()+wire.StatusPath, &s)
	if err == nil {
		c.history.See(s)
	}
	return s, err
}

func get(ctx context.Context, client *http.Client, url string, out any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(out)
}

// admin has any node do what an administrator asks.
func (c *Cluster) admin(a wire.Admin) error {
	var last error
	for _, n := range c.nodes {
		if n.id == a.ID || !n.running() { // one that comes or goes cannot say
			continue
		}
		if last = post(c.t.Context(), c.client, n.url()+wire.AdminPath, a, &struct{}{}); last == nil {
			return nil
		}
	}
	return last
}

// join adds a node that runs to the cluster.
func (c *Cluster) join(n *node) {
	c.t.Helper()
	c.until(n.id+" is added", func() error {
		return c.admin(wire.Admin{Do: "add", ID: n.id, Address: n.address()})
	})
}

// waitVoters waits until every node sees that all of these vote.
func (c *Cluster) waitVoters(want ...*node) {
	c.t.Helper()
	for _, n := range want {
		c.until("all vote as "+n.id+" sees it", func() error {
			s, err := c.status(n)
			if err != nil {
				return err
			}
			if s.Trouble != "" {
				return fmt.Errorf("%s: %s", n.id, s.Trouble)
			}
			voters := 0
			for _, m := range s.Members {
				if m.Voter {
					voters++
				}
			}
			if voters != len(want) {
				return fmt.Errorf("%d of %d vote: %+v", voters, len(want), s.Members)
			}
			return nil
		})
	}
}

// leader is the node that leads, nil when none says so.
func (c *Cluster) leader() *node {
	for _, n := range c.nodes {
		if !n.running() {
			continue
		}
		if s, err := c.status(n); err == nil && s.Leads {
			return n
		}
	}
	return nil
}

// waitLeader waits for a leader.
func (c *Cluster) waitLeader() *node {
	c.t.Helper()
	var l *node
	c.until("a node leads", func() error {
		if l = c.leader(); l == nil {
			return fmt.Errorf("none does")
		}
		return nil
	})
	return l
}

// settle waits until all nodes are at one version with one chain, which they keep,
// and notes them and the logs as the end of the history.
func (c *Cluster) settle() {
	c.t.Helper()
	var before []wire.Status
	c.until("all nodes are at one version with one chain", func() error {
		var now []wire.Status
		for _, n := range c.nodes {
			s, err := c.status(n)
			if err != nil {
				return fmt.Errorf("%s: %w", n.id, err)
			}
			if s.Trouble != "" {
				return fmt.Errorf("%s: %s", n.id, s.Trouble)
			}
			s.Members = nil
			now = append(now, s)
		}
		for i := range now {
			if now[i].Applied != now[0].Applied {
				return fmt.Errorf("%s is at %d, %s at %d", now[0].ID, now[0].Applied, now[i].ID, now[i].Applied)
			}
		}
		old := before
		before = now
		if len(old) == 0 || old[0].Applied != now[0].Applied {
			return fmt.Errorf("version %d is new", now[0].Applied)
		}
		return nil
	})
	c.history.Ends = before
	n := c.nodes[int(before[0].Applied)%len(c.nodes)] // any
	for _, name := range []string{history.TxLog, history.AuditLog} {
		leaves, err := c.leaves(n, name)
		if err != nil {
			c.t.Fatal(err)
		}
		c.history.Logs[name] = leaves
	}
}

// leaves reads a log of a node to its end.
func (c *Cluster) leaves(n *node, name string) ([]wire.Leaf, error) {
	var all []wire.Leaf
	for {
		var page wire.Leaves
		if err := get(c.t.Context(), c.client, fmt.Sprintf("%s%s?name=%s&from=%d", n.url(), wire.LogPath, name, len(all)), &page); err != nil {
			return nil, err
		}
		all = append(all, page.Leaves...)
		if len(page.Leaves) == 0 || uint64(len(all)) >= page.Size {
			return all, nil
		}
	}
}

// others are all nodes but these.
func (c *Cluster) others(not ...*node) []*node {
	return slices.DeleteFunc(slices.Clone(c.nodes), func(n *node) bool { return slices.Contains(not, n) })
}

// restart starts a node that does not run.
func (c *Cluster) restart(n *node) {
	c.t.Helper()
	if n.running() {
		return
	}
	if err := n.start(c.binary, c.ca); err != nil {
		c.t.Fatal(err)
	}
}

// keep copies the history and the logs of a failure to where it can be looked at.
func (c *Cluster) keep(dir string, wrong []string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "wrong.txt"), []byte(strings.Join(wrong, "\n")+"\n"), 0o644); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(dir, "history.jsonl"))
	if err != nil {
		return err
	}
	defer f.Close()
	if err := c.history.Write(f); err != nil {
		return err
	}
	for _, n := range c.nodes {
		b, err := os.ReadFile(n.log)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, n.id+".log"), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}
