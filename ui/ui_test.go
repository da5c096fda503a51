package ui_test

import (
	"bufio"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/ui"
	"github.com/cloister-os/cloister/ui/asset"
	"github.com/cloister-os/cloister/ui/uitest"
)

// person is a client of the pages that follows no redirect.
type person struct {
	t     *testing.T
	h     http.Handler
	token string
}

func visit(t *testing.T, w *uitest.World, signedIn bool) person {
	t.Helper()
	h, err := ui.New(w.Config())
	if err != nil {
		t.Fatal(err)
	}
	p := person{t: t, h: h}
	if signedIn {
		p.token = w.Token()
	}
	return p
}

func (p person) do(r *http.Request) *httptest.ResponseRecorder {
	if p.token != "" {
		r.AddCookie(&http.Cookie{Name: "__Host-cloister", Value: p.token})
	}
	w := httptest.NewRecorder()
	p.h.ServeHTTP(w, r)
	return w
}

func (p person) get(path string) *httptest.ResponseRecorder {
	return p.do(httptest.NewRequest("GET", path, nil))
}

func (p person) post(path string, pairs ...string) *httptest.ResponseRecorder {
	form := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		form.Add(pairs[i], pairs[i+1])
	}
	r := httptest.NewRequest("POST", path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return p.do(r)
}

func (p person) want(w *httptest.ResponseRecorder, status int, parts ...string) {
	p.t.Helper()
	if w.Code != status {
		p.t.Fatalf("status %d, not %d: %.300s", w.Code, status, w.Body)
	}
	for _, part := range parts {
		if body := w.Body.String() + w.Header().Get("Location"); !strings.Contains(body, part) {
			p.t.Errorf("the answer lacks %q", part)
		}
	}
}

// TestEveryLinkLeadsSomewhere walks all links from the first page and holds each
// page to the house's rules for HTML.
func TestEveryLinkLeadsSomewhere(t *testing.T) {
	p := visit(t, uitest.Full(), true)
	queue, seen := []string{"/"}, map[string]bool{"/": true}
	pages := 0
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		w := p.get(at)
		if w.Code != 200 {
			t.Errorf("%s answers %d", at, w.Code)
			continue
		}
		if !strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") {
			continue
		}
		pages++
		if w.Header().Get("Cache-Control") != "no-store" || !strings.HasPrefix(w.Header().Get("Content-Security-Policy"), "default-src 'none'; script-src 'self';") {
			t.Errorf("%s lacks the headers of a page: %v", at, w.Header())
		}
		for _, to := range checkHTML(t, at, w.Body) {
			if !seen[to] && len(seen) < 600 {
				seen[to] = true
				queue = append(queue, to)
			}
		}
	}
	if pages < 60 {
		t.Errorf("only %d pages were reached", pages)
	}
}

// checkHTML reports what breaks the rules and returns the page's links.
func checkHTML(t *testing.T, at string, body io.Reader) (links []string) {
	t.Helper()
	doc, err := html.Parse(body)
	if err != nil {
		t.Fatal(err)
	}
	ids, wanted := map[string]bool{}, map[string]string{}
	for n := range doc.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		if n.Data == "style" || n.Data == "script" && n.FirstChild != nil {
			t.Errorf("%s has an inline <%s>", at, n.Data)
		}
		for _, a := range n.Attr {
			switch {
			case a.Key == "style" || strings.HasPrefix(a.Key, "on"):
				t.Errorf("%s has an inline %s on <%s>", at, a.Key, n.Data)
			case a.Key == "id":
				if ids[a.Val] {
					t.Errorf("%s has the id %q twice", at, a.Val)
				}
				ids[a.Val] = true
			case a.Key == "for" || a.Key == "data-copy" || a.Key == "popovertarget" || strings.HasPrefix(a.Key, "aria-labelledby") || a.Key == "aria-describedby":
				for _, id := range strings.Fields(a.Val) {
					wanted[id] = a.Key
				}
			case a.Key == "href" && n.Data == "a", a.Key == "src":
				to, frag, _ := strings.Cut(a.Val, "#")
				if to == "" && frag != "" {
					wanted[frag] = "href"
				} else if strings.HasPrefix(to, "/") {
					links = append(links, to)
				} else if to != "" {
					t.Errorf("%s leads to %q", at, a.Val)
				}
			}
		}
	}
	for id, by := range wanted {
		if !ids[id] {
			t.Errorf("%s: %s names the id %q, which is not there", at, by, id)
		}
	}
	return links
}

func TestNobodyEntersUnsigned(t *testing.T) {
	p := visit(t, uitest.Full(), false)
	for _, path := range []string{"/", "/sources", "/ask/x", "/cite?source=a", "/audit", "/audit/1", "/keys", "/models", "/policies", "/account", "/sources/payments/progress", "/nothing"} {
		w := p.get(path)
		p.want(w, 303, "/sign-in")
		if w.Body.Len() > 200 {
			t.Errorf("%s says more than where to go", path)
		}
	}
	for _, path := range []string{"/sources/add", "/ask", "/audit/export", "/keys/new", "/models/import"} {
		p.want(p.post(path), 303, "/sign-in")
	}
}

func TestSetupComesFirstAndOnce(t *testing.T) {
	p := visit(t, uitest.Empty(), false)
	p.want(p.get("/ask"), 303, "/setup")
	p.want(p.get("/setup"), 200, uitest.LogKey, uitest.Cert)
	good := []string{"code", uitest.Code, "user", uitest.User, "password", uitest.Password, "repeat", uitest.Password}
	p.want(p.post("/setup", "code", uitest.Code, "user", "m", "password", "a", "repeat", "b"), 422, "The two passwords differ.")
	for range 4 {
		p.want(p.post("/setup", "code", "WRONG", "user", "maria", "password", "x", "repeat", "x"), 422, "This is not the setup code", `value="maria"`)
	}
	p.want(p.post("/setup", "code", "WRONG", "user", "maria", "password", "x", "repeat", "x"), 429, "Wait a moment")
	w := p.post("/setup", good...)
	p.want(w, 303)
	c := w.Result().Cookies()
	if len(c) != 1 || c[0].Name != "__Host-cloister" || !c[0].HttpOnly || !c[0].Secure {
		t.Fatalf("cookies %v", c)
	}
	p.want(p.post("/setup", good...), 303)
	if strings.Contains(p.get("/setup").Header().Get("Location"), "setup") {
		t.Error("setup is still open")
	}
}

func TestSignInReturnsToWhereItCameFrom(t *testing.T) {
	p := visit(t, uitest.Full(), false)
	p.want(p.get("/audit?kind=refusal"), 303, "/sign-in?next=%2Faudit%3Fkind%3Drefusal")
	p.want(p.post("/sign-in", "user", uitest.User, "password", "wrong", "next", "/audit"), 422, "Name or password is wrong", `value="/audit"`)
	for next, want := range map[string]string{
		"/audit?kind=refusal": "/audit?kind=refusal", "https://evil.example/": "/", "//evil.example": "/", `/\evil.example`: "/", "javascript:alert(1)": "/", "": "/",
	} {
		w := p.post("/sign-in", "user", uitest.User, "password", uitest.Password, "next", next)
		if got := w.Header().Get("Location"); got != want {
			t.Errorf("next %q leads to %q, not %q", next, got, want)
		}
	}
}

func TestRefusalNamesThePolicy(t *testing.T) {
	w := uitest.Full()
	w.Deny(auth.AuditExport, "no-export-on-sundays")
	p := visit(t, w, true)
	res := p.post("/audit/export")
	p.want(res, 403, "no-export-on-sundays", "audit.export")
	if res.Header().Get("Content-Disposition") != "" {
		t.Error("the refusal comes as a download")
	}
	w.Deny(auth.SourceRead, "nothing-to-see")
	p.want(p.get("/sources/payments/progress"), 403, "nothing-to-see")
	p.want(p.get("/"), 200) // a part that is refused is left out of home
}

func TestExportIsADownloadWithItsRange(t *testing.T) {
	p := visit(t, uitest.Full(), true)
	res := p.post("/audit/export", "from", "3", "to", "9")
	p.want(res, 200, "a bundle")
	if got := res.Header().Get("Content-Disposition"); got != `attachment; filename="cloister-audit.bundle"` {
		t.Errorf("disposition %q", got)
	}
	p.want(p.post("/audit/export", "from", "9", "to", "3"), 422, "must not come before the first")
	p.want(p.post("/audit/export", "from", "x"), 422, "must be a whole number")
	p.want(p.get("/audit/export"), 200, "cloister-verify --log-key "+strings.ReplaceAll(uitest.LogKey, "+", "&#43;")[:7])
}

// TestAFilterShowsWhatItFilters: the system's own events are none of the actions that
// policies speak of, and links lead to them.
func TestAFilterShowsWhatItFilters(t *testing.T) {
	p := visit(t, uitest.Full(), true)
	for _, action := range []string{"policy.amend", "session.login-failed", string(auth.PolicyManage)} {
		p.want(p.get("/audit"), 200, `href="/audit?action=`+action)
		p.want(p.get("/audit?action="+action), 200, `<option value="`+action+`" selected>`)
	}
}

func TestFormsSayWhatIsWrongAndKeepWhatWasTyped(t *testing.T) {
	p := visit(t, uitest.Full(), true)
	p.want(p.post("/sources/add", "kind", "git", "name", "payments", "path", "/srv/x", "role", "user"), 422, "There is a source of that name already.", `value="/srv/x"`)
	p.want(p.post("/sources/add", "kind", "git", "name", "x", "path", "cl_3hq8zk5n0v7w2c9d_Vq3rT8yLk2WnZ6"), 422, "looks like an API key")
	p.want(p.post("/sources/add", "kind", "git", "name", "ledger", "path", "/srv/x"), 422, "Say who may read the source", `value="/srv/x"`)
	p.want(p.post("/sources/add", "kind", "git", "name", "ledger", "path", "/srv/x", "others", "finance"), 422, "There is no role", "finance</textarea>")
	p.want(p.post("/access/handbook", "others", "corp/finance"), 422, "Nothing was changed", "never a name", "corp/finance")
	p.want(p.get("/audit?from=yesterday"), 200, "Give a time as 2026-01-31T08:00")
	p.want(p.post("/audit/export", "since", "2026-02-01T00:00", "until", "2026-01-01T00:00"), 422, "must not end before it begins")
	p.want(p.post("/keys/new", "name", "bot"), 422, "Tick at least one scope.", `value="bot"`)
	p.want(p.post("/ask", "question", "  "), 422, "Type a question first.")
	p.want(p.post("/ask", "question", strings.Repeat("word ", 500)), 422, "too long")
	p.want(p.post("/models/import", "path", "/none"), 422, "There is no pack at /none")
	p.want(p.post("/ask", "question", strings.Repeat("x", 70<<10)), 422, "too long for the form")
}

func TestAPIKeySecretIsShownOnce(t *testing.T) {
	p := visit(t, uitest.Full(), true)
	res := p.post("/keys/new", "name", "bot", "scope", "ask", "source", "payments", "ttl", "30")
	p.want(res, 200, "cl_9fk2w7c1m4xq8d3t_", "shown this once")
	if strings.Contains(p.get("/keys").Body.String(), "_Vq3r") {
		t.Error("the list shows the secret")
	}
}

func TestReadOnlyIsSaidOnEveryPage(t *testing.T) {
	w := uitest.Full()
	w.SetReadOnly("The disk is full.")
	p := visit(t, w, true)
	for _, path := range []string{"/", "/sources", "/audit", "/keys/new"} {
		p.want(p.get(path), 200, "The disk is full.")
	}
}

func TestRunStreamsUntilItsEnd(t *testing.T) {
	w := uitest.Full()
	p := visit(t, w, true)
	s := httptest.NewServer(p.h)
	defer s.Close()
	res := p.post("/ask", "question", "How long are settlement files kept?")
	p.want(res, 303, "/ask/")
	at, _, _ := strings.Cut(res.Header().Get("Location"), "#")
	r, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+at+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.AddCookie(&http.Cookie{Name: "__Host-cloister", Value: p.token})
	client := &http.Client{Timeout: 30 * time.Second}
	stream, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	kinds, text := map[string]int{}, ""
	lines := bufio.NewScanner(stream.Body)
	for lines.Scan() {
		if kind, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
			kinds[kind]++
		}
		text += lines.Text() + "\n"
	}
	if kinds["region"] < 2 || kinds["end"] != 1 || !strings.Contains(text, "data: Answer: Settlement files are kept for seven years") {
		t.Errorf("events %v in %.2000s", kinds, text)
	}
}

func TestCiteURLOpensItsBytes(t *testing.T) {
	p := visit(t, uitest.Full(), true)
	at := ui.CiteURL(ui.Cite{Source: "handbook", Record: "file/policies/retention.md", Version: 48090, Start: 0, End: 9, SHA256: "00"}, "R1")
	p.want(p.get(strings.TrimSuffix(at, "#cited")), 200, `<mark id="cited">Retention</mark>`, "The bytes differ", "/ask/R1")
	for _, bad := range []string{"/cite", "/cite?source=a&record=b&version=x&start=0&end=1", "/cite?source=a&record=b&version=1&start=5&end=1", "/cite?source=a&record=b&version=1&start=-1&end=1"} {
		p.want(p.get(bad), 404)
	}
}

func TestThemeFormGoesBackOnlyToThisSite(t *testing.T) {
	p := visit(t, uitest.Full(), true)
	for from, want := range map[string]string{"http://example.com/audit?kind=event": "/audit?kind=event", "https://evil.example/x": "/", "": "/"} {
		r := httptest.NewRequest("POST", "/theme", strings.NewReader("theme=dark"))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Referer", from)
		w := p.do(r)
		if got := w.Header().Get("Location"); got != want {
			t.Errorf("from %q back to %q", from, got)
		}
	}
}

func TestScriptsStaySmall(t *testing.T) {
	set, err := asset.New()
	if err != nil {
		t.Fatal(err)
	}
	if n := set.ScriptBytes(); n == 0 || n > 12<<10 {
		t.Errorf("the scripts weigh %d bytes compressed", n)
	}
	w := httptest.NewRecorder()
	set.ServeHTTP(w, httptest.NewRequest("GET", set.URL(asset.StyleSheet), nil))
	if w.Code != 200 || !strings.Contains(w.Header().Get("Cache-Control"), "immutable") {
		t.Errorf("style sheet: %d %v", w.Code, w.Header())
	}
	w = httptest.NewRecorder()
	set.ServeHTTP(w, httptest.NewRequest("GET", "/asset/0000000000000000/app.css", nil))
	if w.Code != 404 {
		t.Errorf("an outdated hash answers %d", w.Code)
	}
}

func TestWhatIsNotPermittedIsNotOffered(t *testing.T) {
	w := uitest.Full()
	w.Deny(auth.AuditRead, "auditors-only")
	w.Deny(auth.ModelList, "builders-only")
	body := visit(t, w, true).get("/").Body.String()
	for _, hidden := range []string{`<li hidden><a href="/audit"`, `<li hidden><a href="/models"`} {
		if !strings.Contains(body, hidden) {
			t.Errorf("home lacks %s", hidden)
		}
	}
	for _, part := range []string{"log-title", "models-title"} {
		if strings.Contains(body, part) {
			t.Errorf("home shows %s", part)
		}
	}
	if strings.Contains(body, `<li hidden><a href="/sources"`) {
		t.Error("the sources are hidden too")
	}
}
