package access

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloister-os/cloister/node"
	"github.com/cloister-os/cloister/node/api/wire"
	"github.com/cloister-os/cloister/node/config"
)

// TestMain is also what the model engine starts as its child: that must not run
// the tests again.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "engine" {
		_, _ = io.Copy(io.Discard, os.Stdin) // until the parent ends
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// house is a node that is being served, with its administrator.
type house struct {
	t      *testing.T
	dir    string // of its data
	url    string
	code   string // of the setup
	logKey string // as it is noted at setup
	client *http.Client
	admin  caller
	log    *lockedBuffer
}

// lockedBuffer is a log that is written while it is read.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// caller is who makes requests. The zero value has no credential.
type caller struct {
	name   string
	token  string
	cookie string // a session's token, sent as a browser does
	id     string // of the key
	header http.Header
}

const password = "correct horse battery staple"

// unset serves a node on which nobody has completed the setup.
func unset(t *testing.T) *house {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	h := &house{t: t, dir: dir, log: &lockedBuffer{}}
	cfg := config.Config{
		Data: dir, Listen: "127.0.0.1:0", Node: "n1", Runs: config.Runs{Parallel: 4, Longest: time.Minute},
		Session: config.Session{Idle: time.Hour, Life: 2 * time.Hour}, Disk: config.Disk{ReserveBytes: 16 << 20},
	}
	n, err := node.Open(t.Context(), cfg, "test", slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Serve(ctx) }()
	var offered node.Setup
	decode(t, read(t, filepath.Join(dir, "setup.json")), &offered)
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(read(t, offered.CA)) {
		t.Fatal("the CA's certificate cannot be read")
	}
	h.url, h.code, h.logKey = offered.URL, offered.Code, offered.LogKey
	h.client = &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(func() {
		h.client.CloseIdleConnections()
		stop()
		<-ended
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// open serves a node with an administrator.
func open(t *testing.T) *house {
	t.Helper()
	h := unset(t)
	var s wire.Session
	h.must(caller{}, http.MethodPost, "/api/v1/setup", wire.Setup{Code: h.code, User: "ada", Password: password}, &s)
	h.admin = caller{name: "admin", token: s.Token}
	return h
}

// reply is an answer that was read whole.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// send makes one request and returns the answer with its body unread.
func (h *house) send(ctx context.Context, c caller, method, path string, in any) (*http.Response, error) {
	var body io.Reader
	switch v := in.(type) {
	case nil:
	case string:
		body = strings.NewReader(v)
	default:
		b, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, h.url+path, body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if c.cookie != "" {
		req.AddCookie(&http.Cookie{Name: "__Host-cloister", Value: c.cookie})
	}
	for name, values := range c.header {
		req.Header[name] = values
	}
	return h.client.Do(req)
}

func (h *house) do(c caller, method, path string, in any) reply {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 30*time.Second)
	defer cancel()
	resp, err := h.send(ctx, c, method, path, in)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatalf("%s %s: %v", method, path, err)
	}
	return reply{resp.StatusCode, resp.Header, b}
}

func (h *house) must(c caller, method, path string, in, out any) {
	h.t.Helper()
	r := h.do(c, method, path, in)
	if r.status >= 300 {
		h.t.Fatalf("%s: %s %s: %d %s", c.name, method, path, r.status, r.body)
	}
	if out != nil {
		decode(h.t, r.body, out)
	}
}

// key makes an API key.
func (h *house) key(name string, scopes, sources []string) caller {
	h.t.Helper()
	var k wire.Key
	h.must(h.admin, http.MethodPost, "/api/v1/keys", wire.NewKey{Name: name, Scopes: scopes, Sources: sources}, &k)
	return caller{name: name, token: k.Secret, id: k.ID}
}

// add connects a source and waits until it has been read.
func (h *house) add(name, kind, path string) {
	h.t.Helper()
	h.must(h.admin, http.MethodPost, "/api/v1/sources", wire.NewSource{Name: name, Kind: kind, Path: path}, nil)
	if p := h.synced(name); p.Error != "" {
		h.t.Fatalf("the sync of %s: %s", name, p.Error)
	}
}

// synced waits for the end of the sync under way.
func (h *house) synced(name string) wire.Progress {
	h.t.Helper()
	resp, err := h.send(h.t.Context(), h.admin, http.MethodGet, "/api/v1/sources/"+name+"/progress", nil)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	for ev := range events(resp.Body) {
		var p wire.Progress
		decode(h.t, ev.data, &p)
		if !p.Running && p.Job != "" && !p.Finished.IsZero() {
			return p
		}
	}
	h.t.Fatalf("the progress of %s ended early", name)
	return wire.Progress{}
}

// ask asks, and returns the answer as it came.
func (h *house) ask(c caller, question string) (wire.Answer, reply) {
	h.t.Helper()
	var a wire.Answer
	r := h.do(c, http.MethodPost, "/api/v1/ask", wire.Question{Question: question})
	if r.status != http.StatusOK {
		h.t.Fatalf("%s asks %q: %d %s", c.name, question, r.status, r.body)
	}
	decode(h.t, r.body, &a)
	return a, r
}

// entry is what the tests look at in an audit record.
type entry struct {
	Seq      uint64
	Kind     string   `json:"kind"`
	Action   string   `json:"action"`
	Policies []string `json:"policies"`
	Intent   string   `json:"intent"`
	ID       string   `json:"id"`
	Run      string   `json:"run"`
	Status   string   `json:"status"`
	Actor    struct {
		ID       string `json:"id"`
		OnBehalf *struct {
			ID string `json:"id"`
		} `json:"on_behalf_of"`
	} `json:"actor"`
	Resource struct {
		Type string `json:"type"`
		ID   string `json:"id"`
	} `json:"resource"`
}

// records lists the whole audit log, oldest first.
func (h *house) records() []entry {
	h.t.Helper()
	var all []entry
	for from := uint64(0); ; {
		var page wire.Records
		h.must(h.admin, http.MethodGet, fmt.Sprintf("/api/v1/audit/records?oldest=true&limit=1000&from=%d", from), nil, &page)
		for _, r := range page.Records {
			var e entry
			decode(h.t, r.Record, &e)
			e.Seq = r.Seq
			all = append(all, e)
		}
		if !page.More || len(page.Records) == 0 {
			return all
		}
		from = page.Records[len(page.Records)-1].Seq + 1
	}
}

func decode(t *testing.T, b []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(b, into); err != nil {
		t.Fatalf("%v in %s", err, b)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// write makes a file, and its folders.
func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// git runs git in a folder, with nobody's configuration.
func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=Zelda Quimby", "GIT_AUTHOR_EMAIL=zelda@quimby.example", "GIT_COMMITTER_NAME=Zelda Quimby", "GIT_COMMITTER_EMAIL=zelda@quimby.example")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}
