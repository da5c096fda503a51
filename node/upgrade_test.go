package node

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cloister-os/cloister/auth/policy"
	"github.com/cloister-os/cloister/node/api/wire"
	"github.com/cloister-os/cloister/store"
)

// formerFolder is the data folder of a node as the last program of format 2 left it:
// set up, finalised, with one starter policy changed and one removed. Its authority
// ends in 2036. UPGRADE_PROGRAM=FILE makes it anew with that program.
const formerFolder = "testdata/format-2.tar.gz"

const (
	narrowed = `@id("agents-work") permit (principal is Agent, action in [Action::"ask", Action::"source.read", Action::"model.infer"], resource);`
	removed  = "keys-never"
)

func TestMakeFormerFolder(t *testing.T) {
	program := os.Getenv("UPGRADE_PROGRAM")
	if program == "" {
		return // made once
	}
	dir := t.TempDir()
	run := func(input string, args ...string) {
		t.Helper()
		cmd := exec.Command(program, args...)
		cmd.Stdin, cmd.Env = strings.NewReader(input), append(os.Environ(), "HOME="+dir)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	data := filepath.Join(dir, "data")
	served := exec.Command(program, "serve", "--data", data, "--listen", "localhost:18443", "--node", "n1", "--sync-every", "0")
	if err := served.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it offers setup", func() bool { _, err := os.Stat(filepath.Join(data, "setup.json")); return err == nil })
	// It listens by then, and who connects waits until it is served.
	run(password+"\n", "setup", "--from", filepath.Join(data, "setup.json"), "--user", "ada", "--password-stdin")
	run(narrowed, "policy", "put", "-")
	run("", "policy", "remove", removed)
	run("", "node", "finalise", "--yes")
	if err := served.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := served.Wait(); err != nil {
		t.Fatal(err)
	}
	to, err := filepath.Abs(formerFolder)
	if err != nil {
		t.Fatal(err)
	}
	pack := exec.Command("tar", "--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--exclude=LOCK", "--exclude=lock", "-czf", to, "-C", data, ".")
	if out, err := pack.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// policies are the texts in force.
func (s *served) policies(t *testing.T) map[string]string {
	t.Helper()
	var list []wire.Policy
	if status, p := s.call(t, http.MethodGet, "/api/v1/policies", nil, &list); status != http.StatusOK {
		t.Fatalf("policies: %d %+v", status, p)
	}
	texts := map[string]string{}
	for _, one := range list {
		texts[one.ID] = one.Text
	}
	return texts
}

func (s *served) seesDirectories(t *testing.T) bool {
	t.Helper()
	status, p := s.call(t, http.MethodGet, "/api/v1/directories", nil, nil)
	if status != http.StatusOK && status != http.StatusForbidden {
		t.Fatalf("directories: %d %+v", status, p)
	}
	return status == http.StatusOK
}

// amendments are the records of starter policies that were added.
func (s *served) amendments(t *testing.T) (out []string) {
	t.Helper()
	var list struct{ Records []wire.Record }
	if status, p := s.call(t, http.MethodGet, "/api/v1/audit/records?action="+string(eventAmend), nil, &list); status != http.StatusOK {
		t.Fatalf("the record: %d %+v", status, p)
	}
	for _, r := range list.Records {
		out = append(out, string(r.Record))
	}
	return out
}

// TestAnUpgradedNodeOffersWhatANewOneHas: the data of the program before, today's
// program, and the moment at which the cluster is finalised.
func TestAnUpgradedNodeOffersWhatANewOneHas(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("tar", "-xzf", formerFolder, "-C", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	n := serve(t, newNode(settings(dir), "test", silent))
	n.signIn(t)
	before := n.policies(t)
	if n.seesDirectories(t) || before["memories-are-private"] != "" || len(n.amendments(t)) != 0 {
		t.Fatal("policies were written that an older program cannot read")
	}
	if before["agents-work"] != narrowed || before[removed] != "" || before["agents-never-administer"] == "" {
		t.Fatalf("the folder holds %d other policies", len(before))
	}
	var out wire.Finalised
	if status, p := n.call(t, http.MethodPost, "/api/v1/nodes/finalise", nil, &out); status != http.StatusOK || out.From != 2 || out.To != store.Format {
		t.Fatalf("finalise: %d %+v %+v", status, p, out)
	}
	eventually(t, "an administrator may see the directories", func() bool { return n.seesDirectories(t) })
	after := n.policies(t)
	fresh := serve(t, newNode(settings(filepath.Join(t.TempDir(), "fresh")), "test", silent))
	fresh.setUp(t)
	for id, want := range fresh.policies(t) {
		switch id {
		case "agents-work":
			want = narrowed
		case removed:
			want = ""
		}
		if after[id] != want {
			t.Errorf("%s: %q", id, after[id])
		}
		delete(after, id)
	}
	if len(after) > 0 {
		t.Errorf("there are %d more than in a new installation", len(after))
	}
	if !fresh.seesDirectories(t) {
		t.Error("a new installation lacks them")
	}
	n.close(t)
	n = serve(t, newNode(settings(dir), "test", silent))
	n.signIn(t)
	if !n.seesDirectories(t) {
		t.Error("they are gone with the next start")
	}
	records := n.amendments(t)
	if len(records) != 1 {
		t.Fatalf("it is on record %d times", len(records))
	}
	var rec struct {
		Kind   string
		Actor  struct{ Kind, ID string }
		Detail struct {
			Added   []string
			Changed []string `json:"left_as_changed"`
		}
	}
	if err := json.Unmarshal([]byte(records[0]), &rec); err != nil {
		t.Fatal(err)
	}
	if rec.Kind != "event" || rec.Actor.Kind != "System" || rec.Actor.ID != "n1" || !slices.Contains(rec.Detail.Added, "administrators-manage-directories") || !slices.Equal(rec.Detail.Changed, []string{"agents-work"}) {
		t.Errorf("the record says %s", records[0])
	}
	if !strings.Contains(policy.Starter, "memories-are-private") {
		t.Error("the test looks for a policy that there is not")
	}
}
