package consensus_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/consensus"
)

// open opens a store in dir and waits until it is ready.
func open(t testing.TB, cfg consensus.Config) *consensus.Node {
	t.Helper()
	if cfg.NodeID == "" {
		cfg.NodeID = "n1"
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	n, err := consensus.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	select {
	case <-n.Ready():
	case err := <-n.Fatal():
		t.Fatal(err)
	case <-time.After(30 * time.Second):
		t.Fatal("not ready after 30 s")
	}
	return n
}

func TestReopenKeepsEverything(t *testing.T) {
	dir := t.TempDir()
	n := open(t, consensus.Config{Dir: dir})
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := range 20 {
				tx := store.NewTx()
				tx.Put(store.Key(fmt.Sprintf("S/w/%d/%d", w, i)), []byte("state"))
				tx.Put(store.Key(fmt.Sprintf("H/w/%d/%d", w, i)), []byte("history"))
				tx.Append("audit", []byte(fmt.Sprintf("leaf %d %d", w, i)))
				tx.Add("S/count", 1, store.NoLimit, 0)
				if _, err := n.Apply(context.Background(), tx); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	var root [32]byte
	check := func(n *consensus.Node) {
		err := n.View(t.Context(), store.Fresh, func(s store.Snapshot) error {
			if sum, err := s.Sum("S/count", 0); err != nil || sum != 320 {
				return fmt.Errorf("sum %d, %v", sum, err)
			}
			if got := s.Log("audit").Size(); got != 320 {
				return fmt.Errorf("log of size %d", got)
			}
			r, err := s.Log("audit").Root()
			if root != [32]byte{} && r != root {
				return errors.New("another root")
			}
			root = r
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	check(n)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	check(open(t, consensus.Config{Dir: dir}))
}
