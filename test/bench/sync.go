package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Sizes of the sync benchmark.
const (
	syncFiles   = 10_000
	syncCommits = 5_000
)

// syncs connects a folder of 10,000 documents and a repository of 5,000 commits
// to a node over its API, and reads each twice.
func syncs(ctx context.Context, f *figures) error {
	dir, err := os.MkdirTemp("", "cloister-sync-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := manyFiles(filepath.Join(dir, "docs")); err != nil {
		return err
	}
	if err := manyCommits(ctx, filepath.Join(dir, "code")); err != nil {
		return err
	}
	n, err := startNode(ctx, dir)
	if err != nil {
		return err
	}
	defer n.stop()
	for _, s := range []struct {
		kind, name string
		count      float64
	}{{"files", "docs", syncFiles}, {"git", "code", syncCommits}} {
		if _, err := n.cli(ctx, "", "source", "add", s.kind, s.name, "--path", filepath.Join(dir, s.name)); err != nil {
			return err
		}
		for _, round := range []string{"first", "second", "third"} {
			read := n.sync
			if round == "first" {
				read = n.added
			}
			p, err := read(ctx, s.name)
			if err != nil {
				return err
			}
			seconds := p.Finished.Sub(p.Started).Seconds()
			f.add(s.name+"_"+round+"_sync", s.count/seconds, "items/s")
			f.add(s.name+"_"+round+"_seconds", seconds, "s")
			f.add(s.name+"_"+round+"_claims", float64(p.Claims), "claims")
			f.add(s.name+"_"+round+"_bodies", float64(p.Bodies), "bodies")
		}
	}
	mb, err := rssAnon(n.server.Process.Pid)
	f.add("rss_anon_after", mb, "MB")
	return err
}

type progress struct {
	Running           bool
	Claims, Bodies    int64
	Started, Finished time.Time
}

// node is a running node with a signed-in shell.
type node struct {
	dir    string
	server *exec.Cmd
}

func startNode(ctx context.Context, dir string) (*node, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	n := &node{dir: dir, server: exec.CommandContext(ctx, "build/cloister", "serve", "--data", filepath.Join(dir, "data"), "--listen", "localhost:"+port)}
	log, err := os.Create(filepath.Join(dir, "serve.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	n.server.Stderr = log
	if err := n.server.Start(); err != nil {
		return nil, err
	}
	err = ready(ctx, "localhost:"+port)
	if err == nil {
		_, err = n.cli(ctx, "correct horse battery staple\n", "setup", "--from", filepath.Join(dir, "data", "setup.json"), "--user", "ada", "--password-stdin")
	}
	if err != nil {
		n.stop()
	}
	return n, err
}

func (n *node) stop() {
	_ = n.server.Process.Signal(os.Interrupt)
	_ = n.server.Wait()
}

func (n *node) cli(ctx context.Context, stdin string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "build/cloister", args...)
	cmd.Env = append(os.Environ(), "HOME="+n.dir, "XDG_CONFIG_HOME="+n.dir)
	cmd.Stdin = strings.NewReader(stdin)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("cloister %s: %w: %s", args[0], err, errs.String())
	}
	return out, nil
}

// added waits for the sync that begins when a source is added. Asking for one
// meanwhile would begin another after it.
func (n *node) added(ctx context.Context, name string) (progress, error) {
	for ctx.Err() == nil {
		out, err := n.cli(ctx, "", "source", "list", "--json")
		if err != nil {
			return progress{}, err
		}
		var list []struct {
			Name     string
			Progress progress
		}
		if err := json.Unmarshal(out, &list); err != nil {
			return progress{}, err
		}
		for _, s := range list {
			if s.Name == name && !s.Progress.Running && !s.Progress.Finished.IsZero() {
				return s.Progress, nil
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	return progress{}, ctx.Err()
}

func (n *node) sync(ctx context.Context, name string) (p progress, err error) {
	out, err := n.cli(ctx, "", "source", "sync", name, "--wait", "--json")
	if err != nil {
		return p, err
	}
	if err := json.Unmarshal(out, &p); err != nil {
		return p, err
	}
	if p.Finished.IsZero() {
		return p, errors.New("the sync has no end")
	}
	return p, nil
}

func manyFiles(dir string) error {
	for i := range syncFiles {
		file := filepath.Join(dir, fmt.Sprintf("%02d", i%100), fmt.Sprintf("page-%05d.md", i))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		text := fmt.Sprintf("# Page %d\n\n## Purpose\n\nThis page is about item %d. It belongs to group %d.\n\n## Limits\n\nItem %d takes at most %d requests. Ask group %d for more.\n", i, i, i%100, i, i*7%1000, i%100)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func manyCommits(ctx context.Context, dir string) error {
	if out, err := exec.CommandContext(ctx, "git", "init", "-q", "-b", "main", dir).CombinedOutput(); err != nil {
		return fmt.Errorf("git init: %w: %s", err, out)
	}
	var in bytes.Buffer
	for i := range syncCommits {
		message := fmt.Sprintf("Change part %d for the %d. time", i%400, i/400)
		text := strings.Repeat(fmt.Sprintf("line of part %d in commit %d\n", i%400, i), 30)
		fmt.Fprintf(&in, "commit refs/heads/main\ncommitter Person %d <p%d@example.test> %d +0000\ndata %d\n%s\nM 100644 inline src/%02d/part-%03d.go\ndata %d\n%s\n",
			i%30, i%30, 1_700_000_000+i*600, len(message), message, i%20, i%400, len(text), text)
	}
	cmd := exec.CommandContext(ctx, "git", "fast-import", "--quiet")
	cmd.Dir, cmd.Stdin = dir, &in
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("git fast-import: %w: %s", err, out)
	}
	return nil
}
