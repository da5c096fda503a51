package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestDisasters is one walk, since starting three nodes takes longer than most of
// what befalls them: the cluster goes back to a backup while it runs, two of its
// three folders are destroyed, and at last all of them.
func TestDisasters(t *testing.T) {
	d := &centre{Cluster: Start(t), verifier: verifier(t)}
	d.Run("", "key", "create", "kept", "--scope", "ask")
	d.document("gate", "The harbour gate opens at dawn.")
	d.logKey = d.checkpoint().LogKey
	d.isTold()
	saved := d.isBackedUp()
	d.isForgotten(saved)
	held := d.goesBackWhileItRuns(saved)
	d.losesTwoOfThree()
	d.comesBackOnBareMachines(saved, held)
}

// centre is a cluster, and what an auditor and an operator hold of it.
type centre struct {
	*Cluster
	verifier, logKey string
	documents        string // the folder that is read
	exports          int
}

// saved is what an operator keeps elsewhere.
type saved struct {
	backup  string // its name
	folder  string // that it lies in
	rootKey string // a copy of root.key
}

// verifier builds the auditor's program.
func verifier(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "cloister-verify")
	cmd := exec.Command("go", "build", "-o", path, "../../cmd/cloister-verify")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the verifier: %v\n%s", err, out)
	}
	return path
}

// document writes a document that is kept as a blob, reads it in, and waits until
// all nodes hold it.
func (d *centre) document(name, text string) {
	d.T.Helper()
	fresh := d.documents == ""
	if fresh {
		d.documents = filepath.Join(d.Dir, "documents")
		if err := os.Mkdir(d.documents, 0o755); err != nil {
			d.T.Fatal(err)
		}
	}
	long := strings.Repeat("Nothing of note was seen from the tower that night.\n", 2000)
	if err := os.WriteFile(filepath.Join(d.documents, name+".md"), []byte("# "+name+"\n\n"+text+"\n\n"+long), 0o644); err != nil {
		d.T.Fatal(err)
	}
	if fresh {
		d.Run("", "source", "add", "files", "handbook", "--path", d.documents)
	}
	d.Run("", "source", "sync", "handbook", "--wait")
	d.Soon("all nodes hold the documents", func() error {
		want := d.blobs(d.Nodes[0])
		for _, n := range d.Nodes {
			if have := d.blobs(n); have == 0 || have != want {
				return fmt.Errorf("%s holds %d of %d", n.Name, have, want)
			}
		}
		return nil
	})
}

func (d *centre) blobs(n *Node) int {
	list, err := filepath.Glob(filepath.Join(n.Data, "blobs", "[0-9a-f][0-9a-f]", "*"))
	if err != nil {
		d.T.Fatal(err)
	}
	return len(list)
}

// keys are the names of the API keys, as a node lists them.
func (d *centre) keys() (names []string) {
	d.T.Helper()
	var list []struct{ Name string }
	d.Read(&list, "key", "list", "--json")
	for _, k := range list {
		names = append(names, k.Name)
	}
	slices.Sort(names)
	return names
}

type checkpoint struct {
	LogKey string `json:"log_key"`
	Epoch  uint64
	Size   uint64
}

func (d *centre) checkpoint() (c checkpoint) {
	d.T.Helper()
	d.Read(&c, "audit", "checkpoint", "--json")
	return c
}

// export takes the audit log away.
func (d *centre) export() string {
	d.T.Helper()
	d.exports++
	path := filepath.Join(d.Dir, fmt.Sprintf("evidence-%d.bundle", d.exports))
	d.Run("", "audit", "export", "--out", path)
	return path
}

// verify runs the auditor's program, and returns what it said and whether it was
// content.
func (d *centre) verify(bundle, after string) (string, bool) {
	d.T.Helper()
	args := []string{"--log-key", d.logKey}
	if after != "" {
		args = append(args, "--after", after)
	}
	out, err := exec.Command(d.verifier, append(args, bundle)...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		d.T.Fatal(err)
	}
	return string(out), err == nil
}

// holds checks on every node what there is, and that the record says what became of
// the one that the auditor held.
func (d *centre) holds(epoch uint64, keys []string, held, verdict string) {
	d.T.Helper()
	for _, n := range d.Nodes {
		d.Ready(n)
		d.SignIn(n)
		if have := d.keys(); !slices.Equal(have, keys) {
			d.T.Errorf("%s has the keys %q, not %q", n.Name, have, keys)
		}
		d.answers(n, "When does the harbour gate open?", "at dawn")
	}
	d.SignIn(d.Nodes[0])
	if c := d.checkpoint(); c.Epoch != epoch || c.LogKey != d.logKey {
		d.T.Errorf("the record is at %+v, not in epoch %d of the same log", c, epoch)
	}
	now := d.export()
	if said, well := d.verify(now, ""); !well {
		d.T.Errorf("the record is not verified: %s", said)
	}
	said, well := d.verify(now, held)
	if well || !regexp.MustCompile(verdict).MatchString(said) || strings.Contains(said, "fork") {
		d.T.Errorf("beside the older export the verifier says %q, which is not %q", said, verdict)
	}
}

// answers waits until a node, which may still be reading its documents in, answers.
func (d *centre) answers(n *Node, question, want string) {
	d.T.Helper()
	d.Soon(n.Name+" answers", func() error {
		out, err := d.Try("", "ask", "--json", question)
		if err == nil && !strings.Contains(out, want) {
			err = errors.New(out)
		}
		return err
	})
}

// applied is the newest version that each node has.
func (d *centre) applied() (out []uint64) {
	d.T.Helper()
	for _, n := range d.Nodes {
		d.SignIn(n)
		var s struct{ Store struct{ Applied uint64 } }
		d.Read(&s, "status", "--json")
		out = append(out, s.Store.Applied)
	}
	return out
}

// leads makes a node the leader and signs in to it.
func (d *centre) leads(n *Node) {
	d.T.Helper()
	d.SignIn(n)
	d.Soon(n.Name+" leads", func() error {
		var list []struct{ Name, Role string }
		d.Read(&list, "node", "list", "--json")
		for _, m := range list {
			if m.Name == n.Name && m.Role == "leader" {
				return nil
			}
		}
		_, err := d.Try("", "node", "transfer", n.Name)
		return errors.Join(errors.New("it does not"), err)
	})
}

func (d *centre) isBackedUp() (s saved) {
	d.T.Helper()
	d.leads(d.Nodes[0])
	s = saved{folder: filepath.Join(d.Dir, "safe"), rootKey: filepath.Join(d.Dir, "safe", "root.key")}
	var made struct{ Name string }
	d.Read(&made, "backup", "create", "--to", s.folder, "--json")
	s.backup = made.Name
	key, err := os.ReadFile(filepath.Join(d.Nodes[0].Data, "seal", "root.key"))
	if err == nil {
		err = os.WriteFile(s.rootKey, key, 0o600)
	}
	if err != nil {
		d.T.Fatal(err)
	}
	d.Run("", "backup", "verify", "--log-key", d.logKey, filepath.Join(s.folder, s.backup))
	return s
}

// goesBackWhileItRuns: what came after the backup is gone on all nodes, which start
// again by themselves. It returns what an auditor took away before.
func (d *centre) goesBackWhileItRuns(s saved) (held string) {
	d.T.Helper()
	d.Run("", "key", "create", "lost", "--scope", "ask")
	d.document("watch", "The night watch has seven men.")
	held = d.export()
	before := slices.Max(d.applied())
	d.SignIn(d.Nodes[1])
	if _, err := d.Try("", "backup", "restore", "--running", s.backup, "--yes"); err == nil || !strings.Contains(err.Error(), "node transfer") {
		d.T.Errorf("restored through a node that does not lead: %v", err)
	}
	d.leads(d.Nodes[0])
	d.Run("", "backup", "restore", "--running", s.backup, "--yes", "--reason", "a wrong import")
	d.Soon("all nodes started again", func() error {
		for _, n := range d.Nodes {
			if !strings.Contains(d.Log(n), "this node starts again") {
				return errors.New(n.Name + " did not")
			}
		}
		return nil
	})
	for _, n := range d.Nodes {
		d.Ready(n)
	}
	d.SignIn(d.Nodes[0]) // who signed in after the backup never did
	d.AllVote()
	d.holds(2, []string{"kept"}, held, `restored at \d+, [1-9]\d* records lost`)
	d.staysForgotten()
	for i, v := range d.applied() {
		if v <= before {
			d.T.Errorf("the versions of %s went back from %d to %d", d.Nodes[i].Name, before, v)
		}
	}
	return held
}

// losesTwoOfThree: the one that is left was away when the last was written.
func (d *centre) losesTwoOfThree() {
	d.T.Helper()
	one, two := d.Nodes[0], d.Nodes[1]
	d.SignIn(one)
	d.Run("", "key", "create", "heard", "--scope", "ask")
	d.SignIn(two)
	d.Kill(one)
	d.Soon("the others go on", func() error {
		_, err := d.Try("", "key", "create", "unheard", "--scope", "ask")
		return err
	})
	held := d.export()
	for _, n := range d.Nodes[1:] {
		d.Kill(n)
	}
	aside := filepath.Join(d.Dir, "found-again")
	if err := errors.Join(os.Rename(two.Data, aside), os.RemoveAll(d.Nodes[2].Data)); err != nil {
		d.T.Fatal(err)
	}
	d.isRecovered(one)
	d.Nodes = d.Nodes[:1]
	d.Serve(one)
	d.Ready(one)
	d.SignIn(one)
	d.Join(d.Node("node-4"), d.Node("node-5"))
	d.holds(3, []string{"heard", "kept"}, held, `recovered at \d+, [1-9]\d* records lost`)
	d.isTurnedAway(two, aside)
	d.shred()
}

// isRecovered types what is asked for; anything else does nothing.
func (d *centre) isRecovered(n *Node) {
	d.T.Helper()
	command := func() *exec.Cmd {
		return d.Command("node", "recover", "--data", n.Data, "--reason", "the cellar was flooded")
	}
	if out, err := command().CombinedOutput(); err == nil || !strings.Contains(string(out), "--confirm "+n.Name) {
		d.T.Errorf("recovered with nobody asked: %v %s", err, out)
	}
	if out, err := d.typed(command(), "to go on: ", "yes"); err == nil || !strings.Contains(out, "nothing was done") {
		d.T.Errorf("recovered without the node's name: %v %s", err, out)
	}
	out, err := d.typed(command(), "to go on: ", n.Name)
	if err != nil || !strings.Contains(out, "Node "+n.Name+" is the whole cluster now") {
		d.T.Fatalf("recover: %v %s", err, out)
	}
	for _, lost := range []string{"node-2", "node-3"} {
		if !regexp.MustCompile(lost + ` +is given up for lost`).MatchString(out) {
			d.T.Errorf("nothing is said of %s: %s", lost, out)
		}
	}
}

// isTurnedAway: a node that was given up for lost comes back after all.
func (d *centre) isTurnedAway(n *Node, data string) {
	d.T.Helper()
	back := *n
	back.Data = data
	d.all = append(d.all, &back)
	d.Serve(&back)
	d.Soon("it is told that this is another cluster", func() error {
		if log := d.Log(&back); !strings.Contains(log, "another cluster") {
			return errors.New(tail(log, 500))
		}
		return nil
	})
	resp, err := d.HTTP.Get(back.URL() + "/readyz")
	if err != nil {
		d.T.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		d.T.Error("a node that was given up for lost serves")
	}
	d.Kill(&back)
}

// shred destroys all that there is.
func (d *centre) shred() {
	d.T.Helper()
	for _, n := range d.all {
		d.Kill(n)
		if err := os.RemoveAll(n.Data); err != nil {
			d.T.Fatal(err)
		}
	}
	d.Nodes = nil
}

// comesBackOnBareMachines: a backup and the root key are all that is left.
func (d *centre) comesBackOnBareMachines(s saved, held string) {
	d.T.Helper()
	n := d.Node("bare-1")
	var out struct {
		Epoch uint64
		Blobs int
	}
	d.Read(&out, "backup", "restore", "--from", filepath.Join(s.folder, s.backup), "--data", n.Data, "--node", n.Name, "--root-key", s.rootKey, "--after", held, "--json")
	if out.Epoch != 2 || out.Blobs == 0 {
		b, _ := json.Marshal(out)
		d.T.Errorf("restored %s", b)
	}
	d.Nodes = []*Node{n}
	d.Serve(n)
	d.Trust(n)
	d.Ready(n)
	d.SignIn(n)
	d.Join(d.Node("bare-2"), d.Node("bare-3"))
	d.holds(2, []string{"kept"}, held, `restored at \d+, [1-9]\d* records lost`)
	d.staysForgotten()
	d.Soon("all nodes hold the documents", func() error {
		for _, m := range d.Nodes {
			if have := d.blobs(m); have != out.Blobs {
				return fmt.Errorf("%s holds %d of %d", m.Name, have, out.Blobs)
			}
		}
		return nil
	})
}
