package cluster

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestAClusterOfTheProgramBeforeIsFinalised: a data folder of the program before,
// two nodes that joined since, and the moment from which there is no way back.
// That is refused while a node does not answer. Then all nodes have the policies
// that a new installation has, without a restart.
func TestAClusterOfTheProgramBeforeIsFinalised(t *testing.T) {
	c := upgraded(t)
	three := c.Nodes[2]
	c.Kill(three)
	c.Soon("it is known that a node is away", func() error {
		var list []struct{ Healthy bool }
		c.Read(&list, "node", "list", "--json")
		if !slices.ContainsFunc(list, func(m struct{ Healthy bool }) bool { return !m.Healthy }) {
			return errors.New("all are well")
		}
		return nil
	})
	if _, err := c.Try("", "node", "finalise", "--yes"); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("finalised beside a node that is away: %v", err)
	}
	if _, err := c.Try("", "node", "finalise"); err == nil || !strings.Contains(err.Error(), "say --yes") {
		t.Errorf("finalised without being asked: %v", err)
	}
	c.Serve(three)
	c.AllVote()
	for _, n := range c.Nodes {
		c.SignIn(n)
		if _, err := c.Try("", "directory", "list"); err == nil || !strings.Contains(err.Error(), "not permitted") {
			t.Errorf("%s uses what the program before does not know: %v", n.Name, err)
		}
	}
	if out := c.Run("", "node", "finalise", "--yes"); !strings.Contains(out, "format 3 now; it was 2") {
		t.Errorf("finalise said %q", out)
	}
	told := 0
	for _, n := range c.Nodes {
		c.SignIn(n)
		if out := c.Run("", "node", "finalise", "--yes"); !strings.Contains(out, "works at format 3 already") {
			t.Errorf("%s said %q", n.Name, out)
		}
		c.Soon("an administrator sees the directories through "+n.Name, func() error {
			_, err := c.Try("", "directory", "list")
			return err
		})
		told += strings.Count(c.Log(n), "starter policies of this program were added")
	}
	if told != 1 {
		t.Errorf("the administrators are told %d times", told)
	}
	c.Kill(three)
	c.Serve(three)
	c.AllVote()
}

// upgraded is three nodes of today, the first of which has the folder that package
// node keeps of the program before.
func upgraded(t *testing.T) *Cluster {
	t.Helper()
	c := &Cluster{T: t, Binary: program(t), Dir: t.TempDir()}
	t.Cleanup(c.end)
	first := c.Node("n1")
	c.Nodes = []*Node{first}
	if err := os.Mkdir(first.Data, 0o700); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join("..", "..", "node", "testdata", "format-2.tar.gz")
	if out, err := exec.Command("tar", "-xzf", folder, "-C", first.Data).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	c.Serve(first)
	c.Trust(first)
	c.Ready(first)
	c.SignIn(first)
	c.Join(c.Node("n2"), c.Node("n3"))
	return c
}
