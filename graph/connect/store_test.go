package connect_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/connect/connecttest"
	"github.com/cloister-os/cloister/graph/connect/transport/files"
	"github.com/cloister-os/cloister/graph/connect/transport/git"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/consensus"
	"github.com/cloister-os/cloister/store/storetest"
)

func openNode(t testing.TB, dir string) *consensus.Node {
	t.Helper()
	n, err := consensus.Open(t.Context(), consensus.Config{Dir: dir, NodeID: "a", ReserveBytes: -1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	<-n.Ready()
	return n
}

// The replicated store and the model hold the same graph after the same syncs,
// also after a restart, and both know the past.
func TestTheReplicatedStoreHoldsWhatTheModelDoes(t *testing.T) {
	data, docs, repo := t.TempDir(), t.TempDir(), t.TempDir()
	history(t, repo, 120)
	for _, name := range []string{"a.md", "b.md", "c.md"} {
		if err := os.WriteFile(filepath.Join(docs, name), []byte(document(len(name))), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	node := openNode(t, data)
	real, model := connecttest.Open(t, node, git.New()), connecttest.Open(t, storetest.NewModel(nil), git.New())
	for _, b := range []*connecttest.Bench{real, model} {
		b.Add("git", "code", repo)
	}
	connecttest.Same(t, real.Graph(true), model.Graph(true))

	folder := connecttest.OpenOver(t, node, real.Blobs, files.New())
	folder.Add("files", "docs", docs)
	was := node.Applied()
	if err := os.Remove(filepath.Join(docs, "b.md")); err != nil {
		t.Fatal(err)
	}
	folder.Sync("docs")
	if err := errors.Join(folder.Close(), real.Close(), real.House.Close(), folder.House.Close(), node.Close()); err != nil {
		t.Fatal(err)
	}

	node = openNode(t, data)
	again := connecttest.OpenOver(t, node, real.Blobs, files.New())
	if now, then := again.Natives(store.Local, "docs", graph.StreamDocument), again.Natives(store.At(was), "docs", graph.StreamDocument); len(now) != 2 || len(then) != 3 {
		t.Errorf("after a restart: now %q, as of before %q", now, then)
	}
	if p := again.Sync("docs"); p.Bodies != 0 || p.Claims != 0 {
		t.Errorf("after a restart a sync read %d bodies and wrote %d claims", p.Bodies, p.Claims)
	}
	if err := errors.Join(again.Close(), again.House.Close(), node.Close()); err != nil {
		t.Fatal(err)
	}
}
