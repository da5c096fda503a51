package canary

import (
	"bytes"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cloister-os/cloister/node/api/wire"
)

// canaries are words that occur nowhere else, by where they were put. Each is long
// enough that chance does not write it.
var canaries = map[string]string{
	"a user's name":                 "canaryuser7f3a91",
	"the text of a document":        "canarytext5b20c4",
	"the text of a large document":  "canaryblob88e1d7",
	"a document's path":             "canarypath0d94ab",
	"a source's path":               "canaryfolderc61e",
	"a question":                    "canaryquestion42fe",
	"the name of an API key":        "canarykeyname9a7c",
	"a policy's text, in the audit": "canarypolicy3e5d",
}

// sing puts every canary where it belongs.
func (h *house) sing(docs string) {
	h.t.Helper()
	h.setup(canaries["a user's name"])
	folder := filepath.Join(docs, canaries["a source's path"])
	if err := os.MkdirAll(folder, 0o755); err != nil {
		h.t.Fatal(err)
	}
	for name, text := range map[string]string{
		"notes.md":                            "# Notes\n\nThe word of this document is " + canaries["the text of a document"] + ", and it is short.\n",
		"large.md":                            "# Large\n\n" + strings.Repeat("Many sentences fill this page until it no longer fits. ", 2000) + "At its end stands " + canaries["the text of a large document"] + ".\n",
		canaries["a document's path"] + ".md": "# Path\n\nWhat matters here is the name of the file.\n",
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
			h.t.Fatal(err)
		}
	}
	h.do(http.MethodPost, "/api/v1/sources", wire.NewSource{Name: "docs", Kind: "files", Path: folder}, nil)
	h.until("the documents are read", func() bool {
		var s wire.Source
		h.do(http.MethodGet, "/api/v1/sources/docs", nil, &s)
		return !s.Progress.Running && !s.Progress.Finished.IsZero()
	})
	h.do(http.MethodPost, "/api/v1/keys", wire.NewKey{Name: canaries["the name of an API key"], Scopes: []string{"ask"}}, nil)
	id := canaries["a policy's text, in the audit"]
	h.do(http.MethodPut, "/api/v1/policies/"+id, wire.NewPolicy{Text: `@id("` + id + `")` + "\n" + `permit (principal in Role::"auditor", action == Action::"policy.read", resource is System);`}, nil)
	h.do(http.MethodPost, "/api/v1/ask", wire.Question{Question: "Which word has the document about " + canaries["a question"] + "?"}, nil)
}

// found lists the canaries that the files below a folder hold, and where.
func found(t *testing.T, dir string) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path != dir {
			return nil // a node that runs writes some files under another name first
		} else if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
		b = bytes.ToLower(append(b, d.Name()...))
		for where, word := range canaries {
			if bytes.Contains(b, []byte(word)) {
				rel, _ := filepath.Rel(dir, path)
				out[where] = append(out[where], rel)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (h *house) none(when string) {
	h.t.Helper()
	for where, files := range found(h.t, h.dir) {
		h.t.Errorf("%s, %s stands in clear in %v", when, where, files)
	}
}

func begin(t *testing.T, plain bool) *house {
	t.Helper()
	h := &house{t: t, dir: filepath.Join(t.TempDir(), "data"), plain: plain}
	h.start()
	return h
}

// TestTheCanariesAreFoundWhereNothingIsSealed is the control: without it the other
// test could look in the wrong place.
func TestTheCanariesAreFoundWhereNothingIsSealed(t *testing.T) {
	h := begin(t, true)
	h.sing(t.TempDir())
	h.stop(syscall.SIGINT)
	got := found(t, h.dir)
	stores := map[string]bool{}
	for where := range canaries {
		if len(got[where]) == 0 {
			t.Errorf("%s was not found, so the search proves nothing", where)
		}
		for _, file := range got[where] {
			top, _, _ := strings.Cut(file, "/")
			stores[top] = true
		}
	}
	for _, store := range []string{"raft", "gen-1", "blobs", "index"} {
		if !stores[store] {
			t.Errorf("nothing was found in %s, so the search there proves nothing", store)
		}
	}
}

func TestNoCanaryStandsInClear(t *testing.T) {
	h := begin(t, false)
	h.sing(t.TempDir())
	h.none("while the node runs")
	h.stop(syscall.SIGKILL)
	h.none("after a kill")
	h.start()
	h.stop(syscall.SIGINT)
	h.none("after an orderly stop")

	h.start()
	var key wire.DataKey
	h.do(http.MethodPost, "/api/v1/seal/rotate", nil, &key)
	h.none("while the key changes")
	var s wire.Seal
	h.until("the old key is dropped", func() bool {
		h.do(http.MethodGet, "/api/v1/seal", nil, &s)
		return !s.Rotation.Rotating
	})
	if s.Rotation.Active.ID != key.ID || key.ID != 2 {
		t.Errorf("%+v after key %d", s.Rotation, key.ID)
	}
	h.stop(syscall.SIGABRT)
	h.none("after the key changed and the node broke down")
	left, err := filepath.Glob(filepath.Join(filepath.Dir(h.dir), "*"))
	if err != nil {
		t.Fatal(err)
	}
	h.start()
	var sources []wire.Source
	h.do(http.MethodGet, "/api/v1/sources", nil, &sources)
	if len(sources) != 1 || sources[0].Progress.Error != "" {
		t.Errorf("after all that: %+v", sources)
	}
	h.stop(syscall.SIGINT)
	if slices.ContainsFunc(left, func(p string) bool { return strings.Contains(filepath.Base(p), "core") }) {
		t.Errorf("a core was left: %v", left)
	}
}

// TestAKillWhileTheKeyChanges kills a node again and again in the middle of changes
// of its key, and asks it each time for what it held.
func TestAKillWhileTheKeyChanges(t *testing.T) {
	h := begin(t, false)
	h.sing(t.TempDir())
	for i := range 4 {
		var s wire.Seal
		h.until("no change is under way", func() bool {
			h.do(http.MethodGet, "/api/v1/seal", nil, &s)
			return !s.Rotation.Rotating
		})
		h.do(http.MethodPost, "/api/v1/seal/rotate", nil, nil)
		for range i * 3 { // let it come further each time
			h.do(http.MethodGet, "/api/v1/seal", nil, &s)
		}
		h.stop(syscall.SIGKILL)
		h.none("after a kill while the key changed")
		h.start()
		var a wire.Answer
		h.do(http.MethodPost, "/api/v1/ask", wire.Question{Question: "Which word has the document?"}, &a)
	}
	var s wire.Seal
	h.until("the last change is done", func() bool {
		h.do(http.MethodGet, "/api/v1/seal", nil, &s)
		return !s.Rotation.Rotating
	})
	h.stop(syscall.SIGINT)
	h.none("at the end")
}
