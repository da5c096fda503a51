package audit

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"testing"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/consensus"
)

// TestOverTheReplicatedStore signs while others write, restarts the store in the
// middle, and verifies an export against a checkpoint from before the restart.
func TestOverTheReplicatedStore(t *testing.T) {
	dir, key := t.TempDir(), newKey(t, "k")
	const writers, each = 8, 40
	var held Checkpoint
	for round := range uint64(2) {
		s := openStore(t, dir)
		l := openLog(t, s, key)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- l.Run(ctx) }()
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for i := range each {
					tx := store.NewTx()
					Append(tx, record(w*each+i))
					if _, err := s.Apply(t.Context(), tx); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		c, err := l.Checkpoint(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if want := (round+1)*writers*each + 1; c.Size != want {
			t.Errorf("the checkpoint covers %d records, want %d", c.Size, want)
		}
		if round == 0 {
			held = c
		} else if r := verify(t, l, Range{From: 200, Held: []uint64{held.Size}}, held.Note); r.After == nil || r.Size != c.Size {
			t.Errorf("report %+v", r)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run ended with %v", err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func openStore(t *testing.T, dir string) *consensus.Node {
	t.Helper()
	s, err := consensus.Open(t.Context(), consensus.Config{Dir: dir, NodeID: "n1", Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.Ready():
	case err := <-s.Fatal():
		t.Fatal(err)
	}
	return s
}
