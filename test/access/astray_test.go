package access

import (
	"bytes"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/cloister-os/cloister/node/api/wire"
)

// TestTheNodesOwnFolderIsNoSource has an administrator add it, under all the names
// it can have.
func TestTheNodesOwnFolderIsNoSource(t *testing.T) {
	t.Parallel()
	h := open(t)
	outside := t.TempDir()
	write(t, filepath.Join(h.dir, "seal", "planted.txt"), "The planted key is xyzzy.\n")
	write(t, filepath.Join(outside, "open.md"), "# Open\n\nThe gate is open.\n")
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(h.dir, link); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(h.dir, "seal"), filepath.Join(outside, "seal")); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(h.dir, "seal", "planted.txt"), filepath.Join(outside, "hard.txt")); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{h.dir, h.dir + "/", filepath.Join(h.dir, "seal"), filepath.Join(h.dir, "blobs"), link, filepath.Join(link, "seal"), outside + "/seal", outside + "/../" + filepath.Base(outside) + "/seal"} {
		r := h.do(h.admin, http.MethodPost, "/api/v1/sources", wire.NewSource{Name: "own", Kind: "files", Path: path})
		if r.status != http.StatusUnprocessableEntity || !strings.Contains(string(r.body), "belongs to Cloister") {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
	// The folders around it may be read, but for what lies in it.
	h.add("around", "files", filepath.Dir(h.dir))
	h.add("beside", "files", outside)
	for _, question := range []string{"What is the planted key?", "What is xyzzy?"} {
		if a, r := h.ask(h.admin, question); len(a.Citations) > 0 && strings.Contains(string(r.body), "xyzzy.") {
			t.Errorf("%q: %s", question, r.body)
		}
	}
	if a, _ := h.ask(h.admin, "What is the gate?"); len(a.Citations) == 0 {
		t.Errorf("nothing of the folder beside was read: %+v", a)
	}
}

// TestAModelIsNotImportedFromTheKeys names files that are no models: what is in
// them is not told.
func TestAModelIsNotImportedFromTheKeys(t *testing.T) {
	t.Parallel()
	h := open(t)
	files, err := filepath.Glob(filepath.Join(h.dir, "seal", "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v %v", files, err)
	}
	for _, path := range append(files, "/etc/passwd", "/dev/zero", "/proc/self/environ") {
		r := h.do(h.admin, http.MethodPost, "/api/v1/models", wire.ImportModel{Path: path})
		if r.status < 400 || len(r.body) > 1000 {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
		if !strings.HasPrefix(path, h.dir) {
			continue
		}
		if content := read(t, path); len(content) >= 8 && bytes.Contains(r.body, content[:8]) {
			t.Errorf("%s: the error tells what is in it: %s", path, r.body)
		}
	}
}

// TestDocumentsPlantNothingInPages asks about documents that hold markup and
// control characters wherever text can stand.
func TestDocumentsPlantNothingInPages(t *testing.T) {
	t.Parallel()
	h := open(t)
	dir := t.TempDir()
	const script, image, escape = "<script>alert(1)</script>", `"><img src=x onerror=alert(2)>`, "\x1b]0;owned\x07\x1b[31m"
	write(t, filepath.Join(dir, image+".md"), "# The zorblax "+image+"\n\nThe zorblax is kept for `"+script+"` ninety "+escape+"days "+image+" in all.\n")
	write(t, filepath.Join(dir, "page.html"), "<title>Frobnitz &lt;script&gt;alert(1)&lt;/script&gt;</title><h1>Frobnitz &lt;script&gt;alert(1)&lt;/script&gt;</h1><p>The frobnitz costs &lt;script&gt;alert(1)&lt;/script&gt; nine euros. javascript:alert(3)</p><script>alert('The grault is red.')</script>")
	h.add("docs", "files", dir)
	var pages []string
	for _, question := range []string{"How long is the zorblax kept?", "What does the frobnitz cost? " + script, "What is the grault?"} {
		a, r := h.ask(h.admin, question)
		if bytes.ContainsAny(r.body, "\x1b\x07") {
			t.Errorf("%q: an answer holds control characters", question)
		}
		if strings.Contains(a.Answer, "grault is red") {
			t.Errorf("%q: a script was read as text", question)
		}
		pages = append(pages, "/ask/"+a.Run, "/ask?q="+url.QueryEscape(question))
		for _, c := range a.Citations {
			q := url.Values{"source": {c.Source}, "record": {c.Record}, "run": {a.Run + image}}
			for name, n := range map[string]uint64{"version": c.Version, "start": uint64(c.Start), "end": uint64(c.End)} {
				q.Set(name, strconv.FormatUint(n, 10))
			}
			pages = append(pages, "/cite?"+q.Encode())
		}
	}
	cited := 0
	for _, path := range append(pages, "/sources/docs", "/sources", "/sign-in?next="+url.QueryEscape(script), "/audit", "/ask", "/") {
		r := h.do(h.admin, http.MethodGet, path, nil)
		if r.status >= 400 {
			t.Errorf("%s: %d", path, r.status)
		}
		if strings.HasPrefix(path, "/cite") && bytes.Contains(r.body, []byte("&lt;script&gt;")) {
			cited++
		}
		for _, planted := range []string{"<script>alert", "<img src=x", "\x1b", "\x07", `href="javascript:`} {
			if bytes.Contains(r.body, []byte(planted)) {
				t.Errorf("%s holds %q: %s", path, planted, around(string(r.body), planted))
			}
		}
		policy := r.header.Get("Content-Security-Policy")
		if r.status == http.StatusOK && (!strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe")) {
			t.Errorf("%s: the policy for content is %q", path, policy)
		}
	}
	if cited == 0 {
		t.Error("no page of a citation shows the markup as text: this test proves nothing")
	}
}
