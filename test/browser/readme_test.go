package browser

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// readmeCommits are the history of README.md's example.
var readmeCommits = []struct{ author, day, subject, path, text string }{
	{"Ada Okafor", "2026-03-02", "Add the ledger's writer", "src/writer.go", "package ledger\n"},
	{"Jonas Weber", "2026-05-18", "Retry a write whose acknowledgement was lost", "src/retry.go", "package ledger\n\n// Retry writes again after a pause.\n"},
	{"Ada Okafor", "2026-07-09", "Write in batches of a hundred", "src/writer.go", "package ledger\n\nconst batch = 100\n"},
	{"Mina Sato", "2026-10-27", "Give up after five attempts and say why", "src/retry.go", "package ledger\n\nconst attempts = 5\n"},
}

var readmeHandbook = map[string]string{
	"operations/backups.md": `# Backups

## Schedule

The ledger is backed up every night at 01:30 UTC. A backup takes about twelve minutes.

## Retention

Backups are kept for 35 days. The first backup of each month is kept for seven years.

## Restore

A restore is rehearsed on the first Tuesday of each quarter. The rehearsal ends with a comparison of control sums.
`,
	"operations/on-call.md": `# On call

The rota is agreed each quarter. Hand-over is at 08:00 UTC on weekdays.
`,
	"people/leave.md": `# Leave

Leave is asked for two weeks ahead. Unused days are kept until the end of March.
`,
}

// TestReadmePicture takes the picture that README.md shows: its own example,
// asked of the real program. build/screenshots/readme.png is copied to
// packaging/readme/ask.png when the pages change.
func TestReadmePicture(t *testing.T) {
	n := start(t)
	dir := t.TempDir()
	ledger, handbook := filepath.Join(dir, "ledger"), filepath.Join(dir, "handbook")
	makeLedger(t, ledger)
	for name, text := range readmeHandbook {
		writeFile(t, filepath.Join(handbook, name), text)
	}
	c := launch(t, n.spki).tab(t, n.site)
	c.set(t, look{"light", 1280})
	c.at(t, "/setup", 200)
	c.typeInto(t, "code", n.Code)
	c.typeInto(t, "user", "ada")
	c.typeInto(t, "password", "a cloister has four walks")
	c.typeInto(t, "repeat", "a cloister has four walks")
	c.enter(t, "/")
	c.importStarter(t)
	c.connect(t, "git", ledger, "code")
	c.connect(t, "files", handbook, "handbook")
	c.ask(t, "How long are backups kept?")
	c.see(t, "Backups are kept for 35 days.")
	c.ask(t, "Who last changed src/retry.go?")
	c.see(t, "Mina Sato")
	c.picture(t, "readme")
}

func makeLedger(t *testing.T, dir string) {
	t.Helper()
	git := func(env []string, args ...string) {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", dir}, args...)...)
		cmd.Env = append(os.Environ(), env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v: %s", args, err, out)
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	git(nil, "init", "-q", "-b", "main")
	for _, c := range readmeCommits {
		writeFile(t, filepath.Join(dir, c.path), c.text)
		at := c.day + "T10:00:00Z"
		if _, err := time.Parse(time.RFC3339, at); err != nil {
			t.Fatal(err)
		}
		git(nil, "add", "-A")
		git([]string{"GIT_AUTHOR_DATE=" + at, "GIT_COMMITTER_DATE=" + at},
			"-c", "user.name="+c.author, "-c", "user.email=ledger@example.test", "-c", "commit.gpgsign=false", "commit", "-q", "-m", c.subject)
	}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
