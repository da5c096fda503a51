package files_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard/guardtest"
	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/connect"
	"github.com/cloister-os/cloister/graph/connect/connecttest"
	"github.com/cloister-os/cloister/graph/connect/fence"
	"github.com/cloister-os/cloister/graph/connect/transport/files"
	"github.com/cloister-os/cloister/store"
)

func write(t testing.TB, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func document(t testing.TB, b *connecttest.Bench, at store.ReadAt, source, native string) (text string, rec graph.Record) {
	t.Helper()
	b.Read(at, func(r *graph.Reader) {
		var err error
		if rec, err = r.Record(graph.RecordID{Source: source, Stream: graph.StreamDocument, Native: native}); err != nil {
			t.Fatal(err)
		}
		raw, err := r.Bytes(rec.Text)
		if err != nil {
			t.Fatal(err)
		}
		text = string(raw)
	}, source)
	return text, rec
}

func TestAFolderBecomesDocuments(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "guide.md", "# Guide\n\nThe port is 8443; it is open.\n")
	write(t, dir, "sub/page.html", "<title>Page</title><h1 id=x>Head</h1><p>One. Two.")
	write(t, dir, "sub/notes.txt", "A note.")
	write(t, dir, "image.png", "\x89PNG")
	write(t, dir, ".hidden/secret.md", "no")
	b := connecttest.Open(t, nil, files.New())
	p := b.Add("files", "docs", dir)
	if p.Bodies != 3 || p.Records != 3 || p.Claims != 15 {
		t.Errorf("first sync: %+v", p)
	}
	if got := b.Natives(store.Local, "docs", graph.StreamDocument); !slices.Equal(got, []string{"guide.md", "sub/notes.txt", "sub/page.html"}) {
		t.Errorf("documents: %q", got)
	}
	b.Read(store.Local, func(r *graph.Reader) {
		ids, err := r.ByIdentifier(graph.NamespacePath, "guide.md")
		if err != nil || len(ids) != 1 {
			t.Fatalf("by path: %v, %v", ids, err)
		}
		e, err := r.Entity(ids[0])
		if err != nil || e.Type != graph.Document || e.Value(graph.Title) != "Guide" {
			t.Errorf("entity: %+v, %v", e, err)
		}
		rec, err := r.Record(e.Records[0])
		if err != nil {
			t.Fatal(err)
		}
		text, err := r.Bytes(rec.Text)
		if err != nil {
			t.Fatal(err)
		}
		o, err := r.Outline(rec)
		if err != nil || len(o.Sections) != 1 || len(o.Sections[0].Sentences) != 2 {
			t.Fatalf("outline: %+v, %v", o, err)
		}
		s := o.Sections[0].Sentences[0]
		if got := string(text[s.Start:s.End]); got != "The port is 8443;" {
			t.Errorf("first sentence: %q", got)
		}
		raw, err := r.Bytes(rec.Payload)
		if err != nil || !strings.HasPrefix(string(raw), "# Guide\n") {
			t.Errorf("payload: %q, %v", raw, err)
		}
	}, "docs")
}

func TestTenThousandUnchangedFilesAreNotRead(t *testing.T) {
	dir := t.TempDir()
	const n = 10_000
	for i := range n {
		write(t, dir, fmt.Sprintf("d%02d/f%d.md", i%100, i), fmt.Sprintf("# File %d\n\nIt says %d.\n", i, i))
	}
	b := connecttest.Open(t, nil, files.New())
	if p := b.Add("files", "docs", dir); p.Bodies != n || p.Records != n {
		t.Fatalf("first sync: %+v", p)
	}
	before := b.Store.Applied()
	p := b.Sync("docs")
	if p.Bodies != 0 || p.Claims != 0 || p.Records != 0 {
		t.Errorf("second sync read %d bodies and wrote %d claims of %d records", p.Bodies, p.Claims, p.Records)
	}
	if wrote := b.Store.Applied() - before; wrote > 10 {
		t.Errorf("second sync made %d versions", wrote)
	}
}

func TestChangesAndDeletes(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.md", "old")
	write(t, dir, "b.md", "stays")
	write(t, dir, "c.md", "goes")
	b := connecttest.Open(t, nil, files.New())
	b.Add("files", "docs", dir)
	was := b.Store.Applied()

	write(t, dir, "a.md", "new")
	if err := os.Remove(filepath.Join(dir, "c.md")); err != nil {
		t.Fatal(err)
	}
	if p := b.Sync("docs"); p.Bodies != 1 || p.Records != 2 {
		t.Errorf("second sync: %+v", p)
	}
	if text, _ := document(t, b, store.Local, "docs", "a.md"); text != "new\n" {
		t.Errorf("now: %q", text)
	}
	if text, _ := document(t, b, store.At(was), "docs", "a.md"); text != "old\n" {
		t.Errorf("as of %d: %q", was, text)
	}
	if got := b.Natives(store.Local, "docs", ""); !slices.Equal(got, []string{"a.md", "b.md"}) {
		t.Errorf("now: %q", got)
	}
	if got := b.Natives(store.At(was), "docs", ""); !slices.Equal(got, []string{"a.md", "b.md", "c.md"}) {
		t.Errorf("as of %d: %q", was, got)
	}
	b.Read(store.Local, func(r *graph.Reader) {
		if ids, err := r.ByIdentifier(graph.NamespacePath, "c.md"); err != nil || len(ids) != 0 {
			t.Errorf("the deleted file can still be found: %v, %v", ids, err)
		}
	}, "docs")
}

func TestTouchedButEqualFilesWriteNoClaim(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.md", "same")
	b := connecttest.Open(t, nil, files.New())
	b.Add("files", "docs", dir)
	if err := os.Chtimes(filepath.Join(dir, "a.md"), time.Now(), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if p := b.Sync("docs"); p.Bodies != 1 || p.Claims != 0 {
		t.Errorf("after a touch: %+v", p)
	}
	if p := b.Sync("docs"); p.Bodies != 0 {
		t.Errorf("after that: %+v", p)
	}
}

func TestAChangeThatKeepsSizeAndTimeIsSeen(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.md", "one")
	path := filepath.Join(dir, "a.md")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	b := connecttest.Open(t, nil, files.New())
	b.Add("files", "docs", dir)
	write(t, dir, "a.md", "two")
	if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	b.Sync("docs")
	if text, _ := document(t, b, store.Local, "docs", "a.md"); text != "two\n" {
		t.Errorf("now: %q", text)
	}
}

func TestWhatIsLeftOutIsReported(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	write(t, outside, "secret.md", "the secret")
	write(t, dir, "ok.md", "fine")
	write(t, dir, "binary.txt", "\x00\x01")
	write(t, dir, "bad\x01\xffname.md", "odd name")
	for link, to := range map[string]string{
		"out.md": filepath.Join(outside, "secret.md"), "outdir": outside, "up.md": "../" + filepath.Base(outside) + "/secret.md",
		"inside.md": "ok.md", "nowhere.md": "gone.md", "loop": ".",
	} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	big, err := os.Create(filepath.Join(dir, "huge.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(big.Truncate(1<<30), big.Close()); err != nil { // a line of 1 GB
		t.Fatal(err)
	}
	b := connecttest.Open(t, nil, files.New())
	p := b.Add("files", "docs", dir)
	if got := b.Natives(store.Local, "docs", ""); !slices.Equal(got, []string{`bad\u{1}\xffname.md`, "ok.md"}) {
		t.Errorf("documents: %q", got)
	}
	want := map[string]string{"out.md": "leaves the folder", "outdir": "leaves the folder", "up.md": "leaves the folder", "inside.md": "own name",
		"nowhere.md": "leads nowhere", "loop": "own name", "huge.txt": "1024 MiB", "binary.txt": "not a text file"}
	check := func(p connect.Progress) {
		t.Helper()
		if int(p.Skipped) != len(want) {
			t.Errorf("%d left out, want %d: %v", p.Skipped, len(want), p.Skips)
		}
		for _, s := range p.Skips {
			if !strings.Contains(s.Reason, want[s.What]) || want[s.What] == "" {
				t.Errorf("%s: %s", s.What, s.Reason)
			}
		}
	}
	check(p)
	p = b.Sync("docs")
	check(p)
	if p.Bodies != 0 {
		t.Errorf("second sync read %d bodies", p.Bodies)
	}
}

func TestAFolderThatCannotBeListedDeletesNothing(t *testing.T) {
	if os.Getuid() == 0 {
		t.Log("as root, permission bits do not stop reading; a folder that is moved away stands in")
	}
	dir := t.TempDir()
	root := filepath.Join(dir, "docs")
	write(t, root, "a.md", "text")
	b := connecttest.Open(t, nil, files.New())
	b.Add("files", "docs", root)
	if err := os.Rename(root, root+".away"); err != nil {
		t.Fatal(err)
	}
	p := b.Try("docs")
	if !strings.Contains(p.Error, "there is no folder") {
		t.Errorf("error = %q", p.Error)
	}
	if err := os.Mkdir(root, 0o755); err != nil { // the empty place where something was mounted
		t.Fatal(err)
	}
	if p = b.Try("docs"); !strings.Contains(p.Error, "mounted") {
		t.Errorf("error = %q", p.Error)
	}
	if got := b.Natives(store.Local, "docs", ""); !slices.Equal(got, []string{"a.md"}) {
		t.Errorf("after failed scans: %q", got)
	}
}

func TestTheLastFileOfAFolderCanGo(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.md", "text")
	b := connecttest.Open(t, nil, files.New())
	b.Add("files", "docs", dir)
	if err := os.Remove(filepath.Join(dir, "a.md")); err != nil {
		t.Fatal(err)
	}
	b.Sync("docs")
	if got := b.Natives(store.Local, "docs", ""); len(got) != 0 {
		t.Errorf("documents: %q", got)
	}
}

func TestAFileIsNotAFolder(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.md", "text")
	b := connecttest.Open(t, nil, files.New())
	_, err := b.Service.Add(t.Context(), guardtest.Admin(), graph.Source{Name: "docs", Kind: "files", Path: filepath.Join(dir, "a.md")})
	if err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("err = %v", err)
	}
	if list, err := b.List(t.Context(), guardtest.Admin()); err != nil || len(list) != 0 {
		t.Errorf("sources: %v, %v", list, err)
	}
}

func TestNothingIsReachedWithoutAPermit(t *testing.T) {
	c, src := files.New(), graph.Source{Name: "docs", Kind: "files", Path: t.TempDir()}
	if err := c.Scan(t.Context(), nil, src, nil); !errors.Is(err, auth.ErrDenied) {
		t.Errorf("scan: %v", err)
	}
	if err := c.Check(t.Context(), nil, src); !errors.Is(err, auth.ErrDenied) {
		t.Errorf("check: %v", err)
	}
}

// TestWhatIsBehindTheFenceIsNeverRead adds folders that are, hold, or lead into a
// closed one.
func TestWhatIsBehindTheFenceIsNeverRead(t *testing.T) {
	dir := t.TempDir()
	closed, open := filepath.Join(dir, "data"), filepath.Join(dir, "open")
	write(t, closed, "seal/key.txt", "The key is planted.")
	write(t, closed, "seal/below/x.txt", "Planted below.")
	write(t, open, "x.txt", "Open.")
	if err := os.Symlink(filepath.Join(closed, "seal"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(closed, "seal/key.txt"), filepath.Join(open, "hard.txt")); err != nil {
		t.Fatal(err)
	}
	b := connecttest.Open(t, nil, files.New().Except(fence.New(closed, filepath.Join(closed, "seal"))))
	for _, path := range []string{closed, filepath.Join(closed, "seal"), filepath.Join(closed, "seal", "below"), filepath.Join(dir, "link"), filepath.Join(dir, "link", "below"), filepath.Join(open, "..", "data")} {
		_, err := b.Service.Add(t.Context(), guardtest.Admin(), graph.Source{Name: "s", Kind: "files", Path: path})
		if !errors.Is(err, fence.ErrClosed) {
			t.Errorf("%s: %v", path, err)
		}
	}
	for name, path := range map[string]string{"around": dir, "beside": open} {
		p := b.Add("files", name, path)
		if p.Records != 1 || p.Bodies != 1 {
			t.Errorf("%s: %+v", name, p)
		}
		if !slices.ContainsFunc(p.Skips, func(s connect.Skip) bool { return strings.Contains(s.Reason, "belongs to Cloister") }) {
			t.Errorf("%s: what is left out is not told: %+v", name, p.Skips)
		}
	}
}
