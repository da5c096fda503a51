package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/cloister-os/cloister/test/bench/load"
)

// rqliteModule is the version that is measured, built from its module.
const rqliteModule = "github.com/rqlite/rqlite/v8@v8.43.4"

// rqlite is a SQL store; a write is one unqueued INSERT OR REPLACE.
type rqlite struct {
	procs
	keys pki
	http []string
}

func (*rqlite) name() string { return "rqlite" }

func (r *rqlite) start(ctx context.Context, dir string) (err error) {
	program, err := filepath.Abs("build/peers/rqlited")
	if err != nil {
		return err
	}
	if err := fetchRqlite(ctx, program); err != nil {
		return err
	}
	if r.keys, err = newPKI(dir); err != nil {
		return err
	}
	ports, err := freePorts(6)
	if err != nil {
		return err
	}
	r.http = ports[:3]
	for i := range 3 {
		args := []string{
			"-node-id", fmt.Sprintf("n%d", i), "-http-addr", ports[i], "-raft-addr", ports[3+i],
			"-http-ca-cert", r.keys.ca, "-http-cert", r.keys.server, "-http-key", r.keys.serverKey, "-http-verify-client",
			"-node-ca-cert", r.keys.ca, "-node-cert", r.keys.server, "-node-key", r.keys.serverKey, "-node-verify-client",
			"-bootstrap-expect", "3", "-join", strings.Join(ports[3:], ","), filepath.Join(dir, fmt.Sprint(i)),
		}
		if err := r.launch(dir, program, args...); err != nil {
			return err
		}
	}
	return until(ctx, "wait for rqlite", r.createTable)
}

// fetchRqlite builds it in the module cache's folder, where its go.sum is.
func fetchRqlite(ctx context.Context, program string) error {
	if _, err := os.Stat(program); err == nil {
		return nil
	}
	out, err := exec.CommandContext(ctx, "go", "mod", "download", "-json", rqliteModule).Output()
	if err != nil {
		return fmt.Errorf("fetch rqlite: %w: %s", err, out)
	}
	var m struct{ Dir string }
	if err := json.Unmarshal(out, &m); err != nil {
		return err
	}
	return build(ctx, program, m.Dir, "./cmd/rqlited")
}

// createTable finds the leader too: it alone answers without a redirection.
func (r *rqlite) createTable() error {
	lead := ""
	for _, addr := range r.http {
		c, err := openRqlite(r.keys, addr)
		if err != nil {
			return err
		}
		status, err := c.status(context.Background())
		_ = c.Close()
		if err != nil {
			return err
		}
		if status.Store.Raft.State == "Leader" {
			lead = addr
		}
	}
	if lead == "" {
		return errors.New("no node leads")
	}
	c, err := openRqlite(r.keys, lead)
	if err != nil {
		return err
	}
	defer c.Close()
	r.http[0] = lead
	return c.execute(context.Background(), []any{"CREATE TABLE IF NOT EXISTS kv (k TEXT PRIMARY KEY, v BLOB) WITHOUT ROWID"})
}

func (r *rqlite) drive(ctx context.Context, j load.Job) (load.Figures, error) {
	self, err := os.Executable()
	if err != nil {
		return load.Figures{}, err
	}
	return generator(ctx, j, self, "load", "-system", "rqlite", "-server", r.http[0], "-ca", r.keys.ca, "-cert", r.keys.client, "-key", r.keys.clientKey)
}

type rqliteClient struct {
	addr string
	web  *http.Client
}

func openRqlite(keys pki, addr string) (*rqliteClient, error) {
	c, err := keys.clientTLS()
	if err != nil {
		return nil, err
	}
	return &rqliteClient{addr, &http.Client{Transport: &http.Transport{TLSClientConfig: c, MaxIdleConnsPerHost: 1}, Timeout: 30 * time.Second}}, nil
}

type rqliteStatus struct {
	Store struct {
		Raft struct {
			State string `json:"state"`
		} `json:"raft"`
	} `json:"store"`
}

func (c *rqliteClient) status(ctx context.Context) (s rqliteStatus, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+c.addr+"/status", nil)
	if err != nil {
		return s, err
	}
	res, err := c.web.Do(req)
	if err != nil {
		return s, err
	}
	defer res.Body.Close()
	return s, json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&s)
}

func (c *rqliteClient) execute(ctx context.Context, statement []any) error {
	body, err := json.Marshal([]any{statement})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+c.addr+"/db/execute", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := c.web.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK || bytes.Contains(b, []byte(`"error"`)) {
		return fmt.Errorf("rqlite: %s: %s", res.Status, bytes.TrimSpace(b))
	}
	return nil
}

// Put implements load.Client.
func (c *rqliteClient) Put(ctx context.Context, key string, value []byte) error {
	return c.execute(ctx, []any{"INSERT OR REPLACE INTO kv(k, v) VALUES(?, ?)", key, string(bytes.Map(printable, value))})
}

// printable makes bytes that JSON does not lengthen: rqlite takes no others.
func printable(r rune) rune { return 'a' + r%26 }

// Get implements load.Client.
func (*rqliteClient) Get(context.Context, string) error {
	return errors.New("reads are compared with etcd alone")
}

// Close implements load.Client.
func (c *rqliteClient) Close() error {
	c.web.CloseIdleConnections()
	return nil
}
