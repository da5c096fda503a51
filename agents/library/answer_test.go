package library

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloister-os/cloister/agents/memory"
	"github.com/cloister-os/cloister/agents/run"
	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard/guardtest"
	"github.com/cloister-os/cloister/auth/seal"
	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/answer"
	"github.com/cloister-os/cloister/graph/connect"
	"github.com/cloister-os/cloister/graph/connect/transport/files"
	"github.com/cloister-os/cloister/graph/search"
	"github.com/cloister-os/cloister/store/blob"
	"github.com/cloister-os/cloister/store/storetest"
)

// house is everything that answers need, over a store in memory and a synced
// folder with one document.
type house struct {
	*guardtest.House
	runs     *run.Engine
	answers  *answer.Answerer
	sources  *connect.Service
	blobs    *blob.Store
	memories *memory.Service
	docs     string
}

func open(t *testing.T) *house {
	t.Helper()
	st := storetest.NewModel(nil)
	h := &house{House: guardtest.Open(t, st)}
	blobs, err := blob.Open(t.TempDir())
	must(t, err)
	index, err := search.Open(search.Config{Dir: t.TempDir(), Store: st, Blobs: blobs})
	must(t, err)
	followed := make(chan struct{})
	go func() { defer close(followed); _ = index.Run(t.Context()) }() // it ends with the test
	t.Cleanup(func() { <-followed; index.Close() })
	sources, err := connect.New(connect.Config{
		Store: st, Blobs: blobs, Door: h.Guard, Connectors: []connect.Connector{files.New()}, Node: guardtest.Node(), Every: -1,
	})
	must(t, err)
	t.Cleanup(func() { sources.Close() })
	docs := t.TempDir()
	must(t, os.WriteFile(filepath.Join(docs, "backup.md"), []byte("# Backups\n\nBackups are kept for 35 days on the archive host.\n"), 0o600))
	_, err = sources.Add(t.Context(), guardtest.Admin(), graph.Source{Name: "handbook", Kind: "files", Path: docs})
	must(t, err)
	done, err := sources.Wait(t.Context(), guardtest.Admin(), "handbook")
	must(t, err)
	if done.Error != "" {
		t.Fatal(done.Error)
	}
	keys, err := seal.Open(filepath.Join(t.TempDir(), "seal"))
	must(t, err)
	h.memories, err = memory.New(memory.Config{Store: st, Door: h.Guard, Sealer: keys})
	must(t, err)
	answers, err := answer.New(answer.Config{Store: st, Blobs: blobs, Index: index})
	must(t, err)
	h.answers, h.sources, h.blobs, h.docs = answers, sources, blobs, docs
	h.runs, err = run.New(run.Config{
		Store: st, Door: h.Guard, Blobs: blobs, Node: "test", Agents: []run.Agent{Answering(answers, st, h.Guard, h.memories)}, Release: Release(st, h.Guard, h.memories), Asked: Asked(h.memories),
	})
	must(t, err)
	t.Cleanup(func() { h.runs.Close() })
	return h
}

// write adds a document and waits until it is read.
func (h *house) write(t *testing.T, name, text string) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(h.docs, name), []byte(text), 0o600))
	_, err := h.sources.Sync(t.Context(), guardtest.Admin(), "handbook")
	must(t, err)
	done, err := h.sources.Wait(t.Context(), guardtest.Admin(), "handbook")
	must(t, err)
	if done.Error != "" {
		t.Fatal(done.Error)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ask returns the answer and the kinds of the run's events.
func (h *house) ask(t *testing.T, p auth.Principal, question string) (answer.Answer, string) {
	t.Helper()
	id, err := h.runs.Start(t.Context(), p, AnswerName, Question{Question: answer.Question{Text: question}})
	must(t, err)
	var kinds []string
	var out answer.Answer
	for ev, err := range h.runs.Events(t.Context(), p, id, 0) {
		must(t, err)
		kinds = append(kinds, ev.Kind)
		if ev.Kind == run.KindFailed {
			t.Fatalf("the run failed: %s", ev.Data)
		}
		if ev.Kind == run.KindFinal {
			must(t, json.Unmarshal(ev.Data, &out))
		}
	}
	return out, strings.Join(kinds, " ")
}

func TestTheAgentAnswersStepByStep(t *testing.T) {
	h := open(t)
	a, kinds := h.ask(t, guardtest.Asker(), "How long are backups kept?")
	if want := "stage stage understood stage stage stage stage partial citations final"; kinds != want {
		t.Errorf("events %q, want %q", kinds, want)
	}
	if a.Outcome != answer.Stated || !strings.Contains(a.Answer, "35 days") || len(a.Citations) == 0 || len(a.Freshness) != 1 {
		t.Errorf("answer %+v", a)
	}
}

func TestWhoMayNotReadASourceLearnsNothingOfIt(t *testing.T) {
	h := open(t)
	a, _ := h.ask(t, guardtest.KeyFor("another"), "How long are backups kept?")
	if a.Outcome != answer.Unknown || len(a.Citations) != 0 || len(a.Freshness) != 0 || strings.Contains(a.Answer, "handbook") {
		t.Errorf("answer %+v", a)
	}
}

func TestARightThatIsTakenAwayCountsAtOnce(t *testing.T) {
	h := open(t)
	h.Put(t, `@id("closed") forbid (principal, action == Action::"source.read", resource == Source::"handbook");`)
	if a, _ := h.ask(t, guardtest.Asker(), "How long are backups kept?"); a.Outcome != answer.Unknown || len(a.Citations) != 0 {
		t.Errorf("answer %+v", a)
	}
}
