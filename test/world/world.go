// Package world makes an organisation that nobody has seen before: people, a git
// repository with their commits, a folder of documentation, and questions about
// both with the facts that a right answer must show.
//
// Everything follows from one seed. It promises at least 12 authors, 300 commits
// with renames and tags, 40 documents with one-fact sentences and decoys, 60
// questions each in three wordings, and 15 that the data cannot answer, half of
// which share words with it. It imports nothing of Cloister, so that it cannot
// know how questions are understood.
package world

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// World is one generated organisation.
type World struct {
	Seed       uint64
	Repository string // path of the git repository
	Documents  string // path of the documentation folder
	People     []Person
	Files      []*File
	Features   []Feature
	Tags       []Tag
	Commits    int
	Log        []Commit // oldest first
	Questions  []Question
	Unknown    []Question // what the data cannot answer
	Dialogues  []Dialogue
	rng        *rand.Rand
	words      *vocabulary
	components []string
	docs       []*document
	stated     []fact
}

// Person is an author of commits.
type Person struct{ Name, Mail string }

// File is a file of the repository at the newest commit.
type File struct {
	Path     string // current
	Born     string // path at its first commit
	Added    Commit
	Changed  Commit
	InTag    string // earliest tag that contains Added; "" = none yet
	Deleted  bool
	Changes  []Commit // all that were made to it, oldest first
	renames  int
	contents []string
}

// Commit is what a question about history asks for.
type Commit struct {
	Number  int
	Author  Person
	Time    time.Time
	Subject string
	Body    string
}

// Feature is something whose introduction one commit announces.
type Feature struct {
	Name   string
	Commit Commit
}

// Tag is a release.
type Tag struct {
	Name   string
	Commit int
	Time   time.Time
}

// Question is a question in three wordings and what answers it.
type Question struct {
	Shape    string    // "last-change", "added", "release", "feature", "document", "fact", "unknown"
	Wordings [3]string // the first is the generator's own
	Fact     string    // what the cited evidence must hold, "" for the unanswerable
	Answer   []string  // one of these must stand in the answer
	Shares   bool      // unanswerable, but shares words with the data
}

// New makes the organisation of a seed under dir.
func New(dir string, seed uint64) (*World, error) {
	w := &World{Seed: seed, rng: rand.New(rand.NewPCG(seed, seed^0x9e3779b97f4a7c15))}
	w.words = newVocabulary(w.rng)
	w.People = w.words.people(14)
	for range 16 {
		w.components = append(w.components, w.words.component())
	}
	w.Repository = filepath.Join(dir, "repository")
	w.Documents = filepath.Join(dir, "documents")
	if err := w.makeRepository(); err != nil {
		return nil, err
	}
	if err := w.makeDocuments(); err != nil {
		return nil, err
	}
	w.ask()
	w.talk()
	return w, w.check()
}

func (w *World) check() error {
	switch {
	case len(w.People) < 12, w.Commits < 300, len(w.docs) < 40, len(w.Tags) < 5:
		return fmt.Errorf("seed %d made too small a world: %d people, %d commits, %d documents, %d tags", w.Seed, len(w.People), w.Commits, len(w.docs), len(w.Tags))
	case len(w.Questions) != 60 || len(w.Unknown) != 15:
		return fmt.Errorf("seed %d made %d questions and %d unanswerable ones", w.Seed, len(w.Questions), len(w.Unknown))
	}
	return nil
}

func (w *World) pick(list []string) string { return list[w.rng.IntN(len(list))] }

// write puts a file below a folder, making the folders between.
func write(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

// vocabulary makes names that are new with each seed and never repeat.
type vocabulary struct {
	rng  *rand.Rand
	used map[string]bool
}

func newVocabulary(rng *rand.Rand) *vocabulary { return &vocabulary{rng, map[string]bool{}} }

var (
	onsets  = []string{"b", "br", "c", "d", "dr", "f", "g", "gl", "h", "k", "l", "m", "n", "p", "pr", "r", "s", "st", "t", "tr", "v", "z"}
	vowels  = []string{"a", "e", "i", "o", "u", "ai", "ea", "io"}
	codas   = []string{"l", "n", "r", "s", "t", "m", "nd", "rk", "x", "d"}
	given   = []string{"Amara", "Bastian", "Chiara", "Dmitri", "Elif", "Farid", "Greta", "Hiroshi", "Ines", "Jakob", "Katya", "Lorenzo", "Mei", "Nadir", "Olga", "Paulo", "Renate", "Samir", "Tova", "Ulrich", "Vera", "Wanda", "Yusuf", "Zelda"}
	nouns   = []string{"gateway", "scheduler", "ledger", "broker", "resolver", "indexer", "collector", "registry", "planner", "relay", "watcher", "archiver", "balancer", "notifier", "compiler", "importer", "dispatcher", "validator"}
	parts   = []string{"retry", "queue", "cache", "parser", "session", "buffer", "router", "snapshot", "cursor", "limiter", "encoder", "store", "client", "handler", "worker", "timer", "policy", "metrics", "journal", "lease"}
	doing   = []string{"bulk", "parallel", "incremental", "encrypted", "scheduled", "signed", "streaming", "partial", "resumable", "audited", "delegated", "offline"}
	ability = []string{"export", "import", "replay", "preview", "rollback", "search", "approval", "compression", "throttling", "mirroring", "tracing", "masking"}
)

func (v *vocabulary) syllables(n int) string {
	var b strings.Builder
	for range n {
		b.WriteString(onsets[v.rng.IntN(len(onsets))])
		b.WriteString(vowels[v.rng.IntN(len(vowels))])
	}
	b.WriteString(codas[v.rng.IntN(len(codas))])
	return b.String()
}

func (v *vocabulary) fresh(make func() string) string {
	for {
		if s := make(); !v.used[s] {
			v.used[s] = true
			return s
		}
	}
}

func (v *vocabulary) component() string {
	return v.fresh(func() string { return v.syllables(2) + " " + nouns[v.rng.IntN(len(nouns))] })
}

func (v *vocabulary) name() string {
	return v.fresh(func() string { s := v.syllables(2); return strings.ToUpper(s[:1]) + s[1:] })
}

func (v *vocabulary) feature() string {
	return v.fresh(func() string {
		return doing[v.rng.IntN(len(doing))] + " " + ability[v.rng.IntN(len(ability))]
	})
}

func (v *vocabulary) people(n int) []Person {
	order := v.rng.Perm(len(given))
	var ps []Person
	for i := range n {
		last := v.name()
		ps = append(ps, Person{given[order[i]] + " " + last, strings.ToLower(given[order[i]] + "." + last + "@example.test")})
	}
	return ps
}
