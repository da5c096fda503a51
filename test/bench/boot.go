package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// boot starts an empty node and a restarted one several times in turn, and reads
// how much anonymous memory it holds after idling.
func boot(ctx context.Context, f *figures) error {
	var first, again, rss []float64
	for range 5 {
		dir, err := os.MkdirTemp("", "cloister-boot-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		for _, into := range []*[]float64{&first, &again} {
			seconds, mb, err := bootOnce(ctx, filepath.Join(dir, "data"), into == &again)
			if err != nil {
				return err
			}
			*into = append(*into, seconds)
			if into == &again {
				rss = append(rss, mb)
			}
		}
	}
	f.spread("first_start_to_ready", first, "s")
	f.spread("restart_to_ready", again, "s")
	f.spread("idle_rss_anon", rss, "MB")
	return nil
}

func bootOnce(ctx context.Context, data string, idle bool) (seconds, mb float64, err error) {
	port, err := freePort()
	if err != nil {
		return 0, 0, err
	}
	addr := "localhost:" + port
	cmd := exec.CommandContext(ctx, "build/cloister", "serve", "--data", data, "--listen", addr)
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	defer func() { _ = cmd.Process.Signal(os.Interrupt); _ = cmd.Wait() }()
	if err := ready(ctx, addr); err != nil {
		return 0, 0, err
	}
	seconds = time.Since(began).Seconds()
	if idle {
		time.Sleep(10 * time.Second)
		mb, err = rssAnon(cmd.Process.Pid)
	}
	return seconds, mb, err
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

func ready(ctx context.Context, addr string) error {
	// Which certificate answers does not matter to how long it takes.
	c := &http.Client{Timeout: time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end) && ctx.Err() == nil; {
		if resp, err := c.Get("https://" + addr + "/readyz"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		time.Sleep(2 * time.Millisecond)
	}
	return errors.New("the node was not ready within 30 s")
}

func rssAnon(pid int) (float64, error) {
	file, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	defer file.Close()
	for s := bufio.NewScanner(file); s.Scan(); {
		if kb, ok := strings.CutPrefix(s.Text(), "RssAnon:"); ok {
			n, err := strconv.ParseFloat(strings.Fields(kb)[0], 64)
			return n / 1024, err
		}
	}
	return 0, errors.New("/proc has no RssAnon")
}
