package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/cloister-os/cloister/store/consensus/rpc"
	"github.com/cloister-os/cloister/test/bench/load"
	"github.com/cloister-os/cloister/test/kvnode/wire"
)

// cloister is three kvnodes: the store, its peer port and its frames, with
// everything on disk encrypted.
type cloister struct {
	procs
	keys               pki
	dir                string
	front, peer, bench []string
	more               []string // further flags
	lead               int
	running            [3]*nodeProc
}

// nodeProc is a node's newest process.
type nodeProc = exec.Cmd

func (*cloister) name() string { return "cloister" }

func (c *cloister) start(ctx context.Context, dir string) (err error) {
	if err := build(ctx, "build/peers/kvnode", ".", "./test/kvnode"); err != nil {
		return err
	}
	c.dir = dir
	if c.keys, err = newPKI(dir); err != nil {
		return err
	}
	ports, err := freePorts(9)
	if err != nil {
		return err
	}
	c.front, c.peer, c.bench = ports[:3], ports[3:6], ports[6:]
	for i := range 3 {
		if err := c.run(i); err != nil {
			return err
		}
		if i == 0 {
			err = until(ctx, "wait for the first node", func() error { return c.status(0, &wire.Status{}) })
		} else {
			err = until(ctx, "add a node", func() error {
				return c.ask(http.MethodPost, 0, wire.AdminPath, wire.Admin{Do: "add", ID: fmt.Sprintf("n%d", i), Address: c.peer[i]}, nil)
			})
		}
		if err != nil {
			return err
		}
	}
	return until(ctx, "wait for three voters", c.findLeader)
}

// run starts one node, again if need be.
func (c *cloister) run(i int) error {
	program, err := filepath.Abs("build/peers/kvnode")
	if err != nil {
		return err
	}
	id := fmt.Sprintf("n%d", i)
	args := append([]string{"-dir", filepath.Join(c.dir, id), "-id", id, "-ca", c.dir, "-listen", c.front[i], "-peer", c.peer[i], "-bench", c.bench[i],
		"-sealed", fmt.Sprintf("-found=%t", i == 0)}, c.more...)
	if err := c.launch(c.dir, program, args...); err != nil {
		return err
	}
	c.running[i] = c.procs[len(c.procs)-1]
	return nil
}

// again starts a node that was killed.
func (c *cloister) again(i int) error { return c.run(i) }

func (c *cloister) findLeader() error {
	for i := range c.front {
		var s wire.Status
		if err := c.status(i, &s); err != nil {
			return err
		}
		if !s.Leads {
			continue
		}
		c.lead = i
		voters := 0
		for _, m := range s.Members {
			if m.Voter && m.Healthy {
				voters++
			}
		}
		if voters < 3 {
			return fmt.Errorf("%d of 3 nodes vote", voters)
		}
		return nil
	}
	return errors.New("no node leads")
}

func (c *cloister) status(i int, s *wire.Status) error {
	return c.ask(http.MethodGet, i, wire.StatusPath, nil, s)
}

func (c *cloister) ask(method string, i int, path string, in, out any) error {
	return c.askWithin(5*time.Second, method, i, path, in, out)
}

func (c *cloister) askWithin(limit time.Duration, method string, i int, path string, in, out any) error {
	secure, err := c.keys.clientTLS()
	if err != nil {
		return err
	}
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: secure}, Timeout: limit}
	defer web.CloseIdleConnections()
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequest(method, "https://"+c.front[i]+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	res, err := web.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		var p wire.Problem
		_ = json.NewDecoder(res.Body).Decode(&p)
		return fmt.Errorf("%s: %s", res.Status, p.Detail)
	}
	if out == nil {
		return nil
	}
	return json.NewDecoder(res.Body).Decode(out)
}

func (c *cloister) drive(ctx context.Context, j load.Job) (load.Figures, error) {
	return c.driveNode(ctx, j, c.lead)
}

func (c *cloister) driveNode(ctx context.Context, j load.Job, i int) (load.Figures, error) {
	self, err := os.Executable()
	if err != nil {
		return load.Figures{}, err
	}
	return generator(ctx, j, self, "load", "-system", "cloister", "-server", c.bench[i], "-ca", c.keys.ca, "-cert", c.keys.client, "-key", c.keys.clientKey)
}

// The questions of test/kvnode's benchmark front.
const (
	benchPut byte = 2
	benchGet byte = 3
)

type cloisterClient struct{ *rpc.Client }

func openCloister(ctx context.Context, keys pki, server string) (load.Client, error) {
	secure, err := keys.clientTLS()
	if err != nil {
		return nil, err
	}
	secure.NextProtos = []string{"cloister-bench/1"}
	conn, err := (&tls.Dialer{Config: secure}).DialContext(ctx, "tcp", server)
	if err != nil {
		return nil, err
	}
	refuse := func(byte, uint64, []byte) error { return errors.New("the node asks nothing") }
	return cloisterClient{rpc.NewClient(conn, 10*time.Minute, refuse, func(error) {})}, nil
}

// Put implements load.Client.
func (c cloisterClient) Put(ctx context.Context, key string, value []byte) error {
	body := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(key)+len(value)), uint16(len(key)))
	_, err := c.Call(ctx, benchPut, append(append(body, key...), value...))
	return err
}

// Get implements load.Client.
func (c cloisterClient) Get(ctx context.Context, key string) error {
	_, err := c.Call(ctx, benchGet, []byte(key))
	return err
}

// Close implements load.Client.
func (c cloisterClient) Close() error {
	c.Client.Close()
	return nil
}
