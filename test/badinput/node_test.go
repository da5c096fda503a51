package badinput

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	password = "correct horse battery staple"
	patience = 30 * time.Second // for anything that must happen
	pause    = 20 * time.Millisecond
)

// program is the built cloister: that of CLOISTER_BINARY, else of make build, else
// one that is built now.
func program(t testing.TB) string {
	t.Helper()
	if b := os.Getenv("CLOISTER_BINARY"); b != "" {
		return b
	}
	path, err := filepath.Abs("../../build/cloister")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		return path
	}
	path = filepath.Join(os.TempDir(), fmt.Sprintf("cloister-badinput-%d", os.Getppid()))
	if out, err := exec.Command("go", "build", "-o", path, "../../cmd/cloister").CombinedOutput(); err != nil {
		t.Fatalf("build cloister: %v\n%s", err, out)
	}
	t.Cleanup(func() { os.Remove(path) })
	return path
}

// node is a running node and a user's account beside it.
type node struct {
	t       testing.TB
	data    string // the node's folder
	home    string // the account's
	log     string // what the node wrote
	flags   []string
	process *exec.Cmd
	ended   chan struct{} // closed when the process has ended
	setup   struct{ URL, CA, Code string }
	http    *http.Client
}

// newNode is a node that has not been started.
func newNode(t testing.TB, flags ...string) *node {
	t.Helper()
	dir := t.TempDir()
	n := &node{t: t, data: filepath.Join(dir, "data"), home: filepath.Join(dir, "home"), log: filepath.Join(dir, "serve.log")}
	n.flags = append([]string{"--log-level", "debug", "--sync-every", "0"}, flags...)
	if err := os.MkdirAll(n.home, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.kill()
		if t.Failed() {
			t.Logf("the node's log ends with\n%s", n.tail())
		}
	})
	return n
}

// begun is a node that answers, before its setup.
func begun(t testing.TB, flags ...string) *node {
	t.Helper()
	n := newNode(t, flags...)
	n.start()
	return n
}

// ready is a node whose administrator, ada, is signed in.
func ready(t testing.TB, flags ...string) *node {
	t.Helper()
	n := begun(t, flags...)
	n.setUp()
	return n
}

// start starts the node and waits until it answers.
func (n *node) start() {
	n.t.Helper()
	f, err := os.OpenFile(n.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		n.t.Fatal(err)
	}
	defer f.Close()
	listen := "localhost:0"
	if n.setup.URL != "" {
		listen = strings.TrimPrefix(n.setup.URL, "https://")
	}
	n.process = n.command(append([]string{"serve", "--data", n.data, "--listen", listen}, n.flags...)...)
	n.process.Stdout, n.process.Stderr = f, f
	if err := n.process.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.ended = make(chan struct{})
	go func(p *exec.Cmd, ended chan struct{}) { _ = p.Wait(); close(ended) }(n.process, n.ended)
	if n.setup.URL == "" {
		n.readSetup()
	}
	n.eventually("the node is ready", func() error {
		resp, err := n.http.Get(n.setup.URL + "/readyz")
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	})
}

func (n *node) readSetup() {
	n.t.Helper()
	n.eventually("setup.json is written", func() error {
		b, err := os.ReadFile(n.setupFile())
		if err != nil {
			return err
		}
		return json.Unmarshal(b, &n.setup)
	})
	pem, err := os.ReadFile(n.setup.CA)
	if err != nil {
		n.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	n.http = &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}}
}

func (n *node) setupFile() string { return filepath.Join(n.data, "setup.json") }

// kill ends the node without a word, as a power cut of the process.
func (n *node) kill() {
	if n.process == nil {
		return
	}
	_ = n.process.Process.Kill()
	<-n.ended
	n.process = nil
	if n.http != nil {
		n.http.CloseIdleConnections()
	}
}

func (n *node) tail() string {
	b, _ := os.ReadFile(n.log)
	return string(b[max(0, len(b)-4000):])
}

// eventually asks until it is so.
func (n *node) eventually(what string, try func() error) {
	n.t.Helper()
	eventually(n.t, what, func() error {
		select {
		case <-n.ended:
			return errors.New("the node has ended")
		default:
			return try()
		}
	})
}

func eventually(t testing.TB, what string, try func() error) {
	t.Helper()
	end := time.Now().Add(patience)
	for err := try(); err != nil; err = try() {
		if time.Now().After(end) {
			t.Fatalf("after %v it is not so that %s: %v", patience, what, err)
		}
		time.Sleep(pause)
	}
}

func (n *node) command(args ...string) *exec.Cmd {
	cmd := exec.Command(program(n.t), args...)
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "CLOISTER_") && !strings.HasPrefix(e, "XDG_") && !strings.HasPrefix(e, "HOME=") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Env = append(cmd.Env, "HOME="+n.home, "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.org",
		"GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.org")
	return cmd
}

// said is what a command printed.
type said struct {
	args     []string
	out, err string
	code     int
}

// run runs a command of the shell with a text on its standard input.
func (n *node) run(stdin string, env []string, args ...string) said {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	cmd := n.command(args...)
	cmd.Env = append(cmd.Env, env...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	_ = cmd.Wait()
	return said{args, out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// ok runs a command that must succeed, and returns what it printed.
func (n *node) ok(args ...string) string {
	n.t.Helper()
	s := n.run("", nil, args...)
	if s.code != 0 {
		n.t.Fatalf("cloister %q ends with %d: %s", args, s.code, s.err)
	}
	return s.out
}

// wrong runs a command that must fail well.
func (n *node) wrong(args []string, words ...string) {
	n.t.Helper()
	n.run("", nil, args...).isWrong(n.t, words...)
}

// isWrong asks for one line on standard error that holds the words, nothing on
// standard output, and an exit code that is neither success nor a crash.
func (s said) isWrong(t testing.TB, words ...string) {
	t.Helper()
	line, rest, _ := strings.Cut(s.err, "\n")
	if len(line) > 600 {
		t.Errorf("cloister %.100q says too much: %.700q", s.args, line)
	}
	if s.code != 1 && s.code != 2 {
		t.Errorf("cloister %.100q ends with %d", s.args, s.code)
	}
	if !strings.HasPrefix(line, "cloister: ") || rest != "" || s.out != "" {
		t.Errorf("cloister %.100q does not say one line: %.1000q, and on standard output %.300q", s.args, s.err, s.out)
	}
	if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 }) {
		t.Errorf("cloister %.100q sends control characters to the terminal: %q", s.args, line)
	}
	for _, bad := range []string{"goroutine", "Something went wrong inside", "%!", "<nil>"} {
		if strings.Contains(line, bad) {
			t.Errorf("cloister %.100q says %q", s.args, line)
		}
	}
	for _, w := range words {
		if !strings.Contains(strings.ToLower(line), strings.ToLower(w)) {
			t.Errorf("cloister %.100q does not say %q: %q", s.args, w, line)
		}
	}
}

func (n *node) setUp() {
	n.t.Helper()
	if s := n.run(password+"\n", nil, "setup", "--from", n.setupFile(), "--user", "ada", "--password-stdin"); s.code != 0 {
		n.t.Fatalf("setup: %s", s.err)
	}
}

// token is the session that the profile holds.
func (n *node) token() string {
	n.t.Helper()
	b, err := os.ReadFile(filepath.Join(n.home, ".config/cloister/profile.json"))
	if err != nil {
		n.t.Fatal(err)
	}
	var p struct{ Token string }
	if err := json.Unmarshal(b, &p); err != nil || p.Token == "" {
		n.t.Fatalf("the profile holds no token: %v", err)
	}
	return p.Token
}

// key makes an API key and returns its secret.
func (n *node) key(name string, args ...string) string {
	n.t.Helper()
	var k struct{ Secret string }
	if err := json.Unmarshal([]byte(n.ok(append([]string{"key", "create", name, "--json"}, args...)...)), &k); err != nil || k.Secret == "" {
		n.t.Fatalf("key create printed no secret: %v", err)
	}
	return k.Secret
}

// audit is the whole record as the shell prints it.
func (n *node) audit(args ...string) string {
	n.t.Helper()
	return n.ok(append([]string{"audit", "list", "--json", "--limit", "1000"}, args...)...)
}

// answer is what the node answered to a request.
type answer struct {
	status int
	header http.Header
	body   string
}

// send sends a request. Headers come in pairs.
func (n *node) send(method, path string, body io.Reader, headers ...string) answer {
	n.t.Helper()
	a, err := n.try(method, path, body, headers...)
	if err != nil {
		n.t.Fatalf("%s %.100s: %v", method, path, err)
	}
	return a
}

func (n *node) try(method, path string, body io.Reader, headers ...string) (answer, error) {
	req, err := http.NewRequest(method, n.setup.URL+path, body)
	if err != nil {
		return answer{}, err
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := n.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return answer{resp.StatusCode, resp.Header, string(b)}, err
}

func bearer(token string) []string {
	return []string{"Authorization", "Bearer " + token, "Content-Type", "application/json"}
}

// isProblem asks for a status and a problem that says something.
func (a answer) isProblem(t testing.TB, what string, status int, words ...string) {
	t.Helper()
	var p struct{ Title, Detail string }
	if err := json.Unmarshal([]byte(a.body), &p); err != nil || p.Title == "" || !strings.HasPrefix(a.header.Get("Content-Type"), "application/problem+json") {
		t.Errorf("%s: no problem but %d %s %.300q", what, a.status, a.header.Get("Content-Type"), a.body)
	}
	if a.status != status {
		t.Errorf("%s: status %d, wanted %d: %.300s", what, a.status, status, a.body)
	}
	for _, w := range words {
		if !strings.Contains(strings.ToLower(a.body), strings.ToLower(w)) {
			t.Errorf("%s does not say %q: %.300s", what, w, a.body)
		}
	}
}

// file writes a file and returns its path.
func (n *node) file(name, content string) string {
	n.t.Helper()
	path := filepath.Join(filepath.Dir(n.home), name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		n.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		n.t.Fatal(err)
	}
	return path
}

// version is the newest version of the node's store.
func (n *node) version() uint64 {
	n.t.Helper()
	var s struct{ Store struct{ Applied uint64 } }
	if err := json.Unmarshal([]byte(n.ok("status", "--json")), &s); err != nil {
		n.t.Fatal(err)
	}
	return s.Store.Applied
}
