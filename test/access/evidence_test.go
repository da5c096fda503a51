package access

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cloister-os/cloister/node/api/wire"
)

// elsewhere is a machine without the product: a root with the verifier, the files
// that were taken there and nothing else, without network, processes or mounts of
// this one.
type elsewhere struct {
	t   *testing.T
	dir string
}

// carry builds the verifier as it is shipped and makes the machine.
func carry(t *testing.T) elsewhere {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("changing the root needs root: run this test as root")
	}
	m := elsewhere{t, t.TempDir()}
	cmd := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(m.dir, "cloister-verify"), "../../cmd/cloister-verify")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return m
}

func (m elsewhere) take(name string, content []byte) {
	m.t.Helper()
	if err := os.WriteFile(filepath.Join(m.dir, name), content, 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// verify runs the verifier there.
func (m elsewhere) verify(args ...string) (string, error) {
	m.t.Helper()
	cmd := exec.Command("/cloister-verify", args...)
	cmd.Dir, cmd.Env = "/", []string{}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Chroot:     m.dir,
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestAnAuditorTakesEvidenceAway has an auditor of the directory look, export a
// range and all, and verify both on another machine, with the fingerprint that was
// noted at setup.
func TestAnAuditorTakesEvidenceAway(t *testing.T) {
	t.Parallel()
	m := carry(t)
	w := settle(t)
	noted := w.logKey
	w.add("alpha", "files", alpha(t))
	w.ask(w.bob, "How long are backups kept?")
	before := w.do(w.aud, http.MethodGet, "/api/v1/audit/checkpoint", nil)
	var point wire.Checkpoint
	decode(t, before.body, &point)
	if point.LogKey != noted {
		t.Errorf("the log key is %s, noted was %s", point.LogKey, noted)
	}
	w.ask(w.bob, "What does a deployment need?")
	export := func(in wire.Export) []byte {
		t.Helper()
		r := w.do(w.aud, http.MethodPost, "/api/v1/audit/export", in)
		if r.status != http.StatusOK {
			t.Fatalf("%d %s", r.status, r.body)
		}
		return r.body
	}
	all, part := export(wire.Export{}), export(wire.Export{From: 5, To: 20})
	recent := export(wire.Export{Since: time.Now().Add(-time.Hour).UTC().Truncate(time.Second)})
	m.take("all.bundle", all)
	m.take("part.bundle", part)
	m.take("recent.bundle", recent)
	m.take("earlier.txt", []byte(point.Note))
	for _, args := range [][]string{{"all.bundle"}, {"part.bundle"}, {"recent.bundle"}, {"--after", "earlier.txt", "all.bundle"}} {
		if out, err := m.verify(append([]string{"--log-key", noted}, args...)...); err != nil {
			t.Errorf("%v: %v: %s", args, err, out)
		}
	}
	if out, err := m.verify("--log-key", noted, "part.bundle"); err != nil || !strings.Contains(out, "5 to 19 (15)") {
		t.Errorf("the range of 15 records: %v: %s", err, out)
	}
	spoilt := slices.Clone(all)
	i := strings.Index(string(spoilt), `"action":"ask"`)
	if i < 0 {
		t.Fatal("the bundle holds no question")
	}
	spoilt[i+len(`"action":"`)] = 'A'
	m.take("spoilt.bundle", spoilt)
	if out, err := m.verify("--log-key", noted, "spoilt.bundle"); err == nil || !strings.Contains(out, "NOT VERIFIED") {
		t.Errorf("a changed byte: %v: %s", err, out)
	}
	if out, err := m.verify("--log-key", "SHA256:"+strings.Repeat("A", 43), "all.bundle"); err == nil || !strings.Contains(out, "NOT VERIFIED") {
		t.Errorf("another key: %v: %s", err, out)
	}
	w.auditorIsOnRecord()
}

// auditorIsOnRecord looks for what the auditor did: the ranges, and no content.
func (w *town) auditorIsOnRecord() {
	w.t.Helper()
	var page wire.Records
	w.must(w.aud, http.MethodGet, "/api/v1/audit/records?action=audit.export&kind=intent&oldest=true", nil, &page)
	var got []string
	for _, r := range page.Records {
		var rec struct {
			Actor  struct{ ID string }
			Detail map[string]any
		}
		decode(w.t, r.Record, &rec)
		if !strings.HasPrefix(rec.Actor.ID, "corp/") {
			w.t.Errorf("record %d is of %q", r.Seq, rec.Actor.ID)
		}
		delete(rec.Detail, "since")
		got = append(got, fmt.Sprint(rec.Detail))
	}
	if want := []string{"map[]", "map[from:5 to:20]", "map[]"}; !slices.Equal(got, want) {
		w.t.Errorf("exports on record: %q, want %q", got, want)
	}
}

// TestAnAuditorSeesTheRecordAndNothingElse goes through every page and every
// route of the API as an auditor of the directory. What is not named here must be
// refused, or be a list of nothing.
func TestAnAuditorSeesTheRecordAndNothingElse(t *testing.T) {
	t.Parallel()
	w := settle(t)
	folder, _ := secret(t)
	w.add("alpha", "files", alpha(t))
	w.close("secret", "files", folder) // its audience names a group that the auditor is in, too
	mine, _ := w.ask(w.ann, "When does the Xanadu merger close?")
	open := []string{
		"/", "/account", "/audit", "/audit/3", "/audit/export", "/policies", "/policies/people-ask",
		"/api/v1/audit/records", "/api/v1/audit/records/3", "/api/v1/audit/checkpoint", "/api/v1/policies", "/api/v1/policies/people-ask",
		"/api/v1/status", "/api/v1/cost", "/metrics", "/readyz", "/healthz", "/api/v1/openapi.json", "/audit?resource=Source:secret",
	}
	nothing := []string{"/api/v1/sources", "/api/v1/runs", "/api/v1/conversations"} // a list of what one may see
	fill := strings.NewReplacer("{name}", "secret", "{id}", "people-ask")
	for _, p := range w.places(mine.Run) {
		path := fill.Replace(p)
		got := w.first(w.aud, path)
		if !strings.HasSuffix(path, "/progress") && !strings.HasSuffix(path, "/events") {
			got = w.do(w.aud, http.MethodGet, path, nil)
		}
		text := strings.ToLower(string(got.body))
		for _, word := range secretWords {
			if strings.Contains(text, word) {
				t.Errorf("%s holds %q", path, word)
			}
		}
		switch {
		case slices.Contains(nothing, path):
			if got.status != http.StatusOK || !slices.Contains([]string{"[]", `{"conversations":[]}`}, strings.TrimSpace(text)) {
				t.Errorf("%s: %d %s", path, got.status, got.body)
			}
		case slices.Contains(open, path) != (got.status < 400):
			t.Errorf("%s: %d to %q", path, got.status, got.header.Get("Location"))
		}
	}
	if a, r := w.try(w.aud, "When does the Xanadu merger close?"); r.status != http.StatusForbidden {
		t.Errorf("an auditor is answered: %d %+v", r.status, a)
	}
	for _, act := range []struct {
		method, path string
		body         any
	}{
		{"POST", "/api/v1/keys", wire.NewKey{Name: "k", Scopes: []string{"audit"}}}, {"PUT", "/api/v1/policies/x", wire.NewPolicy{Text: `@id("x") permit (principal, action, resource);`}},
		{"POST", "/api/v1/directories/corp/roles", wire.NewDirectoryRole{Group: w.group("staff"), Role: "auditor"}},
		{"DELETE", "/api/v1/policies/people-ask", nil}, {"POST", "/api/v1/sources", wire.NewSource{Name: "x", Kind: "files", Path: folder}},
	} {
		if r := w.do(w.aud, act.method, act.path, act.body); r.status != http.StatusForbidden {
			t.Errorf("%s %s: %d %s", act.method, act.path, r.status, r.body)
		}
	}
}

// try asks, and may be refused.
func (h *house) try(c caller, question string) (a wire.Answer, r reply) {
	r = h.do(c, http.MethodPost, "/api/v1/ask", wire.Question{Question: question})
	if r.status == http.StatusOK {
		decode(h.t, r.body, &a)
	}
	return a, r
}

// TestNobodyGivesThemselvesTheAuditorsRole has an administrator of the directory,
// and keys of every scope, try.
func TestNobodyGivesThemselvesTheAuditorsRole(t *testing.T) {
	t.Parallel()
	w := settle(t)
	w.grant("insiders", "administrator") // Ann is in it
	ann := w.signIn("ann")
	for _, role := range []string{"auditor", "approver"} {
		r := w.do(ann, http.MethodPost, "/api/v1/directories/corp/roles", wire.NewDirectoryRole{Group: w.group("insiders"), Role: role})
		if r.status < 400 {
			t.Errorf("an administrator made themselves %s: %d %s", role, r.status, r.body)
		}
	}
	for _, scope := range []string{"ask", "source", "model", "key", "policy"} {
		key := w.key(scope, []string{scope}, nil)
		for _, path := range []string{"/api/v1/audit/records", "/api/v1/audit/checkpoint"} {
			if r := w.do(key, http.MethodGet, path, nil); r.status != http.StatusForbidden {
				t.Errorf("a key of scope %s reads %s: %d", scope, path, r.status)
			}
		}
		if r := w.do(key, http.MethodPost, "/api/v1/keys", wire.NewKey{Name: "wider", Scopes: []string{"audit"}}); r.status != http.StatusForbidden {
			t.Errorf("a key of scope %s made one of scope audit: %d", scope, r.status)
		}
	}
	// Whoever sets policy can permit themselves the record: that is loud.
	lawyer := w.key("lawyer", []string{"policy"}, nil)
	permit := wire.NewPolicy{Text: `@id("mine") permit (principal == Key::"` + lawyer.id + `", action == Action::"audit.read", resource);`}
	w.must(lawyer, http.MethodPut, "/api/v1/policies/mine", permit, nil)
	if r := w.do(lawyer, http.MethodGet, "/api/v1/audit/records", nil); r.status != http.StatusForbidden {
		t.Errorf("a permit gave a key what a forbid keeps from it: %d", r.status)
	}
	w.must(lawyer, http.MethodDelete, "/api/v1/policies/key-without-scope-audit", nil, nil)
	var page wire.Records
	w.must(w.aud, http.MethodGet, "/api/v1/audit/records?action=policy.manage&kind=intent&limit=2", nil, &page)
	if len(page.Records) != 2 {
		t.Fatalf("%+v", page)
	}
	for i, line := range []string{`forbid (principal is Key, action in [Action::\"audit.read\", Action::\"audit.export\"], resource)`, `@id(\"mine\") permit (principal == Key::\"` + lawyer.id + `\"`} {
		if text := string(page.Records[i].Record); !strings.Contains(text, line) || !strings.Contains(text, lawyer.id) {
			t.Errorf("the change is not on record in full: %s", text)
		}
	}
}
