package access

import (
	"bytes"
	"encoding/json"
	"net/http"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/cloister-os/cloister/node/api/wire"
)

// open to everybody, in source a
func alpha(t *testing.T) string {
	dir := filepath.Join(t.TempDir(), "alpha")
	write(t, filepath.Join(dir, "backup.md"), "# Backups\n\nBackups are kept for thirty days. The operator restores them with the restore command.\n\n## Window\n\nThe maintenance window is on Sunday at four.\n")
	write(t, filepath.Join(dir, "deploy.md"), "# Deployment\n\nA deployment needs the approval of two reviewers. The pipeline runs on every merge.\n")
	return dir
}

// secret is the content that a key for alpha must not feel, in a folder and a
// repository. Each of the words of secretWords is in it and nowhere else.
func secret(t *testing.T) (folder, repository string) {
	folder = filepath.Join(t.TempDir(), "secret")
	write(t, filepath.Join(folder, "xanadu.md"), "# Xanadu merger\n\nThe Xanadu merger closes on 14 March 2031. Backups of the Xanadu ledger are kept for ninety years. The deployment of Xanadu needs no approval.\n")
	write(t, filepath.Join(folder, "backup.md"), "# Backups\n\nBackups are kept for eleven years in the Xanadu vault. The maintenance window is on Tuesday.\n")
	repository = filepath.Join(t.TempDir(), "repository")
	write(t, filepath.Join(repository, "src/xanadu.go"), "package xanadu\n")
	write(t, filepath.Join(repository, "backup.md"), "text\n")
	git(t, repository, "init", "-q", "-b", "main")
	git(t, repository, "add", ".")
	git(t, repository, "commit", "-q", "-m", "Add the Xanadu payout engine")
	git(t, repository, "tag", "v7.7.7")
	write(t, filepath.Join(repository, "src/xanadu.go"), "package xanadu // more\n")
	git(t, repository, "commit", "-q", "-a", "-m", "Raise the Xanadu payout limit for backups")
	return folder, repository
}

var secretWords = []string{"xanadu", "zelda", "quimby", "v7.7.7", "payout", "eleven", "vault", "merger", "ninety", "14 march", "tuesday"}

// probes are questions about what only secret holds, and about what alpha holds
// too, in all shapes of question that there are.
func probes(sha string) []string {
	return []string{
		"How long are backups kept?",
		"When is the maintenance window?",
		"What does a deployment need?",
		"When does the Xanadu merger close?",
		"How long are the backups of the Xanadu ledger kept?",
		"Who last changed src/xanadu.go?",
		"Who last changed src/xanadv.go?",
		"When was xanadu.md added?",
		"Who last changed backup.md?",
		"What did Zelda Quimby do?",
		"How many commits did Zelda Quimby make?",
		"What did Zelda Quimbey do?",
		"Which document explains the Xanadu merger?",
		"Which document explains backups?",
		"When was v7.7.7 released?",
		"What is the latest release?",
		"How many commits are there?",
		"How many documents are there?",
		"How many people are there?",
		"How many files are there?",
		"Who worked on the payout engine?",
		"In which release was the Xanadu payout limit raised?",
		"How fresh are the sources?",
		"How fresh is secret?",
		"What is in commit " + sha[:10] + "?",
		"Who wrote the \"payout engine\"?",
	}
}

// mustDiffer is what two runs never share: the ids, the time, and the
// version that everything is read at, which each write of anybody raises.
var mustDiffer = regexp.MustCompile(`"(?:run|conversation)":"[^"]*"|"time":"[^"]*"|"version":\d+`)

// TestWhatMayNotBeSeenChangesNoByte asks before and after there is a source that
// the key may not read: the answers, and the events on the way to them, are the
// same bytes.
func TestWhatMayNotBeSeenChangesNoByte(t *testing.T) {
	t.Parallel()
	h := open(t)
	folder, repository := secret(t)
	sha := git(t, repository, "rev-parse", "HEAD")
	h.add("alpha", "files", alpha(t))
	narrow := h.key("narrow", []string{"ask"}, []string{"alpha"})
	questions := probes(sha)
	before := make([][]byte, len(questions))
	for i, q := range questions {
		before[i] = told(h, narrow, q)
	}
	h.add("secret", "files", folder)
	h.add("code", "git", repository)
	felt := 0
	for i, q := range questions {
		if after := told(h, narrow, q); !bytes.Equal(before[i], after) {
			t.Errorf("%q: a source that may not be read changes the answer.\nbefore: %s\nafter:  %s", q, before[i], after)
		}
		for _, word := range secretWords {
			if !bytes.Contains(bytes.ToLower([]byte(q)), []byte(word)) && bytes.Contains(bytes.ToLower(before[i]), []byte(word)) {
				t.Errorf("%q: the answer holds %q", q, word)
			}
		}
		if a, _ := h.ask(h.admin, q); touches(a, "secret", "code") {
			felt++
		}
	}
	// Who may read it is told: otherwise the comparison would prove nothing.
	if felt < 15 {
		t.Errorf("only %d of %d questions reach the hidden sources for an administrator", felt, len(questions))
	}
}

func touches(a wire.Answer, sources ...string) bool {
	for _, c := range a.Citations {
		for _, s := range sources {
			if c.Source == s {
				return true
			}
		}
	}
	for _, f := range a.Freshness {
		if f.Source == sources[0] {
			return true
		}
	}
	return false
}

// told is all that somebody is told in answer to a question, but for what must
// differ.
func told(h *house, c caller, question string) []byte {
	h.t.Helper()
	_, r := h.ask(c, question)
	c.header = http.Header{"Accept": {"text/event-stream"}}
	resp, err := h.send(h.t.Context(), c, http.MethodPost, "/api/v1/ask", wire.Question{Question: question})
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	all := r.body
	for ev := range events(resp.Body) {
		if !json.Valid(ev.data) {
			h.t.Fatalf("event %s: %s", ev.kind, ev.data)
		}
		all = append(append(append(all, '\n'), ev.kind...), ev.data...)
	}
	return mustDiffer.ReplaceAll(all, nil)
}
