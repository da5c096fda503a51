package chaos

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/cloister-os/cloister/test/kvnode/wire"
)

// TestAnOldDiskGetsNoVote: a node whose disk is from before what it acknowledged
// counts for nothing: with it and one other there is no majority. It becomes a
// member again as a bare node.
func TestAnOldDiskGetsNoVote(t *testing.T) {
	t.Parallel()
	c := Start(t, need(t), Options{Nodes: 3, Disks: true})
	r := &run{Cluster: c, log: t.Logf}
	write := func(n *node, i int) error {
		tx := wire.Tx{Puts: []wire.Put{{Key: fmt.Sprint("S/kv/old/", i), Value: "x"}}}
		return post(t.Context(), c.client, n.url()+wire.TxPath, tx, &wire.Done{})
	}
	writes := func(from int) {
		for i := range 50 {
			c.until("writing goes on", func() error { return write(c.nodes[0], from+i) })
		}
	}
	old, other := c.nodes[2], c.nodes[1]
	writes(0)
	old.end(syscall.SIGTERM)
	monday := old.disk.Copy()
	c.restart(old)
	c.waitVoters(c.nodes...)
	writes(100)
	c.settle() // so that each knows what the others hold
	time.Sleep(3 * time.Second)

	old.end(syscall.SIGKILL)
	other.end(syscall.SIGKILL)
	if err := old.remount(t, monday); err != nil {
		t.Fatal(err)
	}
	old.forgive(true) // it may say so and end
	c.restart(old)
	for end := time.Now().Add(8 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		for _, n := range []*node{c.nodes[0], old} {
			if n.running() && write(n, 1000) == nil {
				t.Fatalf("%s and a node with an old disk make a majority", n.id)
			}
		}
	}
	c.restart(other)
	c.until("the others write without it", func() error { return write(other, 2000) })
	r.replace(old)
	if len(r.stop) > 0 {
		t.Fatal(r.stop)
	}
	c.waitVoters(c.nodes...)
	c.settle()
	if d := r.deaths(); len(d) > 0 {
		t.Error(d)
	}
}
