package mainjob

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
	"sync"
	"time"

	"github.com/cloister-os/cloister/test/world"
)

// job is one walk inside the namespace.
type job struct {
	dir, binary, verifier string
	pack                  string // "" = without any model
	checkout              string // the project's own checkout as the data set; "" = a generated world
	seed                  uint64
	setup                 struct {
		URL, CA, Fingerprint, Code string
		LogKey                     string `json:"log_key"`
	}
	server *exec.Cmd // of a walk on one node
	trio   *trio     // nil = one node
	client *http.Client
	token  string
	world  *world.World
	log    io.Writer
}

// report is what the walk found; the test outside judges it.
type report struct {
	Seed    uint64
	Model   bool
	Score   Score
	Facts   map[string]string // checks that are not counted: name → "" or what is wrong
	Answers map[string]string // question → its gist
	Seconds map[string]float64
}

const password = "correct horse battery staple"

// step is one part of the walk.
type step struct {
	name string
	do   func(context.Context, *report) error
}

// measured is the walk up to the last question; whole goes on to what must hold
// around it.
func (j *job) measured() []step {
	return []step{{"world", j.makeWorld}, {"start", j.start}, {"setup", j.finishSetup}, {"import", j.importPack}, {"sources", j.addSources}, {"ask", j.askAll}}
}

func (j *job) whole() []step {
	return append(j.measured(), step{"shell", j.askInShell}, step{"second principal", j.secondPrincipal}, step{"kill", j.killAndAsk}, step{"evidence", j.evidence})
}

func (j *job) walk(ctx context.Context, steps []step) (*report, error) {
	r := &report{Seed: j.seed, Model: j.pack != "", Facts: map[string]string{}, Answers: map[string]string{}, Seconds: map[string]float64{}}
	defer j.stop()
	for _, step := range steps {
		began := time.Now()
		if err := step.do(ctx, r); err != nil {
			return r, fmt.Errorf("%s: %w", step.name, err)
		}
		r.Seconds[step.name] = time.Since(began).Seconds()
		fmt.Fprintf(j.log, "%-18s %6.1fs\n", step.name, r.Seconds[step.name])
	}
	return r, nil
}

func (j *job) makeWorld(context.Context, *report) (err error) {
	if j.checkout != "" {
		j.world, err = world.Ourselves(filepath.Join(j.dir, "world"), j.checkout)
		return err
	}
	j.world, err = world.New(filepath.Join(j.dir, "world"), j.seed)
	return err
}

func (j *job) start(ctx context.Context, _ *report) error {
	data := filepath.Join(j.dir, "data")
	log, err := os.OpenFile(filepath.Join(j.dir, "serve.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if j.trio != nil {
		err = j.serve(j.trio.members[0])
	} else {
		j.server = exec.Command(j.binary, "serve", "--data", data, "--listen", "localhost:8443")
		j.server.Stdout, j.server.Stderr = log, log
		err = j.server.Start()
	}
	if err != nil {
		return err
	}
	if j.client == nil {
		if err := j.readSetup(ctx, filepath.Join(data, "setup.json")); err != nil {
			return err
		}
	}
	return j.until(ctx, 30*time.Second, "the node is ready", func() error {
		resp, err := j.client.Get(j.setup.URL + "/readyz")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	})
}

func (j *job) readSetup(ctx context.Context, file string) error {
	if err := j.until(ctx, 20*time.Second, "setup.json is written", func() error {
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		return json.Unmarshal(b, &j.setup)
	}); err != nil {
		return err
	}
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o600 {
		return fmt.Errorf("setup.json has mode %v, not 0600", st.Mode().Perm())
	}
	pem, err := os.ReadFile(j.setup.CA)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return errors.New("setup.json's ca is not a certificate")
	}
	j.client = &http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}}
	return nil
}

func (j *job) stop() {
	if j.trio != nil {
		j.trio.stop()
	}
	if j.server != nil {
		end(j.server)
		j.server = nil
	}
}

// end stops a server, by force when it takes too long.
func end(server *exec.Cmd) {
	_ = server.Process.Signal(os.Interrupt)
	done := make(chan struct{})
	go func() { _ = server.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		_ = server.Process.Kill()
		<-done
	}
}

func (j *job) until(ctx context.Context, limit time.Duration, what string, try func() error) error {
	deadline := time.Now().Add(limit)
	for {
		err := try()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return fmt.Errorf("after %v it is not so that %s: %w\n%s", limit, what, err, j.tail())
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (j *job) tail() string {
	b, _ := os.ReadFile(filepath.Join(j.dir, "serve.log"))
	return string(b[max(0, len(b)-3000):])
}

// cli runs the shell's command the way a person would, and returns what it prints.
func (j *job) cli(ctx context.Context, stdin string, args ...string) (string, error) {
	if j.trio != nil {
		return j.cliFailover(ctx, stdin, args)
	}
	return j.command(ctx, stdin, nil, args)
}

func (j *job) command(ctx context.Context, stdin string, env, args []string) (string, error) {
	cmd := exec.CommandContext(ctx, j.binary, args...)
	cmd.Env = append(os.Environ(), "HOME="+filepath.Join(j.dir, "home"), "XDG_CONFIG_HOME="+filepath.Join(j.dir, "home", ".config"))
	cmd.Env = append(cmd.Env, env...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("cloister %s: %w: %s\n%s", strings.Join(args, " "), err, errs.String(), j.tail())
	}
	return out.String(), nil
}

func (j *job) finishSetup(ctx context.Context, r *report) error {
	file := filepath.Join(j.dir, "data", "setup.json")
	if _, err := j.cli(ctx, password+"\n", "setup", "--from", file, "--user", "ada", "--password-stdin"); err != nil {
		return err
	}
	if _, err := os.Stat(file); err == nil {
		r.Facts["setup.json is removed"] = "it is still there"
	}
	out, err := j.cli(ctx, "", "key", "create", "everything", "--scope", "ask", "--scope", "source", "--source", "code", "--source", "docs", "--json")
	if err != nil {
		return err
	}
	j.token, err = secretOf(out)
	return err
}

func secretOf(out string) (string, error) {
	var k struct{ Secret string }
	if err := json.Unmarshal([]byte(out), &k); err != nil || k.Secret == "" {
		return "", fmt.Errorf("key create --json printed no secret: %v", err)
	}
	return k.Secret, nil
}

func (j *job) importPack(ctx context.Context, _ *report) error {
	if j.pack == "" {
		return nil
	}
	_, err := j.cli(ctx, "", "model", "import", j.pack, "--accept-licence")
	return err
}

func (j *job) addSources(ctx context.Context, _ *report) error {
	for _, args := range [][]string{
		{"source", "add", "git", "code", "--path", j.world.Repository},
		{"source", "add", "files", "docs", "--path", j.world.Documents},
		{"source", "sync", "code", "--wait"},
		{"source", "sync", "docs", "--wait"},
	} {
		if _, err := j.cli(ctx, "", args...); err != nil {
			return err
		}
	}
	return nil
}

// askAll asks every question in every wording, two at a time.
func (j *job) askAll(ctx context.Context, r *report) error {
	var mu sync.Mutex
	var first error
	var wg sync.WaitGroup
	slots := make(chan struct{}, 2)
	for _, q := range append(append([]world.Question{}, j.world.Questions...), j.world.Unknown...) {
		for i := range q.Wordings {
			slots <- struct{}{}
			wg.Add(1)
			go func() {
				defer func() { <-slots; wg.Done() }()
				a, err := j.ask(ctx, j.token, q.Wordings[i])
				if err == nil {
					err = j.reread(ctx, a)
				}
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					first = errors.Join(first, fmt.Errorf("%q: %w", q.Wordings[i], err))
					return
				}
				r.Score.add(q, i, a)
				r.Answers[q.Wordings[i]] = gist(a)
			}()
		}
	}
	wg.Wait()
	return first
}

func (j *job) ask(ctx context.Context, token, question string) (answer, error) {
	body, _ := json.Marshal(map[string]string{"question": question})
	began := time.Now()
	b, status, err := j.call(ctx, token, http.MethodPost, "/api/v1/ask", body)
	if err != nil {
		return answer{}, err
	}
	if status != http.StatusOK {
		return answer{}, fmt.Errorf("status %d: %s", status, b)
	}
	var a answer
	if err := json.Unmarshal(b, &a); err != nil {
		return answer{}, err
	}
	a.milliseconds = float64(time.Since(began).Microseconds()) / 1000
	return a, nil
}

func (j *job) call(ctx context.Context, token, method, path string, body []byte) ([]byte, int, error) {
	if j.trio != nil {
		return j.failover(ctx, token, method, path, body)
	}
	return j.send(ctx, j.setup.URL, token, method, path, body)
}

func (j *job) send(ctx context.Context, url, token, method, path string, body []byte) ([]byte, int, error) {
	req, err := http.NewRequestWithContext(ctx, method, url+path, bytes.NewReader(body))
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := j.client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	return b, resp.StatusCode, err
}
