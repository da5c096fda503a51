package access

import (
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cloister-os/cloister/auth/session"
	"github.com/cloister-os/cloister/node/api/wire"
)

// TestAStreamEndsWithItsCredential keeps event streams open and takes the
// credentials away: key revoked, session signed out.
func TestAStreamEndsWithItsCredential(t *testing.T) {
	t.Parallel()
	h := open(t)
	h.add("alpha", "files", alpha(t))
	key := h.key("narrow", []string{"ask"}, []string{"alpha"})
	var s wire.Session
	h.must(caller{}, http.MethodPost, "/api/v1/login", wire.Login{User: "ada", Password: password}, &s)
	person := caller{name: "person", token: s.Token}
	page := caller{name: "page", cookie: s.Token}
	ended := map[string]chan string{}
	for name, c := range map[string]struct {
		caller
		path string
	}{
		"key": {key, "/api/v1/sources/alpha/progress"}, "session": {person, "/api/v1/sources/alpha/progress"}, "page": {page, "/sources/alpha/progress"},
		"staying": {h.admin, "/api/v1/sources/alpha/progress"},
	} {
		resp, err := h.send(t.Context(), c.caller, http.MethodGet, c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s", name, resp.Status)
		}
		done := make(chan string, 1)
		ended[name] = done
		go func() {
			last := ""
			for ev := range events(resp.Body) {
				last = ev.kind + " " + string(ev.data)
			}
			done <- last
		}()
	}
	h.must(h.admin, http.MethodDelete, "/api/v1/keys/"+key.id, nil, nil)
	h.must(person, http.MethodPost, "/api/v1/logout", nil, nil)
	for _, name := range []string{"key", "session", "page"} {
		select {
		case last := <-ended[name]:
			if name != "page" && !strings.HasPrefix(last, "error ") {
				t.Errorf("%s: the stream ends with %q", name, last)
			}
		case <-time.After(20 * time.Second):
			t.Errorf("%s: the stream outlives its credential", name)
		}
	}
	select {
	case last := <-ended["staying"]:
		t.Errorf("the stream of somebody else ended: %s", last)
	default:
	}
}

// TestARunEndsWithItsKey revokes a key and looks at what it started: nobody else
// reads it, and the key neither.
func TestARunEndsWithItsKey(t *testing.T) {
	t.Parallel()
	h := open(t)
	h.add("alpha", "files", alpha(t))
	one, two := h.key("one", []string{"ask"}, []string{"alpha"}), h.key("two", []string{"ask"}, []string{"alpha"})
	a, _ := h.ask(one, "How long are backups kept?")
	h.must(one, http.MethodGet, "/api/v1/runs/"+a.Run, nil, nil)
	for _, path := range []string{"/api/v1/runs/" + a.Run, "/api/v1/runs/" + a.Run + "/events", "/ask/" + a.Run, "/ask/" + a.Run + "/events"} {
		for _, c := range []caller{two, h.admin} {
			if r := h.do(c, http.MethodGet, path, nil); r.status != http.StatusForbidden || strings.Contains(string(r.body), "thirty") {
				t.Errorf("%s as %s: %d %s", path, c.name, r.status, r.body)
			}
		}
	}
	if r := h.do(two, http.MethodGet, "/api/v1/runs", nil); strings.Contains(string(r.body), a.Run) {
		t.Errorf("the list of another key's runs: %s", r.body)
	}
	// The same word to ask only once is another one's for another key.
	two.header = http.Header{"Idempotency-Key": {"once"}}
	one.header = two.header
	first, again := runOf(h, one), runOf(h, one)
	if theirs := runOf(h, two); first != again || theirs == first {
		t.Errorf("one: %s, %s; two: %s", first, again, theirs)
	}
	h.must(h.admin, http.MethodDelete, "/api/v1/keys/"+one.id, nil, nil)
	if r := h.do(one, http.MethodGet, "/api/v1/runs/"+a.Run, nil); r.status != http.StatusUnauthorized {
		t.Errorf("after its end the key reads: %d", r.status)
	}
}

func runOf(h *house, c caller) string {
	a, _ := h.ask(c, "How long are backups kept?")
	return a.Run
}

// TestAForbidAppliesToTheNextCall adds a policy between two calls.
func TestAForbidAppliesToTheNextCall(t *testing.T) {
	t.Parallel()
	h := open(t)
	h.add("alpha", "files", alpha(t))
	key := h.key("narrow", []string{"ask"}, []string{"alpha"})
	if a, _ := h.ask(key, "How long are backups kept?"); len(a.Citations) == 0 {
		t.Fatalf("%+v", a)
	}
	h.must(h.admin, http.MethodPut, "/api/v1/policies/no-alpha", wire.NewPolicy{Text: `@id("no-alpha") forbid (principal, action == Action::"source.read", resource == Source::"alpha");`}, nil)
	if a, r := h.ask(key, "How long are backups kept?"); a.Outcome != "unknown" || strings.Contains(string(r.body), "alpha") {
		t.Errorf("a source that is forbidden now: %s", r.body)
	}
	if r := h.do(key, http.MethodGet, "/api/v1/sources/alpha", nil); r.status != http.StatusForbidden || !strings.Contains(string(r.body), "no-alpha") {
		t.Errorf("%d %s", r.status, r.body)
	}
	if r := h.do(key, http.MethodGet, "/api/v1/sources", nil); strings.Contains(string(r.body), "alpha") {
		t.Errorf("%s", r.body)
	}
}

// TestAKeyMakesNoneWiderThanItself is about scopes, sources and life.
func TestAKeyMakesNoneWiderThanItself(t *testing.T) {
	t.Parallel()
	h := open(t)
	maker := h.key("maker", []string{"key", "ask"}, []string{"alpha"})
	for name, spec := range map[string]wire.NewKey{
		"scope":  {Name: "x", Scopes: []string{"key", "audit"}},
		"source": {Name: "x", Scopes: []string{"ask"}, Sources: []string{"alpha", "secret"}},
		"policy": {Name: "x", Scopes: []string{"policy"}},
	} {
		if r := h.do(maker, http.MethodPost, "/api/v1/keys", spec); r.status != http.StatusForbidden || strings.Contains(string(r.body), "cl_") {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
	}
	var k, long wire.Key
	h.must(h.admin, http.MethodPost, "/api/v1/keys", wire.NewKey{Name: "short", Scopes: []string{"key"}, Hours: 1}, &k)
	h.must(caller{token: k.Secret}, http.MethodPost, "/api/v1/keys", wire.NewKey{Name: "long", Scopes: []string{"key"}, Hours: 8000}, &long)
	if long.Expires.After(k.Expires) {
		t.Errorf("a key until %v made one until %v", k.Expires, long.Expires)
	}
}

// TestTheSetupCodeWorksOnce tries it again, and others.
func TestTheSetupCodeWorksOnce(t *testing.T) {
	t.Parallel()
	h := unset(t)
	for range 3 {
		if r := h.do(caller{}, http.MethodPost, "/api/v1/setup", wire.Setup{Code: "AAAAA-AAAAA-AAAAA-AAAAA", User: "eve", Password: password}); r.status != http.StatusForbidden {
			t.Errorf("a wrong code: %d %s", r.status, r.body)
		}
	}
	for _, path := range []string{"/", "/sources", "/audit", "/keys"} {
		if r := h.do(caller{}, http.MethodGet, path, nil); r.status != http.StatusSeeOther || r.header.Get("Location") != "/setup" {
			t.Errorf("%s before the setup: %d", path, r.status)
		}
	}
	if r := h.do(caller{}, http.MethodGet, "/setup", nil); strings.Contains(string(r.body), h.code) {
		t.Error("the page of the setup tells the code")
	}
	h.must(caller{}, http.MethodPost, "/api/v1/setup", wire.Setup{Code: h.code, User: "ada", Password: password}, nil)
	if r := h.do(caller{}, http.MethodPost, "/api/v1/setup", wire.Setup{Code: h.code, User: "eve", Password: password}); r.status != http.StatusConflict {
		t.Errorf("the code again: %d %s", r.status, r.body)
	}
	form := caller{header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}}
	if r := h.do(form, http.MethodPost, "/setup", "code="+h.code+"&user=eve&password=another+horse+entirely"); r.status != http.StatusSeeOther || strings.Contains(strings.Join(r.header.Values("Set-Cookie"), " "), session.CookieName+"=") {
		t.Errorf("the code on the page again: %d %s", r.status, r.header)
	}
	if strings.Contains(h.log.String(), h.code) || strings.Contains(h.log.String(), strings.ReplaceAll(h.code, "-", "")) {
		t.Error("the log holds the setup code")
	}
}

// TestAnotherOriginGetsNothingWithTheVictimsCookie is what a page elsewhere can
// have a browser send.
func TestAnotherOriginGetsNothingWithTheVictimsCookie(t *testing.T) {
	t.Parallel()
	h := open(t)
	victim := caller{name: "victim", cookie: h.admin.token}
	elsewhere := func(site, mode, origin string) caller {
		c := victim
		c.header = http.Header{"Sec-Fetch-Site": {site}, "Sec-Fetch-Mode": {mode}}
		if origin != "" {
			c.header.Set("Origin", origin)
		}
		return c
	}
	text := func(c caller) caller { // a "simple" request, without a preflight
		c.header = maps.Clone(c.header)
		if c.header == nil {
			c.header = http.Header{}
		}
		c.header.Set("Content-Type", "text/plain")
		return c
	}
	for name, c := range map[string]caller{
		"another site": elsewhere("cross-site", "no-cors", "https://evil.example"), "another port": elsewhere("same-site", "cors", "https://localhost:9999"),
		"a form": elsewhere("cross-site", "navigate", "null"), "an old browser": {cookie: victim.cookie, header: http.Header{"Origin": {"https://evil.example"}}}, "nothing said": victim,
	} {
		for _, act := range []struct{ method, path, body string }{
			{"POST", "/api/v1/keys", `{"name":"x","scopes":["audit"]}`}, {"POST", "/api/v1/sources", `{"name":"x","kind":"files","path":"/"}`},
			{"POST", "/api/v1/ask", `{"question":"x"}`}, {"POST", "/api/v1/logout", ""}, {"POST", "/v1/chat/completions", "{}"},
			{"POST", "/keys/new", "name=x&scope=audit"}, {"POST", "/sources/add", "name=x&kind=files&path=/"}, {"POST", "/ask", "question=x"}, {"POST", "/sign-out", ""},
		} {
			if r := h.do(text(c), act.method, act.path, act.body); r.status != http.StatusForbidden {
				t.Errorf("%s: %s %s: %d %s", name, act.method, act.path, r.status, r.body)
			}
		}
		if name == "an old browser" || name == "nothing said" || name == "a form" {
			continue
		}
		for _, path := range []string{"/api/v1/audit/checkpoint", "/api/v1/audit/records", "/api/v1/sources", "/audit", "/v1/models"} {
			if r := h.do(c, http.MethodGet, path, nil); r.status != http.StatusForbidden {
				t.Errorf("%s: GET %s: %d", name, path, r.status)
			}
		}
	}
	for _, path := range []string{"/api/v1/status", "/"} {
		r := h.do(elsewhere("cross-site", "navigate", ""), http.MethodGet, path, nil)
		if r.status != http.StatusOK || r.header.Get("Access-Control-Allow-Origin") != "" || r.header.Get("Cross-Origin-Resource-Policy") != "same-origin" || r.header.Get("X-Frame-Options") != "DENY" {
			t.Errorf("a link to %s: %d %v", path, r.status, r.header)
		}
	}
	var keys []wire.Key
	h.must(h.admin, http.MethodGet, "/api/v1/keys", nil, &keys)
	var sources []wire.Source
	h.must(h.admin, http.MethodGet, "/api/v1/sources", nil, &sources)
	if len(keys)+len(sources) != 0 {
		t.Errorf("another origin made %v %v", keys, sources)
	}
}

// TestHeadersAndSecretsDoNotReachTheLog sends what would break a line of the log
// or of a header, and secrets where none belong.
func TestHeadersAndSecretsDoNotReachTheLog(t *testing.T) {
	t.Parallel()
	h := open(t)
	key := h.key("narrow", []string{"ask"}, nil)
	nasty := caller{token: key.token, header: http.Header{"X-Request-Id": {"abcdefgh\tlevel=ERROR"}, "User-Agent": {key.token}}}
	for _, path := range []string{"/api/v1/status", "/api/v1/runs/%0d%0aX-Evil:%20yes", "/api/v1/sources/a%0Alevel=ERROR%20msg=planted", "/sign-in?next=%0d%0aX-Evil:%20yes", "/sources/%1b%5b31m"} {
		r := h.do(nasty, http.MethodGet, path, nil)
		if r.header.Get("X-Evil") != "" || strings.ContainsAny(r.header.Get("X-Request-Id"), "\t =") {
			t.Errorf("%s: %v", path, r.header)
		}
	}
	h.do(caller{}, http.MethodGet, "/api/v1/status?token="+key.token, nil)
	h.do(caller{}, http.MethodGet, "/api/v1/runs/"+key.token, nil)
	h.do(caller{header: http.Header{"X-Api-Key": {key.token}}}, http.MethodGet, "/api/v1/status", nil)
	h.do(h.admin, http.MethodPost, "/api/v1/login", wire.Login{User: key.token, Password: password})
	h.do(key, http.MethodPost, "/api/v1/ask", wire.Question{Question: "Is " + key.token + " a key?"})
	log := h.log.String()
	for _, secret := range []string{key.token, h.admin.token, password, h.code} {
		if strings.Contains(log, secret) {
			t.Errorf("the log holds a secret: %s", around(log, secret))
		}
	}
	for line := range strings.Lines(log) {
		if !strings.HasPrefix(line, "time=") || strings.Contains(line, "\x1b") {
			t.Errorf("a line of the log was planted: %q", line)
		}
	}
	body := h.do(h.admin, http.MethodPost, "/api/v1/audit/export", wire.Export{}).body
	if !strings.Contains(string(body), `"key.manage"`) {
		t.Error("the bundle is not plain: looking for secrets in it proves nothing")
	}
	for _, secret := range []string{key.token, h.admin.token, password, h.code} {
		if strings.Contains(string(body), secret) {
			t.Errorf("the audit log holds a secret: %.200s", around(string(body), secret))
		}
	}
}

func around(text, word string) string {
	i := strings.Index(text, word)
	return text[max(0, i-200):min(len(text), i+len(word)+50)]
}

// TestEveryActHasAnIntentBeforeAndAnOutcomeAfter walks the audit log of all that
// the callers did.
func TestEveryActHasAnIntentBeforeAndAnOutcomeAfter(t *testing.T) {
	t.Parallel()
	w := peopled(t)
	for name, r := range routes() {
		method, path, _ := strings.Cut(name, " ")
		if r.path != "" {
			path = r.path
		}
		if strings.HasPrefix(path, "/api/v1/log") || strings.HasPrefix(path, "/api/v1/setup") {
			continue
		}
		path = strings.NewReplacer("{run}", w.run, "{version}", w.version).Replace(path)
		w.visit(w.admin, method, path, r.body)
		w.visit(w.callers[modeller], method, path, r.body)
	}
	w.synced("secret")
	var all []entry
	open := map[string]entry{}
	// Outcomes of reads are batched; the reading itself is an act without its own.
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		all, open = w.records(), map[string]entry{}
		for _, e := range all {
			switch e.Kind {
			case "intent":
				open[e.ID] = e
			case "outcome":
				if _, ok := open[e.Intent]; !ok {
					t.Fatalf("record %d is the outcome of no open intent before it", e.Seq)
				}
				delete(open, e.Intent)
			}
		}
		late := 0
		for _, e := range open {
			if e.Action != "audit.read" {
				late++
			}
		}
		if late == 0 {
			break
		}
		open = nil
	}
	if open == nil {
		t.Error("an act has no outcome")
	}
	seen := map[string]bool{}
	for _, e := range all {
		seen[e.Action] = true
	}
	for _, action := range []string{"ask", "source.read", "source.manage", "source.fetch", "model.manage", "model.list", "audit.read", "audit.export", "key.manage", "policy.read", "policy.manage", "run.read", "system.status"} {
		if !seen[action] {
			t.Errorf("%s is not on record", action)
		}
	}
}
