package pkg

import (
	"context"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cloister-os/cloister/test/machine"
	"github.com/cloister-os/cloister/test/medium"
	"github.com/cloister-os/cloister/test/operator"
	"github.com/cloister-os/cloister/test/world"
)

// TestAnyOfThreeMachinesMayLosePower installs the package on three machines, forms
// a cluster by invitation, and cuts each of them off in turn while it answers: the
// others answer the same question rightly, the lost one comes back by itself, and
// all that the nodes say stays on their network.
func TestAnyOfThreeMachinesMayLosePower(t *testing.T) {
	if why := machine.Reason(); why != "" {
		t.Skip(why)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	made := medium.Pack(t, "0.1.0")
	dir := filepath.Join(t.TempDir(), "world")
	w, err := world.New(dir, uint64(time.Now().UnixNano()))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("seed %d", w.Seed)
	lan := machine.NewLAN(t)
	var three operator.Cluster
	for _, name := range []string{"node-1", "node-2", "node-3"} {
		m := lan.New(t, name, filepath.Dir(made.RPM)+":/media/stick", dir+":/srv/world")
		if err := m.Boot(ctx); err != nil {
			t.Fatal(err)
		}
		three = append(three, operator.On(m))
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, n := range three {
				t.Logf("%s:\n%s", n.Name, n.Journal(operator.Unit))
			}
		}
	})
	if err := three.Install(ctx, "/media/stick/"+filepath.Base(made.RPM)); err != nil {
		t.Fatal(err)
	}
	if err := three.Form(ctx); err != nil {
		t.Fatal(err)
	}
	first := three[0]
	for _, args := range [][]string{{"source", "add", "git", "code", "--path", "/srv/world/repository"}, {"source", "sync", "code", "--wait"}} {
		if _, err := first.CLI(ctx, "", args...); err != nil {
			t.Fatal(err)
		}
	}
	token, err := first.Key(ctx, "asking", "code")
	if err != nil {
		t.Fatal(err)
	}
	q := w.Questions[slices.IndexFunc(w.Questions, func(q world.Question) bool { return q.Shape == "last-change" })]
	for _, n := range three {
		if err := n.Until(ctx, time.Minute, "it answers from what another has read", func() error { return cited(n.Ask(ctx, token, q.Wordings[0]))(q) }); err != nil {
			t.Fatal(err)
		}
	}
	for _, victim := range three {
		a, waited, err := three.CutWhileItAnswers(ctx, victim, token, q.Wordings[0])
		if err := cited(a, err)(q); err != nil {
			t.Fatalf("%s lost its power: %v", victim.Name, err)
		}
		t.Logf("%s lost its power while it answered; another answered %v later", victim.Name, waited.Round(time.Millisecond))
		if err := victim.Boot(ctx); err != nil {
			t.Fatal(err)
		}
		if err := victim.Ready(ctx); err != nil {
			t.Fatal(err)
		}
		if err := first.AllVote(ctx, len(three)); err != nil {
			t.Fatal(err)
		}
	}
	if frames := lan.Frames(); len(frames) > 0 {
		t.Errorf("%d packets left the network, the first of them: %s", len(frames), frames[0])
	}
	if _, err := first.Run(ctx, "timeout", "2", "bash", "-c", "exec 3<>/dev/tcp/192.0.2.9/443"); err == nil || len(lan.Frames()) == 0 {
		t.Errorf("a planted dial was not seen (%v), so seeing nothing proves nothing", err)
	}
}

// cited takes what came of a question and says why it is not right.
func cited(a operator.Answer, err error) func(world.Question) error {
	return func(q world.Question) error {
		if err != nil {
			return err
		}
		return a.Cites(q.Fact)
	}
}
