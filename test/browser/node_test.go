package browser

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/cloister-os/cloister/test/world"
)

// node is the real program, as make build made it.
type node struct {
	site
	LogKey string `json:"log_key"`
	Code   string `json:"code"`
	URL    string `json:"url"`
	CA     string `json:"ca"`
	setup  string // path of setup.json
}

// built is the path of a program that make build made, in build/ or in the
// folder that CLOISTER_BUILD names.
func built(t testing.TB, name string) string {
	t.Helper()
	dir := os.Getenv("CLOISTER_BUILD")
	if dir == "" {
		dir = filepath.Join("..", "..", "build")
	}
	path, err := filepath.Abs(filepath.Join(dir, name))
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		t.Skipf("%s is not there: run make build first", path)
	}
	return path
}

// start runs a node with new data and returns what it wrote for its operator.
func start(t testing.TB) *node {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	cmd := exec.Command(built(t, "cloister"), "serve", "--data", data, "--listen", "localhost:0")
	log, err := os.Create(filepath.Join(t.TempDir(), "serve.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		log.Close()
		if b, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("the node said:\n%s", b)
		}
	})
	n := &node{setup: filepath.Join(data, "setup.json")}
	deadline := time.Now().Add(30 * time.Second)
	for tick := time.NewTicker(50 * time.Millisecond); ; <-tick.C {
		if b, err := os.ReadFile(n.setup); err == nil && json.Unmarshal(b, n) == nil {
			if n.spki, err = spkiOf(n.URL, n.CA); err == nil {
				n.url = n.URL
				return n
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("the node does not answer after 30 s")
		}
	}
}

// spkiOf is the hash of the key of a node's certificate, which must come from
// the CA that the node wrote down.
func spkiOf(address, ca string) (string, error) {
	pem, err := os.ReadFile(ca)
	if err != nil {
		return "", err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return "", fmt.Errorf("%s holds no certificate", ca)
	}
	at, err := url.Parse(address)
	if err != nil {
		return "", err
	}
	conn, err := tls.Dial("tcp", at.Host, &tls.Config{RootCAs: roots})
	if err != nil {
		return "", err
	}
	defer conn.Close()
	sum := sha256.Sum256(conn.ConnectionState().PeerCertificates[0].RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(sum[:]), nil
}

const seed = 20261123

// TestRealNode walks the real program: what a new user does, and every page on
// the data that comes of it.
func TestRealNode(t *testing.T) {
	verifier := built(t, "cloister-verify")
	n := start(t)
	w, err := world.New(t.TempDir(), seed)
	if err != nil {
		t.Fatal(err)
	}
	c := launch(t, n.spki).tab(t, n.site)
	files := c.keepFiles(t)
	c.set(t, look{"light", 1280})

	c.setUp(t, n)
	c.importStarter(t)
	c.connect(t, "git", w.Repository, "code")
	c.connect(t, "files", w.Documents, "docs")
	answered := c.askAll(t, w)
	c.citationOutlivesItsSource(t, w, answered)

	c.at(t, "/audit/export", 200)
	c.tabTo(t, "Download the bundle")
	c.press(t, kb.Enter)
	bundle := files.wait(t)
	if out, err := exec.Command(verifier, "--log-key", n.LogKey, bundle).CombinedOutput(); err != nil {
		t.Errorf("cloister-verify refuses the bundle: %v: %s", err, out)
	}
	c.everyPage(t, answered)
}

// setUp makes the administrator with the printed code, and signs out and in.
func (c *chrome) setUp(t *testing.T, n *node) {
	t.Helper()
	c.at(t, "/", 200)
	for _, l := range looks {
		c.set(t, l)
		c.at(t, "/setup", 200)
		c.check(t, "node-setup", l)
	}
	c.set(t, look{"light", 1280})
	c.at(t, "/setup", 200)
	c.see(t, n.LogKey)
	fill := func() {
		c.typeInto(t, "user", "maria")
		c.typeInto(t, "password", "a cloister has four walks")
	}
	c.typeInto(t, "code", "WRONG-WRONG")
	fill()
	c.typeInto(t, "repeat", "a cloister has four walks")
	c.press(t, kb.Enter)
	c.see(t, "This is not the setup code.")
	c.at(t, "/setup", 200)
	c.typeInto(t, "code", n.Code)
	fill()
	c.typeInto(t, "repeat", "a cloister has four walks")
	c.enter(t, "/")
	if _, err := os.Stat(n.setup); !os.IsNotExist(err) {
		t.Errorf("setup.json is still there: %v", err)
	}
	c.tabTo(t, "Sign out")
	c.enter(t, "/sign-in?bye")
	fill()
	c.enter(t, "/")
	c.see(t, "What to do next")
	c.picture(t, "node-home-empty-light-1280")
}

// importStarter brings the starter pack in where there is one; everything after
// works without it too.
func (c *chrome) importStarter(t *testing.T) {
	t.Helper()
	pack, err := filepath.Abs(filepath.Join("..", "..", "build", "packs", "starter.pack"))
	if err == nil {
		_, err = os.Stat(pack)
	}
	if err != nil {
		t.Log("there is no starter pack: answers come from text search alone")
		return
	}
	c.at(t, "/models", 200)
	c.typeInto(t, "path", pack)
	c.press(t, kb.Enter)
	c.see(t, "all-minilm")
}

// connect adds a source and waits until its page says that it is read.
func (c *chrome) connect(t *testing.T, kind, path, name string) {
	t.Helper()
	c.at(t, "/sources/add?kind="+kind, 200)
	c.typeInto(t, "path", path+"-nowhere")
	c.typeInto(t, "name", name)
	c.press(t, kb.Enter)
	c.see(t, path+"-nowhere")
	if !c.until(`document.querySelector("#path-wrong, main .notice.bad") !== null`) {
		c.picture(t, "unseen")
		t.Fatal("a path that is not there is not refused")
	}
	c.at(t, "/sources/add?kind="+kind, 200)
	c.typeInto(t, "path", path)
	c.typeInto(t, "name", name)
	c.enter(t, "/sources/"+name)
	c.see(t, "up to date")
}

// askAll asks one question of each shape and returns the address of an answer
// that quotes a document.
func (c *chrome) askAll(t *testing.T, w *world.World) (quoted string) {
	t.Helper()
	seen := map[string]bool{}
	for _, q := range w.Questions {
		if seen[q.Shape] {
			continue
		}
		seen[q.Shape] = true
		c.ask(t, q.Wordings[0])
		var outcome string
		c.run(t, chromedp.Evaluate(`document.getElementById("outcome-title").textContent.trim()`, &outcome))
		t.Logf("%s: %q: %s", q.Shape, q.Wordings[0], outcome)
		c.picture(t, "node-answer-"+q.Shape+"-light-1280")
		if q.Shape == "fact" {
			c.run(t, chromedp.Location(&quoted))
		}
		if outcome == "This run failed" {
			t.Errorf("%q failed", q.Wordings[0])
		}
	}
	c.ask(t, w.Unknown[0].Wordings[0])
	c.picture(t, "node-answer-unknown-light-1280")
	return strings.TrimPrefix(quoted, c.site.url)
}

func (c *chrome) ask(t *testing.T, question string) {
	t.Helper()
	c.at(t, "/ask", 200)
	c.typeInto(t, "question", question)
	c.press(t, kb.Enter)
	if !c.until(`document.getElementById("outcome-title") !== null`) {
		c.picture(t, "unseen")
		t.Fatalf("%q has no outcome", question)
	}
}

// citationOutlivesItsSource opens a citation, changes the document behind it,
// and opens it again: the same bytes, and a word that the source has changed.
func (c *chrome) citationOutlivesItsSource(t *testing.T, w *world.World, answer string) {
	t.Helper()
	c.at(t, answer, 200)
	var cited struct{ Text, Href, Where string }
	c.run(t, chromedp.Evaluate(`(() => { const x = document.querySelector("#cite-1"); const a = x.querySelector("h3 a");
		return {Text: x.querySelector("blockquote").textContent, Href: a.getAttribute("href"), Where: new URL(a.href).searchParams.get("record")}; })()`, &cited))
	open := func() {
		t.Helper()
		c.at(t, cited.Href, 200)
		c.see(t, "The bytes are the ones that were cited")
		if got := c.text(t, "#cited"); got != cited.Text {
			t.Errorf("the mark holds %q, the citation %q", got, cited.Text)
		}
	}
	open()
	c.picture(t, "node-cite-light-1280")
	source, native, _ := strings.Cut(cited.Where, "/")
	if source != "docs" {
		t.Fatalf("the fact is cited from %q, not from the documents", cited.Where)
	}
	file := filepath.Join(w.Documents, strings.TrimPrefix(native, "document/"))
	if err := os.WriteFile(file, []byte("# Emptied\n\nNothing of this is left.\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c.at(t, "/sources/docs", 200)
	c.tabTo(t, "Sync now")
	c.enter(t, "/sources/docs?syncing")
	if !c.until(fmt.Sprintf(`fetch(%q).then((r) => r.text()).then((s) => window.changed = s.includes("The source has changed since")) && window.changed === true`, cited.Href)) {
		t.Fatal("the page never says that the source has changed")
	}
	open()
	c.see(t, "The source has changed since")
	c.picture(t, "node-cite-changed-light-1280")
}

// everyPage looks at the pages with what the walk left behind.
func (c *chrome) everyPage(t *testing.T, answered string) {
	t.Helper()
	for _, s := range []struct{ name, path string }{
		{"home", "/"}, {"ask", "/ask"}, {"answer", answered}, {"sources", "/sources"}, {"source-git", "/sources/code"}, {"source-files", "/sources/docs"},
		{"audit", "/audit"}, {"record", "/audit/3"}, {"export", "/audit/export"}, {"models", "/models"}, {"keys", "/keys"}, {"key-new", "/keys/new"},
		{"policies", "/policies"}, {"account", "/account"},
	} {
		for _, l := range looks {
			c.set(t, l)
			c.at(t, s.path, 200)
			c.check(t, "node-"+s.name, l)
		}
	}
}

// keptFiles are the files that the browser was given.
type keptFiles struct {
	dir   string
	names map[string]string // download's id → name
	done  chan string
}

func (c *chrome) keepFiles(t testing.TB) *keptFiles {
	t.Helper()
	f := &keptFiles{dir: t.TempDir(), names: map[string]string{}, done: make(chan string, 8)}
	chromedp.ListenTarget(c.ctx, func(ev any) { // called by one goroutine
		switch e := ev.(type) {
		case *browser.EventDownloadWillBegin:
			f.names[e.GUID] = e.SuggestedFilename
		case *browser.EventDownloadProgress:
			if e.State == browser.DownloadProgressStateCompleted {
				f.done <- f.names[e.GUID]
			}
		}
	})
	c.run(t, browser.SetDownloadBehavior(browser.SetDownloadBehaviorBehaviorAllow).WithDownloadPath(f.dir).WithEventsEnabled(true).
		WithBrowserContextID(chromedp.FromContext(c.ctx).BrowserContextID))
	return f
}

// wait returns the path of the next file that is complete.
func (f *keptFiles) wait(t testing.TB) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	select {
	case name := <-f.done:
		return filepath.Join(f.dir, name)
	case <-ctx.Done():
		t.Fatal("no download was completed")
		return ""
	}
}
