// Command cluster starts three nodes on this machine, to try a cluster out and to
// measure one, and stops them.
//
//	go run ./packaging/cluster up
//	go run ./packaging/cluster down
//
// It promises: up may be said again at any time, and starts what does not run;
// it returns when all three nodes vote, and has then written nodes.json (name,
// url, peer, data, pid of each) and admin.json (the first administrator); down
// ends what up started and nothing else, and keeps the data. It drives the
// binary like a person would and imports nothing of Cloister.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

func main() {
	binary := flag.String("binary", "build/cloister", "the program")
	dir := flag.String("dir", "build/cluster", "where the nodes keep their data")
	port := flag.Int("port", 9441, "the first node's port; the others follow, and ten above are the peers'")
	pack := flag.String("pack", "", "a model pack for the first node")
	within := flag.Duration("within", 2*time.Minute, "give up after so long")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, *within)
	defer cancel()
	c, err := open(*binary, *dir, *port, *pack)
	if err == nil {
		switch flag.Arg(0) {
		case "up":
			err = c.up(ctx)
		case "down":
			err = c.down(ctx)
		default:
			err = errors.New("say up or down")
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

// member is one node, as nodes.json names it.
type member struct {
	Name string `json:"name"`
	URL  string `json:"url"`
	Peer string `json:"peer"`
	Data string `json:"data"`
	PID  int    `json:"pid"`

	ended chan struct{} // closed when the process ended that this program started; nil = it started none
}

// cluster is the three nodes and the files that tell of them.
type cluster struct {
	binary, dir, pack string
	members           []*member
}

const size = 3

func open(binary, dir string, port int, pack string) (*cluster, error) {
	binary, err1 := filepath.Abs(binary)
	dir, err2 := filepath.Abs(dir)
	if err := errors.Join(err1, err2, os.MkdirAll(dir, 0o700)); err != nil {
		return nil, err
	}
	c := &cluster{binary: binary, dir: dir, pack: pack}
	for i := range size {
		name := "node-" + strconv.Itoa(i+1)
		c.members = append(c.members, &member{
			Name: name, URL: fmt.Sprintf("https://localhost:%d", port+i), Peer: fmt.Sprintf("127.0.0.1:%d", port+10+i), Data: filepath.Join(dir, name),
		})
	}
	var before []member
	if b, err := os.ReadFile(c.file()); err == nil && json.Unmarshal(b, &before) == nil {
		for i := range min(len(before), size) {
			*c.members[i] = before[i] // its ports stay
		}
	}
	return c, nil
}

func (c *cluster) file() string { return filepath.Join(c.dir, "nodes.json") }

// write keeps nodes.json: whole or as it was.
func (c *cluster) write() error {
	b, err := json.MarshalIndent(c.members, "", "  ")
	if err != nil {
		return err
	}
	tmp := c.file() + ".new"
	if err := os.WriteFile(tmp, append(b, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, c.file())
}
