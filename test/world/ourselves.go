package world

import (
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Ourselves is this project as an organisation: its own history, with what git
// says as the gold, and its own documentation, with questions that a reader of
// README.md would ask.
func Ourselves(dir, checkout string) (*World, error) {
	w := &World{Repository: checkout, Documents: filepath.Join(dir, "documents")}
	list, err := ask(checkout, "ls-files", "*.go", "*.md", "Makefile")
	if err != nil {
		return nil, err
	}
	files := strings.Fields(list)
	for i, f := range files {
		if strings.HasSuffix(f, ".md") && !strings.Contains(f, "testdata") {
			text, err := os.ReadFile(filepath.Join(checkout, f))
			if err != nil {
				return nil, err
			}
			if err := write(filepath.Join(w.Documents, f), string(text)); err != nil {
				return nil, err
			}
		}
		if i%max(1, len(files)/20) == 0 {
			if err := w.askGit(checkout, f); err != nil {
				return nil, err
			}
		}
	}
	w.askReadme()
	return w, nil
}

func ask(dir string, args ...string) (string, error) {
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w", args[0], err)
	}
	return strings.TrimSpace(string(out)), nil
}

func (w *World) askGit(checkout, file string) error {
	last, err := ask(checkout, "log", "-1", "--format=%H %an", "HEAD", "--", file)
	if err != nil {
		return err
	}
	sha, author, _ := strings.Cut(last, " ")
	added, err := ask(checkout, "log", "--follow", "--diff-filter=A", "--format=%ad", "--date=short", "HEAD", "--", file)
	if err != nil {
		return err
	}
	days := strings.Fields(added)
	if sha == "" || len(days) == 0 {
		return nil // not committed yet
	}
	w.add("last-change", author, []string{author}, file, [3]string{"Who last changed %s?", "Who touched %s most recently?", "Whose change to %s is the latest?"})
	if !slices.Contains([]string{"doc.go", "main.go"}, path.Base(file)) {
		w.add("added", days[len(days)-1], []string{days[len(days)-1]}, file, [3]string{"When was %s added?", "On which day did %s appear?", "What is the date on which %s was added?"})
	}
	return nil
}

func (w *World) askReadme() {
	for _, q := range []struct {
		fact     string
		wordings [3]string
	}{
		{"8443", [3]string{"At which address does make run start a node?", "On which localhost address does the node start?", "What is the address of a node that make run starts?"}},
		{"Apache-2.0", [3]string{"Which licence does Cloister have?", "Under which licence is Cloister?", "What is the licence of Cloister?"}},
		{"25 minutes", [3]string{"How long does make test take on two cores with cold caches?", "How many minutes does make test take?", "What does make test take with cold caches?"}},
		{"build/data", [3]string{"Where does the data stay?", "Under which folder does data stay?", "In which folder does a node's data stay?"}},
	} {
		w.Questions = append(w.Questions, Question{Shape: "fact", Wordings: q.wordings, Fact: q.fact, Answer: []string{q.fact}})
	}
	for _, q := range [][3]string{
		{"Which wine goes with grilled trout?", "What should I drink with grilled trout?", "Can you recommend a wine for grilled trout?"},
		{"How many moons does Neptune have?", "What is the number of moons of Neptune?", "Neptune has how many moons?"},
		{"Who last changed src/never/was.go?", "Who touched src/never/was.go most recently?", "When was src/never/was.go added?"},
		{"What is the boiling point of ethanol?", "At which temperature does ethanol boil?", "How hot must ethanol get to boil?"},
	} {
		w.Unknown = append(w.Unknown, Question{Shape: "unknown", Wordings: q})
	}
}
