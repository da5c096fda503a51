package ui_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/ui/uitest"
)

// as is an installation as the starter policies show it to somebody with a role.
func as(role auth.Role) *uitest.World {
	w := uitest.Full()
	w.Only(role)
	w.Deny(auth.RunRead, "people-read-their-runs") // the runs here are somebody else's
	return w
}

var pagePattern = regexp.MustCompile(`closed\("(GET|POST) (/[^"]*)"`)

// TestAnAuditorSeesTheRecordAndNothingElse goes through every page that is
// routed, as the starter policies show it to an auditor.
func TestAnAuditorSeesTheRecordAndNothingElse(t *testing.T) {
	p := visit(t, as(auth.Auditor), true)
	source, err := os.ReadFile("ui.go")
	if err != nil {
		t.Fatal(err)
	}
	open := []string{"GET /", "GET /audit", "GET /audit/3", "GET /audit/export", "POST /audit/export", "GET /policies", "GET /policies/people-ask", "GET /account", "POST /account"}
	fill := strings.NewReplacer("{$}", "", "{name}", "payments", "{run}", "01K9QZ3T7M0VXRB4E6WJ2H8NDA", "{seq}", "3", "{id}", "3hq8zk5n0v7w2c9d", "{id...}", "people-ask")
	routes := pagePattern.FindAllStringSubmatch(string(source), -1)
	if len(routes) < 40 {
		t.Fatalf("only %d pages were found", len(routes))
	}
	seen := 0
	for _, r := range routes {
		method, path := r[1], fill.Replace(r[2])
		if path == "/cite" {
			path += "?source=handbook&record=file%2Fpolicies%2Fretention.md&version=48090&start=0&end=9"
		}
		w := p.get(path)
		if method == "POST" {
			w = p.post(path, "question", "x", "name", "x", "path", "/x", "role", "user", "scope", "audit", "kind", "git")
		}
		if slices.Contains(open, method+" "+path) {
			seen++
			if w.Code >= 400 {
				t.Errorf("%s %s: %d", method, path, w.Code)
			}
			continue
		}
		if w.Code != 403 {
			t.Errorf("%s %s: %d to %q", method, path, w.Code, w.Header().Get("Location"))
		}
		for _, word := range []string{"payments.git", "handbook", "settlement", "cloister-2"} {
			if strings.Contains(w.Body.String(), word) {
				t.Errorf("%s %s tells %q", method, path, word)
			}
		}
	}
	if seen != len(open) {
		t.Errorf("%d of %d pages that are the auditor's are routed", seen, len(open))
	}
}

// TestHomeShowsWhatThereIsToDo is about people who neither ask nor connect.
func TestHomeShowsWhatThereIsToDo(t *testing.T) {
	for role, want := range map[auth.Role]struct{ offered, hidden []string }{
		auth.Auditor:  {[]string{"Read the audit log", "Take evidence away", "Read the policies", "log-title"}, []string{"Look after the nodes", "Add source", "Your question", "handbook"}},
		auth.Operator: {[]string{"Look after the nodes", "Bring models in"}, []string{"Read the audit log", "log-title", "Add source", "Your question", "handbook"}},
		"":            {[]string{"Nothing is open to you yet"}, []string{"Read the audit log", "Add source", "handbook"}},
	} {
		body := visit(t, as(role), true).get("/").Body.String()
		for _, s := range want.offered {
			if !strings.Contains(body, s) {
				t.Errorf("%s: home lacks %q", role, s)
			}
		}
		for _, s := range want.hidden {
			if strings.Contains(body, s) {
				t.Errorf("%s: home holds %q", role, s)
			}
		}
		for _, at := range []string{"/ask", "/sources", "/access", "/keys"} {
			if !strings.Contains(body, `<li hidden><a href="`+at+`"`) {
				t.Errorf("%s: the navigation offers %s", role, at)
			}
		}
	}
}
