package upgrade

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cloister-os/cloister/test/kvnode/wire"
)

// patience bounds every wait: a loaded machine is slow, not wrong.
const patience = 2 * time.Minute

// cluster is three test nodes, each running one program or another.
type cluster struct {
	t     testing.TB
	ca    string
	nodes []*process
	http  *http.Client
}

// process is a node.
type process struct {
	c            *cluster
	id, dir      string
	listen, peer string
	binary       string
	found        bool

	cmd    *exec.Cmd // nil = not running
	ended  chan struct{}
	stderr bytes.Buffer // of the last run; read once it has ended
}

// lone is a cluster that has no node yet.
func lone(t testing.TB) *cluster {
	c := &cluster{t: t, ca: t.TempDir(), http: &http.Client{
		// The nodes' certificates are of a CA made for this test, on this machine.
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, MaxIdleConnsPerHost: 16}, Timeout: 30 * time.Second,
	}}
	t.Cleanup(func() {
		for _, p := range c.nodes {
			p.end(syscall.SIGKILL)
		}
	})
	return c
}

func newCluster(t testing.TB, binary string) *cluster {
	c := lone(t)
	for i := range 3 {
		p := &process{c: c, id: fmt.Sprint("n", i+1), dir: t.TempDir(), listen: freePort(t), peer: freePort(t), binary: binary, found: i == 0}
		c.nodes = append(c.nodes, p)
	}
	c.nodes[0].start()
	c.until("the first node leads", func() error { return c.nodes[0].serves() })
	for _, p := range c.nodes[1:] {
		p.start()
		c.until("node "+p.id+" is let in", func() error {
			return c.post(c.nodes[0], wire.AdminPath, wire.Admin{Do: "add", ID: p.id, Address: p.peer}, nil)
		})
	}
	c.settle()
	return c
}

func freePort(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (p *process) start() {
	p.c.t.Helper()
	args := []string{"-dir", p.dir, "-id", p.id, "-ca", p.c.ca, "-listen", p.listen, "-reserve", "-1"}
	if p.peer != "" {
		args = append(args, "-peer", p.peer, "-sealed")
	}
	if p.found {
		args = append(args, "-found")
	}
	p.stderr.Reset()
	p.cmd = exec.Command(p.binary, args...)
	p.cmd.Stderr = &p.stderr
	if err := p.cmd.Start(); err != nil {
		p.c.t.Fatal(err)
	}
	p.ended = make(chan struct{})
	go func(cmd *exec.Cmd, ended chan struct{}) { _ = cmd.Wait(); close(ended) }(p.cmd, p.ended)
}

// end stops the node and waits for it.
func (p *process) end(s syscall.Signal) {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGCONT) // it may have ended by itself
	_ = p.cmd.Process.Signal(s)
	<-p.ended
	p.cmd = nil
}

// becomes replaces the node's program, killing the node.
func (p *process) becomes(binary string) {
	p.end(syscall.SIGKILL)
	p.binary = binary
	p.start()
}

func (p *process) serves() error {
	select {
	case <-p.ended:
		return fmt.Errorf("it ended: %s", p.said())
	default:
	}
	var s wire.Status
	if err := p.c.get(p, wire.StatusPath, &s); err != nil {
		return err
	}
	if s.Trouble != "" {
		return errors.New(s.Trouble)
	}
	return nil
}

// until polls.
func (c *cluster) until(what string, try func() error) {
	c.t.Helper()
	err := errors.New("not tried")
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	c.t.Fatalf("it never came about that %s: %v", what, err)
}

// settle waits until all nodes vote, serve and have decided the same.
func (c *cluster) settle() {
	c.t.Helper()
	c.until("three nodes vote and agree", func() error {
		chains := map[string]string{}
		for _, p := range c.nodes {
			var s wire.Status
			if err := c.get(p, wire.StatusPath, &s); err != nil {
				return err
			}
			voters := 0
			for _, m := range s.Members {
				if m.Voter {
					voters++
				}
			}
			if s.Trouble != "" || voters != 3 {
				return fmt.Errorf("%s: %d voters, %s", p.id, voters, s.Trouble)
			}
			chains[fmt.Sprint(s.Applied, " ", s.Chain)] = p.id
		}
		if len(chains) != 1 {
			return fmt.Errorf("chains %v", chains)
		}
		return nil
	})
}

// leader is the node that leads, or the first.
func (c *cluster) leader() *process {
	for _, p := range c.nodes {
		var s wire.Status
		if c.get(p, wire.StatusPath, &s) == nil && s.Leads {
			return p
		}
	}
	return c.nodes[0]
}

func (c *cluster) get(p *process, path string, out any) error {
	return c.do(http.MethodGet, p, path, nil, out)
}

func (c *cluster) post(p *process, path string, in, out any) error {
	return c.do(http.MethodPost, p, path, in, out)
}

func (c *cluster) do(method string, p *process, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	b, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, "https://"+p.listen+path, bytes.NewReader(b))
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err = io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", bytes.TrimSpace(b))
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(b, out)
}

// workload writes through all nodes until it is told to stop. Each write has an
// idempotency key and is repeated until it is acknowledged, so each must be there
// once in the end.
type workload struct {
	c    *cluster
	stop chan struct{}
	wg   sync.WaitGroup
	mu   sync.Mutex
	done int64
}

const workers = 6

func (c *cluster) work() *workload {
	w := &workload{c: c, stop: make(chan struct{})}
	run := fmt.Sprint(time.Now().UnixNano())
	for i := range workers {
		w.wg.Go(func() { w.worker(run, i) })
	}
	return w
}

func (w *workload) worker(run string, i int) {
	for n := 0; ; n++ {
		id := fmt.Sprintf("%s-%d-%d", run, i, n)
		tx := wire.Tx{
			Once: id, Puts: []wire.Put{{Key: "H/kv/" + id, Value: id}}, Appends: []wire.Append{{Log: "work", Leaf: id}},
			Adds: []wire.Add{{Counter: "S/kv/count", Delta: 1, Limit: 1 << 40}},
		}
		for try := i + n; w.c.post(w.c.nodes[try%3], wire.TxPath, tx, nil) != nil; try++ {
			time.Sleep(20 * time.Millisecond)
		}
		w.mu.Lock()
		w.done++
		w.mu.Unlock()
		select {
		case <-w.stop:
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// more waits until so many more writes were acknowledged.
func (w *workload) more(n int64) {
	w.c.t.Helper()
	count := func() int64 { w.mu.Lock(); defer w.mu.Unlock(); return w.done }
	want := count() + n
	w.c.until(fmt.Sprintf("%d more writes are acknowledged", n), func() error {
		if have := count(); have < want {
			return fmt.Errorf("%d of %d", have, want)
		}
		return nil
	})
}

// end stops writing, checks that everything acknowledged is on every node, once,
// and returns how much that is.
func (w *workload) end(before int64) int64 {
	w.c.t.Helper()
	close(w.stop)
	w.wg.Wait()
	w.c.settle()
	want := before + w.done
	for _, p := range w.c.nodes {
		var v wire.View
		w.c.until("node "+p.id+" is read", func() error {
			return w.c.post(p, wire.ReadPath, wire.Read{Prefixes: []string{"H/kv/"}, Counters: []string{"S/kv/count"}, Logs: []string{"work"}}, &v)
		})
		keys := int64(0)
		for _, item := range v.Items {
			if strings.Contains(item.Key, "/kv/") && strings.HasSuffix(item.Key, item.Value) {
				keys++
			}
		}
		if keys != want || v.Sums[0] != want || int64(v.Logs["work"].Size) != want {
			w.c.t.Errorf("node %s: %d keys, count %d, %d records; %d writes were acknowledged", p.id, keys, v.Sums[0], v.Logs["work"].Size, want)
		}
	}
	return want
}

// faults kills one node and pauses the leader, while others write.
func (c *cluster) faults(w *workload, victim *process) {
	c.t.Helper()
	w.more(40)
	victim.end(syscall.SIGKILL)
	w.more(30)
	victim.start()
	w.more(30)
	leader := c.leader()
	_ = leader.cmd.Process.Signal(syscall.SIGSTOP) // the others lead on without it
	w.more(20)
	_ = leader.cmd.Process.Signal(syscall.SIGCONT)
	w.more(40)
}

// said is what a node that has ended wrote.
func (p *process) said() string { return p.stderr.String() }
