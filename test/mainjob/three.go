package mainjob

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// trio is what a walk on three nodes has beside the first one's server.
type trio struct {
	rnd     *rand.Rand
	members []*member
	first   int // which is asked first; moved on by whoever meets a dead one
	mu      sync.Mutex
	broken  chan error // how the kill went
	when    string     // the step that is under way at the kill
}

// member is one node.
type member struct {
	name, url, peer, data string
	server                *exec.Cmd // nil = killed
}

const nodes = 3

func newTrio(dir string, seed uint64) *trio {
	t := &trio{rnd: rand.New(rand.NewPCG(seed, 3)), broken: make(chan error, 1)}
	for i := range nodes {
		t.members = append(t.members, &member{
			name: fmt.Sprint("node-", i+1), url: fmt.Sprint("https://localhost:", 8443+i), peer: fmt.Sprint("127.0.0.1:", 7443+i),
			data: filepath.Join(dir, []string{"data", "data2", "data3"}[i]),
		})
	}
	t.when = []string{"sources", "ask"}[t.rnd.IntN(2)]
	return t
}

// onThree is the walk on three nodes, one of which is killed at a random moment.
func (j *job) onThree() []step {
	steps := []step{{"world", j.makeWorld}, {"start", j.start}, {"setup", j.finishSetup}, {"join", j.joinOthers}, {"import", j.importPack}}
	for _, s := range []step{{"sources", j.addSources}, {"ask", j.askAll}} {
		if s.name == j.trio.when {
			s.do = j.whileKilling(s.do)
		}
		steps = append(steps, s)
	}
	return append(steps, step{"return", j.bringBack}, step{"evidence", j.evidence})
}

// serve starts a node.
func (j *job) serve(m *member) error {
	log, err := os.OpenFile(filepath.Join(j.dir, "serve.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(j.binary, "serve", "--data", m.data, "--listen", strings.TrimPrefix(m.url, "https://"), "--cluster-peer", m.peer)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	j.trio.mu.Lock()
	m.server = cmd
	j.trio.mu.Unlock()
	return nil
}

// joinOthers has the other nodes join, and waits until all vote.
func (j *job) joinOthers(ctx context.Context, _ *report) error {
	for _, m := range j.trio.members[1:] {
		out, err := j.cli(ctx, "", "node", "invite", "--json")
		if err != nil {
			return err
		}
		var invitation struct{ Token string }
		if err := json.Unmarshal([]byte(out), &invitation); err != nil {
			return err
		}
		if _, err := j.cli(ctx, "", "node", "join", invitation.Token, "--data", m.data, "--node", m.name, "--cluster-peer", m.peer); err != nil {
			return err
		}
		if err := j.serve(m); err != nil {
			return err
		}
	}
	return j.allVote(ctx)
}

// allVote waits until all nodes vote and are well.
func (j *job) allVote(ctx context.Context) error {
	return j.until(ctx, 3*time.Minute, "all nodes vote and are well", func() error {
		out, err := j.cli(ctx, "", "node", "list", "--json")
		if err != nil {
			return err
		}
		var list []struct {
			Name, Role, Note string
			Healthy          bool
		}
		if err := json.Unmarshal([]byte(out), &list); err != nil {
			return err
		}
		well := 0
		for _, n := range list {
			if n.Healthy && (n.Role == "leader" || n.Role == "voter") {
				well++
			}
		}
		if well != nodes {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
}

// whileKilling does a step while a random node is killed at a random moment of it.
// A node that holds folders which are being read is started again a while later,
// as its supervisor would; one that dies under questions stays dead.
func (j *job) whileKilling(do func(context.Context, *report) error) func(context.Context, *report) error {
	return func(ctx context.Context, r *report) error {
		victim, delay := j.trio.members[j.trio.rnd.IntN(nodes)], time.Duration(j.trio.rnd.IntN(4000))*time.Millisecond
		fmt.Fprintf(j.log, "%s is killed %v into %q\n", victim.name, delay, j.trio.when)
		go func() {
			time.Sleep(delay)
			err := j.kill(victim)
			if j.trio.when == "sources" && err == nil {
				time.Sleep(delay)
				err = j.serve(victim)
			}
			j.trio.broken <- err
		}()
		err := do(ctx, r)
		return errors.Join(err, <-j.trio.broken)
	}
}

func (j *job) kill(m *member) error {
	j.trio.mu.Lock()
	server := m.server
	m.server = nil
	j.trio.mu.Unlock()
	if err := server.Process.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	_ = server.Wait()
	return nil
}

// bringBack starts the killed node again and asks each node the same: all answer,
// and alike.
func (j *job) bringBack(ctx context.Context, r *report) error {
	for _, m := range j.trio.members {
		if m.server == nil {
			if err := j.serve(m); err != nil {
				return err
			}
		}
	}
	if err := j.allVote(ctx); err != nil {
		return err
	}
	for i, m := range j.trio.members {
		for _, q := range j.world.Questions[:3] {
			name := fmt.Sprintf("%s answers %q as before", m.name, q.Wordings[0])
			var a answer
			if err := j.until(ctx, time.Minute, m.name+" answers", func() (err error) {
				a, err = j.askAt(ctx, i, q.Wordings[0])
				return err
			}); err != nil {
				return err
			}
			r.Facts[name] = ""
			if got := gist(a); got != r.Answers[q.Wordings[0]] {
				r.Facts[name] = fmt.Sprintf("it said %s, and before %s", got, r.Answers[q.Wordings[0]])
			}
		}
	}
	return nil
}

// askAt asks one node.
func (j *job) askAt(ctx context.Context, node int, question string) (answer, error) {
	body, _ := json.Marshal(map[string]string{"question": question})
	b, status, err := j.send(ctx, j.trio.members[node].url, j.token, http.MethodPost, "/api/v1/ask", body)
	var a answer
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("status %d: %s", status, b)
	}
	if err == nil {
		err = json.Unmarshal(b, &a)
	}
	return a, err
}

// failover sends a request to the nodes in turn until one that lives answers.
func (j *job) failover(ctx context.Context, token, method, path string, body []byte) ([]byte, int, error) {
	deadline := time.Now().Add(time.Minute)
	for {
		j.trio.mu.Lock()
		at := j.trio.first
		j.trio.mu.Unlock()
		b, status, err := j.send(ctx, j.trio.members[at].url, token, method, path, body)
		if err == nil && status < http.StatusInternalServerError || time.Now().After(deadline) || ctx.Err() != nil {
			return b, status, err
		}
		j.trio.mu.Lock()
		if at == j.trio.first {
			j.trio.first = (at + 1) % nodes
		}
		j.trio.mu.Unlock()
		time.Sleep(50 * time.Millisecond)
	}
}

// cliFailover runs a command at the nodes in turn: as the profile says first, then
// with another node's address, as a person does whose node died.
func (j *job) cliFailover(ctx context.Context, stdin string, args []string) (string, error) {
	deadline := time.Now().Add(time.Minute)
	for at := 0; ; at = (at + 1) % nodes {
		out, err := j.command(ctx, stdin, j.elsewhere(at), args)
		if err == nil || ctx.Err() != nil || time.Now().After(deadline) || !passing(err) {
			if err != nil && args[0] == "source" && args[1] == "add" && strings.Contains(err.Error(), "already") {
				return out, nil // it was added by a try whose answer was lost
			}
			return out, err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// passing reports an error that another node, or a moment, may cure.
func passing(err error) bool {
	for _, s := range []string{"no node answers", "cannot be reached", "stopped in the middle", "try again", "ended before", "EOF", "connection re", "been away", "does not answer", "node that holds"} {
		if strings.Contains(err.Error(), s) {
			return true
		}
	}
	return false
}

// elsewhere is the environment of a command that asks another node than the
// profile's.
func (j *job) elsewhere(at int) []string {
	if at == 0 {
		return nil
	}
	var profile struct{ Token string }
	b, err := os.ReadFile(filepath.Join(j.dir, "home", ".config", "cloister", "profile.json"))
	if err != nil || json.Unmarshal(b, &profile) != nil {
		return nil
	}
	return []string{"CLOISTER_URL=" + j.trio.members[at].url, "CLOISTER_TOKEN=" + profile.Token}
}

func (t *trio) stop() {
	for _, m := range t.members {
		if m.server != nil {
			end(m.server)
			m.server = nil
		}
	}
}
