package world

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path"
	"strings"
	"time"
)

const commits = 330

// history writes commits for `git fast-import`, which makes hundreds of them in
// one process.
type history struct {
	w      *World
	stream bytes.Buffer
	clock  time.Time
	number int
}

func (w *World) makeRepository() error {
	h := &history{w: w, clock: time.Date(2024, 1, 8, 9, 0, 0, 0, time.UTC)}
	for h.number < commits {
		h.next()
	}
	w.Commits = h.number
	h.stream.WriteString("done\n")
	if err := git("", nil, "init", "-q", "-b", "main", w.Repository); err != nil {
		return err
	}
	if err := git(w.Repository, &h.stream, "fast-import", "--quiet", "--done"); err != nil {
		return err
	}
	return git(w.Repository, nil, "reset", "-q", "--hard", "main")
}

func git(dir string, in *bytes.Buffer, args ...string) error {
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
	if in != nil {
		cmd.Stdin = in
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("git %s: %w: %s", args[0], err, out)
	}
	return nil
}

// next makes one commit: mostly changes, sometimes a new file, a feature, a
// rename or a deletion, and now and then a release after it.
func (h *history) next() {
	switch n := h.w.rng.IntN(100); {
	case h.number < 12 || n < 14:
		h.addFile()
	case n < 24:
		h.addFeature()
	case n < 31:
		h.rename()
	case n < 33:
		h.remove()
	default:
		h.change()
	}
	if h.number%45 == 0 {
		h.release()
	}
}

// begin opens a commit and returns what questions may ask about it.
func (h *history) begin(subject string) Commit {
	h.number++
	h.clock = h.clock.Add(time.Duration(1+h.w.rng.IntN(70)) * time.Hour).Add(time.Duration(h.w.rng.IntN(3600)) * time.Second)
	who := h.w.People[h.w.rng.IntN(len(h.w.People))]
	body := h.body()
	message := subject + "\n\n" + body
	fmt.Fprintf(&h.stream, "commit refs/heads/main\nmark :%d\nauthor %s <%s> %d +0000\ncommitter %s <%s> %d +0000\ndata %d\n%s\n",
		h.number, who.Name, who.Mail, h.clock.Unix(), who.Name, who.Mail, h.clock.Unix(), len(message), message)
	c := Commit{h.number, who, h.clock, subject, body}
	h.w.Log = append(h.w.Log, c)
	return c
}

func (h *history) body() string {
	return h.w.pick([]string{
		"The old behaviour surprised operators.",
		"Found while reading the logs of a slow night.",
		"Reviewed in pairs.",
		"No change in the public interface.",
		"Measured before and after; the difference is noise.",
	})
}

func (h *history) put(f *File) {
	text := strings.Join(f.contents, "\n") + "\n"
	fmt.Fprintf(&h.stream, "M 100644 inline %s\ndata %d\n%s\n", f.Path, len(text), text)
}

func (h *history) addFile() {
	w := h.w
	c := w.pick(w.components)
	p := w.words.fresh(func() string {
		return path.Join("src", strings.ReplaceAll(c, " ", "-"), w.pick(parts)+"_"+w.pick(parts)+w.pick([]string{".go", ".py", ".sql", ".yaml"}))
	})
	f := &File{Path: p, Born: p}
	for range 20 + w.rng.IntN(20) {
		f.contents = append(f.contents, w.words.syllables(3)+" "+w.words.syllables(2)+" "+w.words.syllables(4))
	}
	f.Added = h.begin("Add " + strings.ReplaceAll(strings.TrimSuffix(path.Base(p), path.Ext(p)), "_", " ") + " for the " + c)
	f.touched(f.Added)
	w.Files = append(w.Files, f)
	h.put(f)
}

// living returns a file that still exists; there are always some.
func (h *history) living() *File {
	for {
		if f := h.w.Files[h.w.rng.IntN(len(h.w.Files))]; !f.Deleted {
			return f
		}
	}
}

func (h *history) edit(f *File, c Commit) {
	f.contents[h.w.rng.IntN(len(f.contents))] = h.w.words.syllables(3) + " " + h.w.words.syllables(3)
	f.touched(c)
	h.put(f)
}

// touched notes a change, once for each commit.
func (f *File) touched(c Commit) {
	f.Changed = c
	if n := len(f.Changes); n == 0 || f.Changes[n-1].Number != c.Number {
		f.Changes = append(f.Changes, c)
	}
}

func (h *history) change() {
	w := h.w
	f := h.living()
	c := h.begin(w.pick([]string{"Fix", "Tidy", "Speed up", "Rework", "Clarify"}) + " the " + w.pick(parts) + " of the " + w.pick(w.components))
	h.edit(f, c)
	for range w.rng.IntN(3) {
		h.edit(h.living(), c)
	}
}

func (h *history) addFeature() {
	w := h.w
	if len(w.Features) >= 24 {
		h.change()
		return
	}
	name := w.words.feature() + " in the " + w.pick(w.components)
	c := h.begin("Introduce " + name)
	w.Features = append(w.Features, Feature{name, c})
	h.edit(h.living(), c)
}

func (h *history) rename() {
	w := h.w
	f := h.living()
	old := f.Path
	f.Path = w.words.fresh(func() string {
		return path.Join(path.Dir(old), w.pick(parts)+"_"+w.pick(parts)+"_"+w.pick(parts)+path.Ext(old))
	})
	f.renames++
	c := h.begin("Rename " + path.Base(old) + " to " + path.Base(f.Path))
	fmt.Fprintf(&h.stream, "R %s %s\n", old, f.Path)
	f.touched(c)
}

func (h *history) remove() {
	if len(h.w.Files) < 25 {
		h.change()
		return
	}
	f := h.living()
	f.Deleted = true
	h.begin("Drop " + path.Base(f.Path) + ", nobody uses it")
	fmt.Fprintf(&h.stream, "D %s\n", f.Path)
}

func (h *history) release() {
	w := h.w
	t := Tag{fmt.Sprintf("v%d.%d.0", 1+len(w.Tags)/4, len(w.Tags)%4), h.number, h.clock.Add(time.Minute)}
	w.Tags = append(w.Tags, t)
	message := "Release " + t.Name
	fmt.Fprintf(&h.stream, "tag %s\nfrom :%d\ntagger %s <%s> %d +0000\ndata %d\n%s\n",
		t.Name, h.number, w.People[0].Name, w.People[0].Mail, t.Time.Unix(), len(message), message)
	for _, f := range w.Files {
		if f.InTag == "" {
			f.InTag = t.Name
		}
	}
}
