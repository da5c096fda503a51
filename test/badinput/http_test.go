package badinput

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func TestARequestThatCannotBe(t *testing.T) {
	t.Parallel()
	n := ready(t)
	h := bearer(n.token())
	post := func(path, body string, headers ...string) answer {
		return n.send("POST", path, strings.NewReader(body), append(append([]string{}, h...), headers...)...)
	}
	for _, c := range []struct {
		what   string
		body   string
		status int
		words  []string
	}{
		{"a body that is too large", `{"question":"` + strings.Repeat("x", 1<<20) + `"}`, 413, nil},
		{"a question that is too long", `{"question":"` + strings.Repeat("x", 5000) + `"}`, 422, []string{"question", "4000"}},
		{"an empty question", `{"question":""}`, 422, []string{"question"}},
		{"a question of spaces", `{"question":"   "}`, 422, []string{"question"}},
		{"no question", `{}`, 422, []string{"question"}},
		{"no body", ``, 400, []string{"body"}},
		{"malformed JSON", `{"question":`, 400, nil},
		{"an unknown field", `{"question":"x","sauce":"y"}`, 422, []string{"sauce"}},
		{"a field's name without end", `{"question":"x","` + strings.Repeat("y", 5000) + `":1}`, 422, []string{"unexpected"}},
		{"a number for a text", `{"question":7}`, 422, []string{"question"}},
		{"an array", `[]`, 422, []string{"object"}},
		{"deep nesting", `{"question":` + strings.Repeat("[", 30000) + `}`, 400, nil},
	} {
		a := post("/api/v1/ask", c.body)
		a.isProblem(t, c.what, c.status, c.words...)
		if len(a.body) > 2000 {
			t.Errorf("%s is answered with %d bytes", c.what, len(a.body))
		}
	}
	post("/api/v1/ask", `question=x`, "Content-Type", "application/x-www-form-urlencoded").isProblem(t, "a form", 415)
	post("/api/v1/ask", `<question/>`, "Content-Type", "text/xml").isProblem(t, "XML", 415)
	a := post("/api/v1/login", `{"user":"`+strings.Repeat("u", 300)+`","password":"my secret password"}`)
	a.isProblem(t, "a name that is too long", 422, "user")
	if strings.Contains(a.body, "my secret") {
		t.Errorf("a password comes back: %s", a.body)
	}
	n.send("GET", "/api/v1/nothing", nil, h...).isProblem(t, "a route that is not there", 404, "openapi")
	n.send("PATCH", "/api/v1/ask", nil, h...)
	n.send("POST", "/api/v1/keys", strings.NewReader(`{"name":"x","scopes":["everything"]}`), h...).isProblem(t, "an unknown scope", 422, "everything", "ask")
	n.send("POST", "/api/v1/keys", strings.NewReader(`{"name":"x","scopes":["ask"],"hours":99999999999999999999}`), h...).isProblem(t, "hours without end", 422)
	n.send("POST", "/api/v1/keys", strings.NewReader(`{"name":"x","scopes":["ask"],"hours":-1}`), h...).isProblem(t, "negative hours", 422, "hours")
	n.send("DELETE", "/api/v1/keys/none", nil, h...).isProblem(t, "a key that is not there", 404)
	n.send("GET", "/api/v1/runs/none", nil, h...).isProblem(t, "a run that is not there", 403)
	n.send("GET", "/api/v1/runs/none/events?from=-1", nil, h...).isProblem(t, "a negative event", 422)
	n.send("GET", "/api/v1/runs/none/events", nil, append(h, "Last-Event-ID", "x")...).isProblem(t, "an event that is no number", 400)
	n.send("GET", "/api/v1/audit/records?limit=99999999999999999999", nil, h...).isProblem(t, "a limit without end", 422)
	n.send("GET", "/api/v1/audit/records?limit=-1", nil, h...).isProblem(t, "a negative limit", 422)
	n.send("PUT", "/api/v1/uploads/../../etc/passwd", strings.NewReader("x"), h...)
	n.send("PUT", "/api/v1/uploads/"+strings.Repeat("Z", 64)+"?offset=0", strings.NewReader("x"), h...).isProblem(t, "an upload that is no hash", 422, "64")
	n.send("PUT", "/api/v1/uploads/"+strings.Repeat("a", 64)+"?offset=9223372036854775807", strings.NewReader("x"), h...).isProblem(t, "an upload from its end on", 409, "byte 0")
	n.send("PUT", "/api/v1/uploads/"+strings.Repeat("a", 64)+"?offset=-1", strings.NewReader("x"), h...).isProblem(t, "an upload from before its begin", 422)
	post("/api/v1/models", `{}`).isProblem(t, "an import of nothing", 422, "upload")
	post("/api/v1/models", `{"path":"/dev/zero"}`).isProblem(t, "an import of a device", 422, "not a file")
	post("/api/v1/models", `{"path":"/etc/passwd"}`).isProblem(t, "an import of what is no model", 422, "cannot be imported")
	post("/api/v1/audit/export", `{"from":18446744073709551615,"to":1}`).isProblem(t, "an export of a range from back to front", 422)
	if a := n.send("GET", "/api/v1/status", nil, "Authorization", "Bearer "+strings.Repeat("x", 20<<10)); a.status != http.StatusUnauthorized {
		t.Errorf("a token of 20 KiB: status %d", a.status)
	}
}

func TestACitationNamesWhatOneMayRead(t *testing.T) {
	t.Parallel()
	n := ready(t)
	n.file("docs/backup.md", "# Backups\n\nBackups are kept for 35 days on the archive host.\n")
	n.ok("source", "add", "files", "docs", "--path", n.file("docs/other.md", "Nothing.\n")[:len(n.home)-len("home")]+"docs")
	n.ok("source", "sync", "docs", "--wait")
	h, narrow := bearer(n.token()), bearer(n.key("narrow", "--scope", "ask", "--source", "elsewhere"))
	read := func(headers []string, record string, source string, version, start, end string) answer {
		q := url.Values{"source": {source}, "record": {record}, "version": {version}, "start": {start}, "end": {end}}
		return n.send("GET", "/api/v1/citations?"+q.Encode(), nil, headers...)
	}
	const record = "docs/document/backup.md"
	version := fmt.Sprint(n.version())
	if a := read(h, record, "docs", version, "11", "58"); a.status != 200 || !strings.Contains(a.body, "35 days") {
		t.Fatalf("a citation that is right: %d %s", a.status, a.body)
	}
	read(h, record, "docs", version, "-1", "5").isProblem(t, "a start before the begin", 422)
	read(h, record, "docs", version, "5", "5").isProblem(t, "an empty range", 422)
	read(h, record, "docs", version, "9", "5").isProblem(t, "a range from back to front", 422)
	read(h, record, "docs", version, "0", "9223372036854775807").isProblem(t, "an end after the end", 422)
	read(h, record, "docs", version, "0", "99999999999999999999999").isProblem(t, "an end that is no number", 422)
	read(h, record, "docs", "18446744073709551615", "0", "5").isProblem(t, "a version of the future", 422)
	read(h, record, "docs", "1", "0", "5").isProblem(t, "a version before the record", 404)
	read(h, record, "other", version, "0", "5").isProblem(t, "a record of another source", 422)
	for _, path := range []string{"docs/document/../../../etc/passwd", "docs/document/%2e%2e/x", "docs/document/\x00", "docs", "", "///", "docs/../tls/ca.pem/x"} {
		if a := read(h, path, "docs", version, "0", "5"); a.status != 404 && a.status != 422 {
			t.Errorf("citation of %q: %d %.300s", path, a.status, a.body)
		}
	}
	// What one may not read looks like what is not there.
	strip := func(a answer) string {
		return strings.NewReplacer("none", "S", "docs", "S").Replace(instance(a.body))
	}
	hidden, absent := read(narrow, record, "docs", version, "0", "5"), read(narrow, "none/document/backup.md", "none", version, "0", "5")
	if hidden.status != absent.status || strip(hidden) != strip(absent) || hidden.status == 200 {
		t.Errorf("a source that may not be read shows: %d %s, one that is not there: %d %s", hidden.status, hidden.body, absent.status, absent.body)
	}
}

// instance is a problem without what differs between any two requests.
func instance(body string) string {
	for _, field := range []string{`"instance":"`, `"record":`} {
		if i := strings.Index(body, field); i >= 0 {
			rest := body[i+len(field):]
			if j := strings.IndexAny(rest, `",}`); j >= 0 {
				body = body[:i] + rest[j:]
			}
		}
	}
	return body
}

func TestAnotherSiteSendsABrowser(t *testing.T) {
	t.Parallel()
	n := ready(t)
	cookie := []string{"Cookie", "__Host-cloister=" + n.token(), "Content-Type", "application/json"}
	ask := func(headers ...string) answer {
		return n.send("POST", "/api/v1/keys", strings.NewReader(`{"name":"stolen","scopes":["ask"]}`), append(append([]string{}, cookie...), headers...)...)
	}
	ask().isProblem(t, "a cookie without an origin", 403, "another site")
	ask("Origin", "https://evil.example").isProblem(t, "another origin", 403)
	ask("Origin", "null").isProblem(t, "no origin", 403)
	ask("Origin", strings.Replace(n.setup.URL, "https", "http", 1)).isProblem(t, "the origin without TLS", 403)
	ask("Origin", n.setup.URL, "Sec-Fetch-Site", "cross-site").isProblem(t, "a browser that says cross-site", 403)
	ask("Origin", n.setup.URL, "Sec-Fetch-Site", "same-site").isProblem(t, "a sibling site", 403)
	if strings.Contains(n.ok("key", "list"), "stolen") {
		t.Fatal("another site made a key")
	}
	if a := ask("Origin", n.setup.URL, "Sec-Fetch-Site", "same-origin"); a.status != 201 {
		t.Errorf("the own site: %d %s", a.status, a.body)
	}
}

func TestOldProtocolsAreRefused(t *testing.T) {
	t.Parallel()
	n := begun(t)
	host := strings.TrimPrefix(n.setup.URL, "https://")
	for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS11} {
		c, err := tls.Dial("tcp", host, &tls.Config{MinVersion: version, MaxVersion: version, InsecureSkipVerify: true})
		if err == nil {
			c.Close()
			t.Errorf("%s is accepted", tls.VersionName(version))
		}
	}
	resp, err := http.Post("http://"+host+"/api/v1/login", "application/json", bytes.NewReader([]byte(`{"user":"ada","password":"x"}`)))
	if err == nil {
		resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("plain HTTP is answered with %d", resp.StatusCode)
		}
	}
}
