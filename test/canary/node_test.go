package canary

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/cloister-os/cloister/node"
	"github.com/cloister-os/cloister/node/api/wire"
	"github.com/cloister-os/cloister/node/config"
)

const (
	envData  = "CLOISTER_TEST_CANARY_DATA"
	envPlain = "CLOISTER_TEST_CANARY_PLAIN"
)

// TestMain is a node when the tests start it as one, and the model engine that a
// node starts as its child.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "engine" {
		_, _ = io.Copy(io.Discard, os.Stdin) // until the parent ends
		os.Exit(1)
	}
	if dir := os.Getenv(envData); dir != "" {
		if err := serve(dir); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func serve(dir string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	cfg := config.Config{
		Data: dir, Listen: "127.0.0.1:0", Node: "n1", Runs: config.Runs{Parallel: 4, Longest: time.Minute, Keep: time.Hour},
		Session: config.Session{Idle: time.Hour, Life: 2 * time.Hour}, Disk: config.Disk{ReserveBytes: 16 << 20},
		Unsealed: os.Getenv(envPlain) != "",
	}
	n, err := node.Open(ctx, cfg, "test", slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(dir), "url"), []byte(n.URL()), 0o600); err != nil {
		return err
	}
	return errors.Join(n.Serve(ctx), n.Close())
}

// house is a node in a process of its own.
type house struct {
	t      *testing.T
	dir    string // of its data
	plain  bool
	cmd    *exec.Cmd
	stderr bytes.Buffer
	url    string
	client *http.Client
	token  string
}

// start starts the node and waits until it answers.
func (h *house) start() {
	h.t.Helper()
	address := filepath.Join(filepath.Dir(h.dir), "url")
	if err := os.Remove(address); err != nil && !errors.Is(err, os.ErrNotExist) {
		h.t.Fatal(err)
	}
	h.cmd = exec.Command(os.Args[0])
	h.cmd.Env = append(os.Environ(), envData+"="+h.dir, "GOTRACEBACK=crash")
	if h.plain {
		h.cmd.Env = append(h.cmd.Env, envPlain+"=1")
	}
	h.cmd.Stderr = &h.stderr
	h.cmd.Dir = filepath.Dir(h.dir) // where a core would be left
	if err := h.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		if h.cmd.ProcessState == nil {
			h.cmd.Process.Kill()
			h.cmd.Wait()
		}
	})
	h.until("the node answers", func() bool {
		b, err := os.ReadFile(address)
		h.url = string(b)
		return err == nil && h.url != ""
	})
	pem, err := os.ReadFile(filepath.Join(h.dir, "tls", "ca.pem"))
	if err != nil {
		h.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		h.t.Fatal("the CA's certificate cannot be read")
	}
	h.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
}

// stop ends the node with a signal and waits.
func (h *house) stop(s syscall.Signal) {
	h.t.Helper()
	h.client.CloseIdleConnections()
	if err := h.cmd.Process.Signal(s); err != nil {
		h.t.Fatal(err)
	}
	err := h.cmd.Wait()
	if s == syscall.SIGINT && err != nil {
		h.t.Fatalf("the node did not stop in order: %v\n%s", err, h.stderr.String())
	}
}

func (h *house) until(what string, done func() bool) {
	h.t.Helper()
	for end := time.Now().Add(2 * time.Minute); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			h.t.Fatalf("never: %s\n%s", what, h.stderr.String())
		}
	}
}

// do sends in as JSON and reads the answer into out.
func (h *house) do(method, path string, in, out any) {
	h.t.Helper()
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			h.t.Fatal(err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(h.t.Context(), method, h.url+path, body)
	if err != nil {
		h.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if h.token != "" {
		req.Header.Set("Authorization", "Bearer "+h.token)
	}
	resp, err := h.client.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		h.t.Fatalf("%s %s: %d %s %v", method, path, resp.StatusCode, b, err)
	}
	if out != nil {
		if err := json.Unmarshal(b, out); err != nil {
			h.t.Fatal(err)
		}
	}
}

func (h *house) setup(user string) {
	h.t.Helper()
	b, err := os.ReadFile(filepath.Join(h.dir, "setup.json"))
	if err != nil {
		h.t.Fatal(err)
	}
	var offered node.Setup
	if err := json.Unmarshal(b, &offered); err != nil {
		h.t.Fatal(err)
	}
	var s wire.Session
	h.do(http.MethodPost, "/api/v1/setup", wire.Setup{Code: offered.Code, User: user, Password: "correct horse battery staple"}, &s)
	h.token = s.Token
}
