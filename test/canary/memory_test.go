package canary

import (
	"bytes"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cloister-os/cloister/node/api/wire"
)

// holding lists the files below a folder that hold a word in clear.
func holding(t *testing.T, dir, word string) (out []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err == nil && bytes.Contains(bytes.ToLower(b), []byte(word)) {
			out = append(out, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestWhatIsToldNeverStandsInClear tells, asks, corrects and forgets on a node whose
// store is not sealed, so that only the memories' own keys hide them; a question
// beside it, which is no memory, is the control.
func TestWhatIsToldNeverStandsInClear(t *testing.T) {
	const told, asked = "canarymemory51fe", "canarycontrol77ab"
	h := begin(t, true)
	h.setup("ada")
	ask := func(text string) (a wire.Answer) {
		t.Helper()
		h.do(http.MethodPost, "/api/v1/ask", wire.Question{Question: text}, &a)
		return a
	}
	if a := ask("Remember that the staging host is " + told); a.Outcome != "kept" || !strings.Contains(a.Answer, told) {
		t.Fatalf("%+v", a)
	}
	before := ask("which machine is staging?")
	if before.Outcome != "memory" || !strings.Contains(before.Answer, told) {
		t.Fatalf("%+v", before)
	}
	ask("who knows the " + asked + "?")
	h.stop(syscall.SIGKILL)
	h.start() // and what the log holds is replayed
	if a := ask("which machine is staging?"); a.Outcome != "memory" || !strings.Contains(a.Answer, told) {
		t.Fatalf("after a restart: %+v", a)
	}
	var all []wire.Memory
	h.do(http.MethodGet, "/api/v1/memories", nil, &all)
	if len(all) != 1 {
		t.Fatalf("%+v", all)
	}
	h.do(http.MethodPut, "/api/v1/memories/"+all[0].ID, wire.NewMemory{Text: "the staging host is " + told + "b"}, nil)
	var out wire.ForgottenMemories
	h.do(http.MethodDelete, "/api/v1/memories/"+all[0].ID, nil, &out)
	if out.Forgotten != 2 {
		t.Errorf("%+v", out)
	}
	var run wire.Run
	h.do(http.MethodGet, "/api/v1/runs/"+before.Run, nil, &run)
	var list []wire.Run
	h.do(http.MethodGet, "/api/v1/runs", nil, &list)
	for _, r := range append(list, run) {
		if strings.Contains(string(r.Result)+r.Question, told) {
			t.Errorf("run %s still tells it: %s %s", r.ID, r.Question, r.Result)
		}
	}
	h.stop(syscall.SIGINT)
	if where := holding(t, h.dir, asked); len(where) == 0 {
		t.Error("the control was not found, so the search proves nothing")
	}
	if where := holding(t, h.dir, told); where != nil {
		t.Errorf("what was told stands in clear in %v", where)
	}
}
