package world

import (
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

func TestOneSeedMakesOneWorld(t *testing.T) {
	a, err := New(t.TempDir(), 7)
	if err != nil {
		t.Fatal(err)
	}
	b, err := New(t.TempDir(), 7)
	if err != nil {
		t.Fatal(err)
	}
	for i := range a.Questions {
		if a.Questions[i].Wordings != b.Questions[i].Wordings || a.Questions[i].Fact != b.Questions[i].Fact {
			t.Fatalf("question %d differs between two worlds of one seed", i)
		}
	}
	if head(t, a.Repository) != head(t, b.Repository) {
		t.Fatal("two worlds of one seed have different histories")
	}
}

// TestGoldIsWhatGitSays checks the generator against git itself, so that a wrong
// expectation cannot pass for a wrong answer.
func TestGoldIsWhatGitSays(t *testing.T) {
	for seed := range uint64(3) {
		w, err := New(t.TempDir(), seed)
		if err != nil {
			t.Fatal(err)
		}
		if n, _ := strconv.Atoi(run(t, w.Repository, "rev-list", "--count", "main")); n != w.Commits {
			t.Errorf("seed %d: git counts %d commits, the world %d", seed, n, w.Commits)
		}
		for _, f := range w.living() {
			if got := run(t, w.Repository, "log", "-1", "--format=%an", "main", "--", f.Path); got != f.Changed.Author.Name {
				t.Errorf("seed %d: git says %s last changed %s, the world says %s", seed, got, f.Path, f.Changed.Author.Name)
			}
			if got := run(t, w.Repository, "log", "--diff-filter=A", "--format=%an %ct", "main", "--", f.Born); !strings.HasSuffix(got, f.Added.Author.Name+" "+strconv.FormatInt(f.Added.Time.Unix(), 10)) {
				t.Errorf("seed %d: git says %s was added by %s, the world says %s", seed, f.Born, got, f.Added.Author.Name)
			}
		}
	}
}

func head(t *testing.T, dir string) string { return run(t, dir, "rev-parse", "main") }

func run(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git %v: %v", args, err)
	}
	return strings.TrimSpace(string(out))
}
