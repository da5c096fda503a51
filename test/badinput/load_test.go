package badinput

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestMoreQuestionsThanOneNodeTakes(t *testing.T) {
	t.Parallel()
	n := ready(t, "--runs-parallel", "1")
	dir := filepath.Dir(n.file("docs/a.md", "# A\n\nThe depot opens at seven.\n"))
	n.ok("source", "add", "files", "docs", "--path", dir)
	n.ok("source", "sync", "docs", "--wait")
	h := bearer(n.token())
	ask := func() answer {
		a, err := n.try("POST", "/api/v1/ask", strings.NewReader(`{"question":"When does the depot open?"}`), h...)
		if err != nil {
			t.Error(err)
		}
		return a
	}
	ask()
	descriptors := n.descriptors()
	var answered, shed atomic.Int64
	var wg sync.WaitGroup
	for range 400 { // 256 may wait
		wg.Go(func() {
			switch a := ask(); {
			case a.status == http.StatusOK && strings.Contains(a.body, "seven"):
				answered.Add(1)
			case a.status == http.StatusServiceUnavailable || a.status == http.StatusTooManyRequests:
				shed.Add(1)
				if a.header.Get("Retry-After") == "" {
					t.Error("a question that was shed is not told when to come back")
				}
			default:
				t.Errorf("status %d: %.300s", a.status, a.body)
			}
		})
	}
	wg.Wait()
	t.Logf("%d answered, %d shed", answered.Load(), shed.Load())
	if answered.Load() == 0 {
		t.Error("under load nobody was answered")
	}
	if a := ask(); a.status != http.StatusOK {
		t.Errorf("after the load: %d %s", a.status, a.body)
	}
	n.http.CloseIdleConnections()
	n.eventually("the node holds no more open files than before", func() error {
		if now := n.descriptors(); now > descriptors+8 {
			return fmt.Errorf("%d, before it were %d", now, descriptors)
		}
		return nil
	})
	resident(t, n, 700<<20)
}

// descriptors is how many files and connections the node has open.
func (n *node) descriptors() int {
	n.t.Helper()
	list, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(n.process.Process.Pid), "fd"))
	if err != nil {
		n.t.Fatal(err)
	}
	return len(list)
}

func TestConnectionsThatComeAndGo(t *testing.T) {
	t.Parallel()
	n := ready(t)
	h := bearer(n.token())
	descriptors := n.descriptors()
	host := strings.TrimPrefix(n.setup.URL, "https://")
	plain := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 12 {
				c, err := tls.Dial("tcp", host, plain)
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = c.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
				_, _ = c.Write([]byte("\xff\xff\xffgarbage"))
				c.Close()
			}
		})
	}
	// Streams that are opened and dropped at once, on one connection.
	for range 8 {
		wg.Go(func() {
			for range 25 {
				client := &http.Client{Transport: n.http.Transport, Timeout: time.Millisecond}
				req, err := http.NewRequest("POST", n.setup.URL+"/api/v1/ask", strings.NewReader(`{"question":"What is dropped at once?"}`))
				if err != nil {
					t.Error(err)
					return
				}
				req.Header.Set(h[0], h[1])
				req.Header.Set(h[2], h[3])
				if resp, err := client.Do(req); err == nil {
					resp.Body.Close()
				}
			}
		})
	}
	wg.Wait()
	n.http.CloseIdleConnections()
	n.eventually("the node answers", func() error {
		if a, err := n.try("GET", "/api/v1/status", nil, h...); err != nil || a.status != http.StatusOK {
			return fmt.Errorf("%d %s %v", a.status, a.body, err)
		}
		return nil
	})
	n.http.CloseIdleConnections()
	n.eventually("the node holds no more open files than before", func() error {
		if now := n.descriptors(); now > descriptors+8 {
			return fmt.Errorf("%d, before it were %d", now, descriptors)
		}
		return nil
	})
}
