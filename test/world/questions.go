package world

import (
	"fmt"
	"path"
	"strings"
)

// ask adds the questions about history and about documents to those about facts.
func (w *World) ask() {
	w.askLastChange(10)
	w.askAdded(8)
	w.askReleases(6)
	w.askFeatures(6)
	w.askDocuments(8)
}

// living lists the files that exist and whose history is settled by the data:
// the newest change is an edit, whose author a reader of the log would name.
func (w *World) living() (out []*File) {
	for _, i := range w.rng.Perm(len(w.Files)) {
		if f := w.Files[i]; !f.Deleted {
			out = append(out, f)
		}
	}
	return out
}

func (w *World) add(shape, fact string, answers []string, thing string, wordings [3]string) {
	q := Question{Shape: shape, Fact: fact, Answer: answers}
	for i, f := range wordings {
		q.Wordings[i] = fmt.Sprintf(f, thing)
	}
	w.Questions = append(w.Questions, q)
}

func (w *World) askLastChange(n int) {
	for _, f := range w.living()[:n] {
		w.add("last-change", f.Changed.Author.Name, []string{f.Changed.Author.Name}, w.name(f), [3]string{
			"Who last changed %s?", "Who was the most recent person to touch %s?", "Whose edit of %s is the newest?"})
	}
}

// name is how people say a file: by its path, or by its base name when no other
// file ever had it.
func (w *World) name(f *File) string {
	for _, other := range w.Files {
		if other != f && (path.Base(other.Path) == path.Base(f.Path) || path.Base(other.Born) == path.Base(f.Path)) {
			return f.Path
		}
	}
	if w.rng.IntN(2) == 0 {
		return f.Path
	}
	return path.Base(f.Path)
}

func (w *World) askAdded(n int) {
	for _, f := range w.living()[:n] {
		day := f.Added.Time.Format("2006-01-02")
		w.add("added", f.Added.Author.Name, []string{day, f.Added.Time.Format("2 January 2006")}, w.name(f), [3]string{
			"When was %s added?", "On what date did %s first appear in the repository?", "How long have we had %s, since which day?"})
	}
}

func (w *World) askReleases(n int) {
	for _, f := range w.living() {
		if f.InTag == "" || n == 0 {
			continue
		}
		n--
		w.add("release", f.InTag, []string{f.InTag}, w.name(f), [3]string{
			"In which release was %s first included?", "Which version was the first to ship %s?", "What is the earliest release that contains %s?"})
	}
}

func (w *World) askFeatures(n int) {
	for _, i := range w.rng.Perm(len(w.Features))[:n] {
		f := w.Features[i]
		day := f.Commit.Time.Format("2006-01-02")
		w.add("feature", "Introduce "+f.Name, []string{day, f.Commit.Time.Format("2 January 2006")}, f.Name, [3]string{
			"When was %s introduced?", "Since when do we have %s?", "What is the date on which %s was added?"})
	}
}

func (w *World) askDocuments(n int) {
	var about []*document
	for _, i := range w.rng.Perm(len(w.docs)) {
		if d := w.docs[i]; d.topic != "" && len(about) < n {
			about = append(about, d)
		}
	}
	for _, d := range about {
		w.add("document", d.topic, []string{d.title, d.path, path.Base(d.path)}, d.topic, [3]string{
			"Which document explains %s?", "Where can I read about %s?", "Is there a page that covers %s?"})
	}
}

// askFacts adds 22 questions about facts that one sentence states.
func (w *World) askFacts(stated []fact) {
	for _, i := range w.rng.Perm(len(stated))[:22] {
		f := stated[i]
		w.add("fact", f.value, []string{f.value}, f.component, kinds[f.kind].questions)
	}
}

// askMissing adds the unanswerable: 8 about known components whose fact no
// document states, 7 about things that do not exist or belong elsewhere.
func (w *World) askMissing(missing []fact) {
	for _, i := range w.rng.Perm(len(missing))[:8] {
		f := missing[i]
		q := Question{Shape: "unknown", Shares: true}
		for j, s := range kinds[f.kind].questions {
			q.Wordings[j] = fmt.Sprintf(s, f.component)
		}
		w.Unknown = append(w.Unknown, q)
	}
	for _, s := range [][3]string{
		{"How tall is the Eiffel tower?", "What is the height of the Eiffel tower in metres?", "The Eiffel tower is how many metres high?"},
		{"Who won the chess championship in 1972?", "Which player became chess champion in 1972?", "What is the name of the 1972 chess champion?"},
		{"What is the boiling point of ethanol?", "At which temperature does ethanol boil?", "How hot must ethanol get to boil?"},
		{"Which wine goes with grilled trout?", "What should I drink with grilled trout?", "Can you recommend a wine for grilled trout?"},
		{"How many moons does Neptune have?", "What is the number of moons of Neptune?", "Neptune has how many moons?"},
	} {
		w.Unknown = append(w.Unknown, Question{Shape: "unknown", Wordings: s})
	}
	for range 2 {
		nobody := w.words.component()
		file := "src/" + strings.ReplaceAll(nobody, " ", "-") + "/" + w.words.syllables(3) + ".go"
		w.Unknown = append(w.Unknown, Question{Shape: "unknown", Wordings: [3]string{
			"Who last changed " + file + "?", "Who was the most recent person to touch " + file + "?", "When was " + file + " added?"}})
	}
}
