package node

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cloister-os/cloister/agents/run"
	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/audit"
	"github.com/cloister-os/cloister/auth/guard/guardtest"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/blob"
	"github.com/cloister-os/cloister/store/consensus"
)

// A run of three steps is worked on by processes that are killed with SIGKILL at
// a commit of the run engine, over the real store: just before the commit, or
// when it is durable and nobody has heard of it.

const killSteps = 3

func TestARunSurvivesAKillAtEveryCommit(t *testing.T) {
	for commit := 2; commit <= killSteps+1; commit++ {
		for _, durable := range []bool{false, true} {
			t.Run(fmt.Sprintf("commit %d, durable %v", commit, durable), func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				killedChild(t, dir, commit, durable)
				done := commit - 2 // steps in the journal
				if durable {
					done++
				}
				before := executed(t, dir)
				lastChild(t, dir)
				after := executed(t, dir)[len(before):]
				for i := range killSteps {
					want := 0
					if i >= done {
						want = 1
					}
					if n := count(after, i); n != want {
						t.Errorf("step %d was executed %d times after the kill, want %d (%d were in the journal): %v then %v", i, n, want, done, before, after)
					}
				}
			})
		}
	}
}

// Every process lives for a takeover and one step.
func TestARunSurvivesAKillAfterEachStep(t *testing.T) {
	dir := t.TempDir()
	for range killSteps - 1 {
		killedChild(t, dir, 3, false)
	}
	lastChild(t, dir)
	if got := fmt.Sprint(executed(t, dir)); got != "[0 1 1 2 2]" {
		t.Errorf("steps were executed in the order %s", got)
	}
}

func child(t *testing.T, dir string, env ...string) error {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestRunEngineChild$", "-test.count=1")
	cmd.Env = append(os.Environ(), append(env, "KILL_DIR="+dir)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Logf("child: %v\n%s", err, out)
	}
	return err
}

func killedChild(t *testing.T, dir string, commit int, durable bool) {
	t.Helper()
	err := child(t, dir, "KILL_COMMIT="+strconv.Itoa(commit), fmt.Sprintf("KILL_DURABLE=%v", durable))
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the child ended with %v and was not killed", err)
	}
}

// lastChild lets a process finish the run and looks at what it told.
func lastChild(t *testing.T, dir string) {
	t.Helper()
	if err := child(t, dir); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "events.json"))
	if err != nil {
		t.Fatal(err)
	}
	var events []run.Event
	if err := json.Unmarshal(b, &events); err != nil {
		t.Fatal(err)
	}
	finals := 0
	for i, ev := range events {
		if ev.N != uint64(i+1) {
			t.Errorf("event %d has number %d", i+1, ev.N)
		}
		if ev.Last() {
			finals++
		}
	}
	last := events[len(events)-1]
	if finals != 1 || last.Kind != run.KindFinal || string(last.Data) != `"0 1 2"` {
		t.Errorf("%d final events, the last event is %s %s", finals, last.Kind, last.Data)
	}
}

func executed(t *testing.T, dir string) []int {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, "executed"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []int
	for s := bufio.NewScanner(f); s.Scan(); {
		n, err := strconv.Atoi(s.Text())
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, n)
	}
	return out
}

func count(list []int, n int) (c int) {
	for _, x := range list {
		if x == n {
			c++
		}
	}
	return c
}

// killer kills its own process at the nth transaction.
type killer struct {
	store.Store
	left    atomic.Int64
	durable bool
}

func (k *killer) Apply(ctx context.Context, tx *store.Tx) (store.Result, error) {
	if k.left.Add(-1) != 0 {
		return k.Store.Apply(ctx, tx)
	}
	if k.durable {
		if _, err := k.Store.Apply(ctx, tx); err != nil {
			return store.Result{}, err
		}
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
		panic(err)
	}
	select {} // the signal is on its way
}

// TestRunEngineChild is the process that is killed.
func TestRunEngineChild(t *testing.T) {
	dir := os.Getenv("KILL_DIR")
	if dir == "" {
		return // it is a part of the tests above
	}
	node, err := consensus.Open(t.Context(), consensus.Config{Dir: filepath.Join(dir, "data"), NodeID: "n1", ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	<-node.Ready()
	house := guardtest.Open(t, node)
	k := &killer{Store: node, durable: os.Getenv("KILL_DURABLE") == "true"}
	if n, err := strconv.Atoi(os.Getenv("KILL_COMMIT")); err == nil {
		k.left.Store(int64(n))
	}
	blobs, err := blob.Open(filepath.Join(dir, "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	e, err := run.New(run.Config{Store: k, Door: house.Guard, Blobs: blobs, Node: "n1", Agents: []run.Agent{counting(t, dir)}, Lease: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	who := guardtest.Asker()
	id := existing(t, e, who)
	if id == "" {
		if id, err = e.Start(t.Context(), who, "counting", "go"); err != nil {
			t.Fatal(err)
		}
	} else {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go e.Resume(ctx)
	}
	tell(t, e, who, id, dir)
	outcomes(t, house, id)
}

func existing(t *testing.T, e *run.Engine, who auth.Principal) run.ID {
	t.Helper()
	list, err := e.List(t.Context(), who, "", 10)
	if err != nil || len(list) > 1 {
		t.Fatalf("%d runs, %v", len(list), err)
	}
	if len(list) == 0 {
		return ""
	}
	return list[0].ID
}

// counting is an agent whose steps leave a line each on disk.
func counting(t *testing.T, dir string) run.Agent {
	a := run.Agent{Name: "counting", Revision: "1"}
	for i := range killSteps {
		a.Steps = append(a.Steps, run.Func(fmt.Sprint("step", i), run.Read, func(_ context.Context, c *run.Call) (string, error) {
			f, err := os.OpenFile(filepath.Join(dir, "executed"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
			if err != nil {
				return "", err
			}
			defer f.Close()
			if _, err := fmt.Fprintln(f, i); err != nil || i == 0 {
				return "0", err
			}
			before, err := run.Result[string](c, fmt.Sprint("step", i-1))
			return before + " " + fmt.Sprint(i), err
		}))
	}
	return a
}

func tell(t *testing.T, e *run.Engine, who auth.Principal, id run.ID, dir string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var events []run.Event
	for ev, err := range e.Events(ctx, who, id, 0) {
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, ev)
	}
	b, err := json.Marshal(events)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "events.json"), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// outcomes checks that every step has exactly one good outcome on record, and
// that no intent has two.
func outcomes(t *testing.T, house *guardtest.House, id run.ID) {
	t.Helper()
	good, byIntent := 0, map[string]int{}
	for _, r := range house.Records(t) {
		if r.Run == string(id) && r.Kind == audit.Outcome && r.Action == auth.Ask {
			byIntent[r.Intent]++
			if r.Status == "ok" {
				good++
			}
		}
	}
	if good != killSteps {
		t.Errorf("%d good outcomes on record, want %d", good, killSteps)
	}
	for intent, n := range byIntent {
		if n != 1 {
			t.Errorf("intent %s has %d outcomes", intent, n)
		}
	}
}
