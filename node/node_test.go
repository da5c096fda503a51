package node

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloister-os/cloister/node/api/wire"
	"github.com/cloister-os/cloister/node/config"
)

// TestMain is also what the model engine starts as its child: it must not run the
// tests again.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "engine" {
		_, _ = io.Copy(io.Discard, os.Stdin) // until the parent ends
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func settings(dir string) config.Config {
	return config.Config{
		Data: dir, Listen: "127.0.0.1:0", Node: "n1", Runs: config.Runs{Parallel: 4, Longest: time.Minute},
		Session: config.Session{Idle: time.Hour, Life: 2 * time.Hour}, Disk: config.Disk{ReserveBytes: 16 << 20},
	}
}

const password = "correct horse battery staple" // of ada

var silent = slog.New(slog.DiscardHandler)

// served is a node that is being served.
type served struct {
	*Node
	client *http.Client
	ended  chan error // what Serve returned
	stop   context.CancelFunc
	token  string
}

func serve(t *testing.T, n *Node) *served {
	t.Helper()
	if err := n.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s := &served{Node: n, ended: make(chan error, 1), stop: cancel}
	go func() { s.ended <- n.Serve(ctx) }()
	roots := x509.NewCertPool()
	pem, err := os.ReadFile(n.disk.ca())
	if err != nil || !roots.AppendCertsFromPEM(pem) {
		t.Fatalf("ca.pem: %v", err)
	}
	s.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}}
	t.Cleanup(func() { s.close(t) })
	return s
}

func (s *served) close(t *testing.T) {
	t.Helper()
	s.stop()
	s.client.CloseIdleConnections()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func (s *served) call(t *testing.T, method, path string, in, out any) (int, wire.Problem) {
	t.Helper()
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL()+path, bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err = io.ReadAll(resp.Body); err != nil {
		t.Fatal(err)
	}
	var p wire.Problem
	if resp.StatusCode >= 400 {
		_ = json.Unmarshal(b, &p) // not every error is a problem
	} else if out != nil {
		if err := json.Unmarshal(b, out); err != nil {
			t.Fatalf("%s %s: %v in %s", method, path, err, b)
		}
	}
	return resp.StatusCode, p
}

func (s *served) setUp(t *testing.T) {
	t.Helper()
	var session wire.Session
	if status, p := s.call(t, http.MethodPost, "/api/v1/setup", wire.Setup{Code: s.setup.Code, User: "ada", Password: password}, &session); status != http.StatusOK {
		t.Fatalf("setup: %d %+v", status, p)
	}
	s.token = session.Token
}

func TestTheFirstStartOffersSetupOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	n := serve(t, newNode(settings(dir), "test", silent))
	info, err := os.Stat(filepath.Join(dir, "setup.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("setup.json: %v, %v", info, err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "setup.json"))
	if err != nil {
		t.Fatal(err)
	}
	var offered Setup
	if err := json.Unmarshal(b, &offered); err != nil {
		t.Fatal(err)
	}
	if offered.URL != n.URL() || offered.CA != n.disk.ca() || offered.Code == "" || !strings.HasPrefix(offered.LogKey, "SHA256:") || offered.Fingerprint == "" {
		t.Errorf("setup.json holds %+v", offered)
	}
	var greeting strings.Builder
	if err := n.Greet(&greeting); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{offered.URL, offered.Fingerprint, offered.LogKey, offered.Code} {
		if !strings.Contains(greeting.String(), want) {
			t.Errorf("the greeting does not tell %q:\n%s", want, greeting.String())
		}
	}
	n.setUp(t)
	if _, err := os.Stat(filepath.Join(dir, "setup.json")); !os.IsNotExist(err) {
		t.Errorf("setup.json is still there after setup: %v", err)
	}
	n.close(t)
	again := serve(t, newNode(settings(dir), "test", silent))
	if again.setup != nil {
		t.Error("the second start offers setup again")
	}
	again.token = n.token
	var s wire.Status
	if status, p := again.call(t, http.MethodGet, "/api/v1/status", nil, &s); status != http.StatusOK || s.User != "ada" {
		t.Errorf("the session after a restart: %d %+v %+v", status, p, s)
	}
}

func TestAFullDiskStopsWritingAndFreeingSpaceBringsItBack(t *testing.T) {
	var free atomic.Int64
	free.Store(1 << 40)
	n := newNode(settings(filepath.Join(t.TempDir(), "data")), "test", silent)
	n.freeBytes = func(string) (int64, error) { return free.Load(), nil }
	s := serve(t, n)
	s.setUp(t)
	key := wire.NewKey{Name: "k", Scopes: []string{"ask"}}
	if status, p := s.call(t, http.MethodPost, "/api/v1/keys", key, nil); status != http.StatusCreated {
		t.Fatalf("before: %d %+v", status, p)
	}
	free.Store(8 << 20)
	status, p := 0, wire.Problem{}
	eventually(t, "a write is refused", func() bool {
		status, p = s.call(t, http.MethodPost, "/api/v1/keys", key, nil)
		return status >= 400
	})
	if status != http.StatusServiceUnavailable || p.Type != "urn:cloister:read-only" || !strings.Contains(p.Detail, "free some space") {
		t.Errorf("on a full disk: %d %+v", status, p)
	}
	free.Store(1 << 40)
	eventually(t, "a write goes through", func() bool {
		status, p = s.call(t, http.MethodPost, "/api/v1/keys", key, nil)
		return status == http.StatusCreated
	})
	s.close(t)
	free.Store(8 << 20)
	n = newNode(settings(s.cfg.Data), "test", silent)
	n.freeBytes = func(string) (int64, error) { return free.Load(), nil }
	again := serve(t, n)
	again.token = s.token
	if status, p := again.call(t, http.MethodGet, "/api/v1/status", nil, nil); status != http.StatusServiceUnavailable || p.Type != "urn:cloister:read-only" || !strings.Contains(p.Detail, "free some space") {
		t.Errorf("after a start on a full disk: %d %+v", status, p)
	}
}

// TestHistoryIsKeptAsLongAsConfigured: then it can no longer be cited, and its space
// and that of its blobs is given back (store/machine, store/blob/replica).
func TestHistoryIsKeptAsLongAsConfigured(t *testing.T) {
	cited := func(t *testing.T, keep time.Duration) func() (int, wire.Problem) {
		t.Helper()
		cfg := settings(filepath.Join(t.TempDir(), "data"))
		cfg.History.Keep = keep
		s := serve(t, newNode(cfg, "test", silent))
		s.setUp(t)
		if status, p := s.call(t, http.MethodPost, "/api/v1/sources", wire.NewSource{Name: "docs", Kind: "files", Path: t.TempDir()}, nil); status != http.StatusCreated {
			t.Fatalf("add a source: %d %+v", status, p)
		}
		return func() (int, wire.Problem) {
			return s.call(t, http.MethodGet, "/api/v1/citations?source=docs&record=docs/file/a.md&version=2&start=0&end=1", nil, nil)
		}
	}
	kept, gone := cited(t, 0), cited(t, time.Nanosecond)
	eventually(t, "the past is gone", func() bool { status, _ := gone(); return status == http.StatusGone })
	if _, p := gone(); p.Title != "That version is no longer kept." {
		t.Errorf("%+v", p)
	}
	if status, p := kept(); status != http.StatusNotFound { // it can be read, and there was no such record
		t.Errorf("kept for ever: %d %+v", status, p)
	}
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never became true that %s", what)
		}
	}
}

func TestAStopDoesNotWaitForEventStreams(t *testing.T) {
	s := serve(t, newNode(settings(filepath.Join(t.TempDir(), "data")), "test", silent))
	s.setUp(t)
	docs := t.TempDir()
	if status, p := s.call(t, http.MethodPost, "/api/v1/sources", wire.NewSource{Name: "docs", Kind: "files", Path: docs}, nil); status != http.StatusCreated {
		t.Fatalf("add a source: %d %+v", status, p)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL()+"/api/v1/sources/docs/progress", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	resp, err := s.client.Do(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("stream: %v, %v", resp, err)
	}
	defer resp.Body.Close()
	done := make(chan struct{})
	go func() { s.close(t); close(done) }()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatal("the node does not stop while somebody listens")
	}
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("the stream ended as if it were whole")
	}
}

func TestAFailureOfARoomEndsTheNode(t *testing.T) {
	s := serve(t, newNode(settings(filepath.Join(t.TempDir(), "data")), "test", silent))
	s.rooms.fail(errors.New("the record contradicts itself"))
	select {
	case err := <-s.ended:
		if err == nil || !strings.Contains(err.Error(), "the record contradicts itself") {
			t.Errorf("serve ended with %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the node goes on")
	}
}

func TestWhatCannotStartSaysWhy(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	dir := filepath.Join(t.TempDir(), "data")
	held, err := openDisk(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	foreign := t.TempDir()
	if err := os.WriteFile(filepath.Join(foreign, "precious"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	free := func(t *testing.T) string { return filepath.Join(t.TempDir(), "new") }
	for _, tt := range []struct {
		name, dir, listen, want string
	}{
		{"port in use", free(t), busy.Addr().String(), "is in use: stop what uses it, or choose another with --listen"},
		{"address of another machine", free(t), "192.0.2.1:0", "is not one of this machine"},
		{"folder in use", dir, "", "another process uses the data folder"},
		{"a file", file, "", "not a directory"},
		{"something else", foreign, "", "holds something else"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := settings(tt.dir)
			if tt.listen != "" {
				cfg.Listen = tt.listen
			}
			_, err := Open(t.Context(), cfg, "test", silent)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want one line with %q", err, tt.want)
			}
		})
	}
}

func TestAWrongRecoveryKeyIsFoundBeforeAnythingIsMade(t *testing.T) {
	cfg := settings(filepath.Join(t.TempDir(), "data"))
	cfg.Backup.Recovery = "cloister-recovery-key-v1:not base64"
	_, err := Open(t.Context(), cfg, "test", silent)
	if err == nil || !strings.HasPrefix(err.Error(), "backup.recovery: this is no public recovery key") || !strings.Contains(err.Error(), "cloister backup keygen") || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(cfg.Data); !os.IsNotExist(err) {
		t.Errorf("the data folder was made: %v", err)
	}
}

func TestNobodyIsServedWithoutASignIn(t *testing.T) {
	s := serve(t, newNode(settings(filepath.Join(t.TempDir(), "data")), "test", silent))
	for _, path := range []string{"/metrics", "/v1/models", "/api/v1/status"} {
		if status, _ := s.call(t, http.MethodGet, path, nil, nil); status != http.StatusUnauthorized {
			t.Errorf("GET %s: status %d", path, status)
		}
	}
	for path, want := range map[string]int{"/healthz": http.StatusOK, "/readyz": http.StatusOK} {
		if status, _ := s.call(t, http.MethodGet, path, nil, nil); status != want {
			t.Errorf("GET %s: status %d", path, status)
		}
	}
	s.setUp(t)
	if status, _ := s.call(t, http.MethodGet, "/metrics", nil, nil); status != http.StatusOK {
		t.Errorf("GET /metrics signed in: status %d", status)
	}
	plain, err := (&http.Client{}).Get("http://" + s.listener.Addr().String() + "/api/v1/status")
	if err == nil {
		defer plain.Body.Close()
		if plain.StatusCode != http.StatusBadRequest {
			t.Errorf("without TLS: status %d", plain.StatusCode)
		}
	}
}

func TestWhereANodeIsReached(t *testing.T) {
	for _, c := range []struct{ listen, peer, want string }{
		{"localhost:8443", "10.0.0.1:8444", "localhost"},
		{"node-1.example.org:8443", "10.0.0.1:8444", "node-1.example.org"},
		{"0.0.0.0:8443", "10.0.0.1:8444", "10.0.0.1"},
		{":8443", "node-1.example.org:8444", "node-1.example.org"},
		{"[::]:8443", "[fd00::1]:8444", "fd00::1"},
		{"0.0.0.0:8443", "", ""},
	} {
		if got := reached(c.listen, c.peer); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}
