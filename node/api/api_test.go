package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/cloister-os/cloister/agents/memory"
	"github.com/cloister-os/cloister/agents/run"
	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/audit"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/auth/guard/guardtest"
	"github.com/cloister-os/cloister/auth/people"
	"github.com/cloister-os/cloister/auth/seal"
	"github.com/cloister-os/cloister/auth/session"
	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/connect"
	"github.com/cloister-os/cloister/models/pack"
	"github.com/cloister-os/cloister/node/api/wire"
	"github.com/cloister-os/cloister/node/cluster/roster"
	"github.com/cloister-os/cloister/node/rescue"
	"github.com/cloister-os/cloister/node/webcert"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/blob"
	"github.com/cloister-os/cloister/store/consensus"
	"github.com/cloister-os/cloister/store/storetest"
)

// house is an API over real services and a store in memory.
type house struct {
	*guardtest.House
	api   *API
	url   string
	token string // of an administrator
}

// noSource is a connector that finds nothing.
type noSource struct{}

func (noSource) Kind() string                                                           { return "files" }
func (noSource) Check(context.Context, *guard.Permit, graph.Source) error               { return nil }
func (noSource) Scan(context.Context, *guard.Permit, graph.Source, *connect.Sink) error { return nil }

// alone is the consensus of a cluster of one.
type alone struct{}

func (alone) Members(context.Context) ([]consensus.Member, error) {
	return []consensus.Member{{ID: "test", Voter: true, Leader: true, Self: true, Healthy: true}}, nil
}
func (alone) Leads() bool                                       { return true }
func (alone) AddNonvoter(context.Context, consensus.Peer) error { return nil }
func (alone) Remove(context.Context, string) error              { return nil }
func (alone) Transfer(context.Context, string) error            { return nil }
func (alone) Readdress(context.Context, consensus.Peer) error   { return nil }

// guarded stands where a whole node has its seal and its backups, which live above
// this room: it asks the guard as they do. test/access asks a whole node.
type guarded struct{ door guard.Door }

func (g guarded) ask(ctx context.Context, p auth.Principal, a auth.Action) error {
	return g.door.Do(ctx, guard.Request{Principal: p, Action: a, Resource: auth.TheSystem}, func(context.Context, *guard.Permit) (guard.Outcome, error) {
		return guard.Outcome{}, nil
	})
}

func (g guarded) Status(ctx context.Context, p auth.Principal) (wire.Seal, error) {
	return wire.Seal{}, g.ask(ctx, p, auth.SealManage)
}

func (g guarded) Rotate(ctx context.Context, p auth.Principal) (seal.DataKey, error) {
	return seal.DataKey{}, g.ask(ctx, p, auth.SealManage)
}

func (g guarded) Split(ctx context.Context, p auth.Principal, _ []string, _ int) ([]seal.Share, error) {
	return nil, g.ask(ctx, p, auth.SealManage)
}

func (g guarded) Confirm(ctx context.Context, p auth.Principal, _ []string) error {
	return g.ask(ctx, p, auth.SealManage)
}

func (g guarded) Unsplit(ctx context.Context, p auth.Principal) error {
	return g.ask(ctx, p, auth.SealManage)
}

type guardedBackups struct{ guarded }

func (g guardedBackups) List(ctx context.Context, p auth.Principal) (rescue.Page, error) {
	return rescue.Page{}, g.ask(ctx, p, auth.BackupManage)
}

func (g guardedBackups) Create(ctx context.Context, p auth.Principal, _ bool) error {
	return g.ask(ctx, p, auth.BackupManage)
}

func (g guardedBackups) Restore(ctx context.Context, p auth.Principal, _, _, _ string) error {
	return g.ask(ctx, p, auth.BackupManage)
}

func (g guardedBackups) File(ctx context.Context, p auth.Principal, _, _ string, _ int64, _ io.Writer) error {
	return g.ask(ctx, p, auth.BackupManage)
}

func open(t *testing.T, changes ...func(*Config)) *house {
	t.Helper()
	st := storetest.NewModel(nil)
	h := &house{House: guardtest.Open(t, st)}
	cfg := Config{Store: st, Door: h.Guard, Guard: h.Guard, Policies: h.Policies(), Ledger: h.Ledger(), Uploads: t.TempDir()}
	blobs, err := blob.Open(t.TempDir())
	must(t, err)
	keys, err := seal.Open(t.TempDir())
	must(t, err)
	log, err := audit.New(audit.Config{Store: st, Signer: keys.LogSigner(), VerifierKey: keys.LogVerifierKey(), Sealer: keys})
	must(t, err)
	cfg.Records = guard.Records{Guard: h.Guard, Log: log}
	cfg.Sessions, err = session.New(session.Config{Store: st, Door: h.Guard, Node: "test", Sealer: keys})
	must(t, err)
	cfg.People, err = people.New(people.Config{Store: st, Door: h.Guard, Sealer: keys})
	must(t, err)
	cfg.Memories, err = memory.New(memory.Config{Store: st, Door: h.Guard, Sealer: keys})
	must(t, err)
	cfg.Sources, err = connect.New(connect.Config{Store: st, Blobs: blobs, Door: h.Guard, Connectors: []connect.Connector{noSource{}}, Node: guardtest.Node(), Every: -1})
	must(t, err)
	t.Cleanup(func() { cfg.Sources.Close() })
	cfg.Packs, err = pack.New(pack.Config{Store: st, Guard: h.Guard, Temp: t.TempDir()})
	must(t, err)
	echo := run.Agent{Name: "echo", Revision: "1", Steps: []run.Step{run.Func("echo", run.Read, func(_ context.Context, c *run.Call) (wire.Answer, error) {
		q, err := run.Input[string](c)
		c.Emit("understood", q)
		return wire.Answer{Outcome: "answer", Answer: q, Citations: []wire.Citation{}, Freshness: []wire.Freshness{}}, err
	})}}
	cfg.Runs, err = run.New(run.Config{Store: st, Door: h.Guard, Blobs: blobs, Node: "test", Agents: []run.Agent{echo}})
	must(t, err)
	t.Cleanup(func() { cfg.Runs.Close() })
	cfg.Nodes, err = roster.New(t.Context(), roster.Config{Store: st, Raft: alone{}, Door: h.Guard, Node: "test"})
	must(t, err)
	ca, err := keys.CA()
	must(t, err)
	internal, err := ca.NodeCert(seal.Identity{}, 0, nil)
	must(t, err)
	cfg.Certificate = webcert.New(webcert.Config{Internal: internal.Get, Sealer: keys})
	must(t, cfg.Certificate.Attach(t.Context(), st, h.Guard))
	cfg.Seal, cfg.Backups = guarded{h.Guard}, guardedBackups{guarded{h.Guard}}
	cfg.Finalise = func(ctx context.Context, p auth.Principal) (from, to int, err error) {
		return 1, 1, guarded{h.Guard}.ask(ctx, p, auth.ClusterManage)
	}
	cfg.Ask = func(ctx context.Context, p auth.Principal, key string, in run.ID, question string) (run.ID, run.ID, error) {
		return cfg.Runs.Begin(ctx, p, key, in, "echo", question)
	}
	cfg.Status = func(context.Context, auth.Principal) (wire.Status, error) { return wire.Status{Node: "test"}, nil }
	cfg.Cited = func(context.Context, auth.Principal, CitationInput) (wire.Passage, error) {
		return wire.Passage{}, store.ErrNotFound
	}
	for _, change := range changes {
		change(&cfg)
	}
	h.api, err = New(cfg)
	must(t, err)
	server := httptest.NewServer(Shell(slog.New(slog.DiscardHandler), func(string, int, time.Duration) {}, cfg.Sessions.Middleware(h.api)))
	t.Cleanup(server.Close)
	h.url = server.URL
	code, err := cfg.Sessions.NewSetupCode(t.Context())
	must(t, err)
	var s wire.Session
	h.do(t, "", http.MethodPost, "/api/v1/setup", wire.Setup{Code: code, User: "ada", Password: "correct horse battery staple"}, http.StatusOK, &s)
	h.token = s.Token
	return h
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (h *house) send(t *testing.T, token, method, path string, in any, accept string) *http.Response {
	t.Helper()
	var body io.Reader
	switch v := in.(type) {
	case nil:
	case []byte:
		body = bytes.NewReader(v)
	default:
		b, err := json.Marshal(in)
		must(t, err)
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, h.url+path, body)
	must(t, err)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if accept != "" {
		req.Header.Set("Accept", accept)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func (h *house) do(t *testing.T, token, method, path string, in any, want int, out any) {
	t.Helper()
	resp := h.send(t, token, method, path, in, "")
	b, err := io.ReadAll(resp.Body)
	must(t, err)
	if resp.StatusCode != want {
		t.Fatalf("%s %s: status %d, want %d: %s", method, path, resp.StatusCode, want, b)
	}
	if out != nil {
		if err := json.Unmarshal(b, out); err != nil {
			t.Fatalf("%s %s: %v in %s", method, path, err, b)
		}
	}
}

// route is an operation with a request that is valid as far as its shape goes.
type route struct {
	id, method, path string
	body             any
	public           bool
}

func routes(t *testing.T, a *API) []route {
	t.Helper()
	directory := wire.NewDirectory{Name: "x", Servers: []string{"ldaps://dc1.example.org"}, CA: "x", BindDN: "x", BindPassword: "x", Base: "x"}
	bodies := map[string]any{
		"add-directory": directory, "test-new-directory": wire.TestDirectory{NewDirectory: directory}, "test-directory": wire.DirectoryTest{}, "grant-directory-role": wire.NewDirectoryRole{Group: "x", Role: "user"},
		"setup": wire.Setup{Code: "x", User: "x", Password: "x"}, "login": wire.Login{User: "x", Password: "x"},
		"ask": wire.Question{Question: "who?"}, "add-memory": wire.NewMemory{Text: "our release day is Thursday"}, "edit-memory": wire.NewMemory{Text: "our release day is Thursday"}, "rename-conversation": wire.Title{Title: "A"}, "add-source": wire.NewSource{Name: "s", Kind: "files", Path: "/tmp"},
		"import-model": wire.ImportModel{Path: "/no/such/file"}, "create-key": wire.NewKey{Name: "k", Scopes: []string{"ask"}},
		"put-policy": wire.NewPolicy{Text: `@id("x") permit (principal, action, resource);`}, "export-records": wire.Export{},
		"put-upload": []byte("bytes"), "put-audience": wire.Audience{Audience: []string{"user"}}, "invite-node": wire.NewInvitation{}, "transfer-lead": wire.Transfer{}, "request-certificate": wire.CertificateNames{Names: []string{"x.example"}}, "import-certificate": wire.CertificateChain{}, "readdress-node": wire.Address{Peer: "10.0.0.9:8444"},
		"create-backup": wire.NewBackup{}, "restore-backup": wire.RestoreBackup{}, "split-seal": wire.Split{Holders: []string{"ada", "eve"}, Need: 2}, "confirm-shares": wire.Confirm{Shares: []string{"x", "y"}},
	}
	var out []route
	for path, item := range a.OpenAPI().Paths {
		for method, op := range map[string]*huma.Operation{"GET": item.Get, "POST": item.Post, "PUT": item.Put, "DELETE": item.Delete, "PATCH": item.Patch} {
			if op == nil {
				continue
			}
			r := route{op.OperationID, method, path, bodies[op.OperationID], op.Metadata[public] == true}
			for name, value := range map[string]string{"{id}": "x", "{seq}": "1", "{name}": "x", "{sha256}": strings.Repeat("0", 64)} {
				r.path = strings.ReplaceAll(r.path, name, value)
			}
			if r.id == "read-citation" {
				r.path += "?source=x&record=x/y/z&version=1&start=0&end=1"
			}
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b route) int { return strings.Compare(a.id, b.id) })
	if len(out) < 30 {
		t.Fatalf("only %d routes: this test would prove nothing", len(out))
	}
	return out
}

func TestEveryRouteWithoutASignInIs401(t *testing.T) {
	h := open(t)
	var open []string
	for _, r := range routes(t, h.api) {
		if r.public {
			open = append(open, r.id)
			continue
		}
		for _, token := range []string{"", "cl_none_none", "nonsense"} {
			resp := h.send(t, token, r.method, r.path, r.body, "")
			b, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != http.StatusUnauthorized || resp.Header.Get("Content-Type") != "application/problem+json" || resp.Header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s (%s %s) with token %q: status %d %s: %s", r.id, r.method, r.path, token, resp.StatusCode, resp.Header.Get("Content-Type"), b)
			}
		}
	}
	if got := strings.Join(open, " "); got != "login setup" {
		t.Errorf("routes for everybody: %s", got)
	}
}

// With one policy that forbids everything, whatever still answers has not asked
// the guard.
func TestEveryRoutePassesTheGuard(t *testing.T) {
	h := open(t)
	h.Put(t, `@id("closed") forbid (principal, action, resource);`)
	// Signing out is everybody's own; a list holds only what one may see.
	free := map[string]int{"logout": http.StatusNoContent, "list-sources": http.StatusOK}
	all := routes(t, h.api)
	// Logout last: it ends the session that the others use.
	slices.SortStableFunc(all, func(a, b route) int { return strings.Compare(isLogout(a), isLogout(b)) })
	for _, r := range all {
		if r.public {
			continue
		}
		resp := h.send(t, h.token, r.method, r.path, r.body, "")
		b, _ := io.ReadAll(resp.Body)
		if want, ok := free[r.id]; ok {
			if resp.StatusCode != want {
				t.Errorf("%s: status %d, want %d: %s", r.id, resp.StatusCode, want, b)
			}
			if r.id == "list-sources" && strings.TrimSpace(string(b)) != "[]" {
				t.Errorf("%s tells %s", r.id, b)
			}
			continue
		}
		var p wire.Problem
		if err := json.Unmarshal(b, &p); err != nil || resp.StatusCode != http.StatusForbidden || p.Policy != "closed" || p.Record == nil {
			t.Errorf("%s (%s %s): status %d: %s", r.id, r.method, r.path, resp.StatusCode, b)
			continue
		}
		if rec := h.Records(t)[*p.Record]; rec.Kind != audit.Refusal || !slices.Contains(rec.Policies, "closed") {
			t.Errorf("%s: record %d is %+v, not the refusal", r.id, *p.Record, rec)
		}
	}
}

func isLogout(r route) string { return fmt.Sprint(r.id == "logout") }

func TestAskAsJSONAndAsEvents(t *testing.T) {
	h := open(t)
	var a wire.Answer
	h.do(t, h.token, http.MethodPost, "/api/v1/ask", wire.Question{Question: "who?"}, http.StatusOK, &a)
	if a.Answer != "who?" || a.Run == "" || a.Outcome != "answer" {
		t.Errorf("answer %+v", a)
	}
	var r wire.Run
	h.do(t, h.token, http.MethodGet, "/api/v1/runs/"+a.Run, nil, http.StatusOK, &r)
	if r.State != "done" || !strings.Contains(string(r.Result), "who?") {
		t.Errorf("run %+v", r)
	}
	resp := h.send(t, h.token, http.MethodPost, "/api/v1/ask", wire.Question{Question: "who?"}, "text/event-stream")
	b, err := io.ReadAll(resp.Body)
	must(t, err)
	for _, want := range []string{"event: stage\n", "event: understood\n", "event: final\n", `"run":"`} {
		if strings.Count(string(b), want) != 1 {
			t.Errorf("%q is %d times in\n%s", want, strings.Count(string(b), want), b)
		}
	}
	resp = h.send(t, h.token, http.MethodGet, "/api/v1/runs/"+a.Run+"/events?from=2", nil, "")
	if b, err = io.ReadAll(resp.Body); err != nil || strings.Contains(string(b), "event: understood") || !strings.Contains(string(b), "event: final") {
		t.Errorf("events after 2: %v\n%s", err, b)
	}
}

func TestAQuietStreamBeats(t *testing.T) {
	h := open(t, func(c *Config) { c.Heartbeat = 10 * time.Millisecond })
	h.do(t, h.token, http.MethodPost, "/api/v1/sources", wire.NewSource{Name: "s", Kind: "files", Path: "/tmp"}, http.StatusCreated, nil)
	resp := h.send(t, h.token, http.MethodGet, "/api/v1/sources/s/progress", nil, "")
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("status %d, %s", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	beats := 0
	for lines := bufio.NewScanner(resp.Body); beats < 3 && lines.Scan(); {
		if lines.Text() == ":" {
			beats++
		}
	}
	if beats < 3 {
		t.Errorf("%d heartbeats before the stream ended", beats)
	}
}

func TestStreamsAreBounded(t *testing.T) {
	h := open(t)
	h.api.streams = make(chan struct{})
	resp := h.send(t, h.token, http.MethodPost, "/api/v1/ask", wire.Question{Question: "who?"}, "text/event-stream")
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("status %d, Retry-After %q", resp.StatusCode, resp.Header.Get("Retry-After"))
	}
}

func TestErrorsAreProblemsAndTellNothing(t *testing.T) {
	h := open(t)
	tests := []struct {
		name, method, path string
		body               any
		want               int
		text               string
	}{
		{"no route", http.MethodGet, "/api/v1/nothing", nil, http.StatusNotFound, "openapi.json"},
		{"no body", http.MethodPost, "/api/v1/ask", nil, http.StatusBadRequest, "body"},
		{"unknown field", http.MethodPost, "/api/v1/ask", map[string]string{"question": "x", "other": "y"}, http.StatusUnprocessableEntity, "other"},
		{"too long", http.MethodPost, "/api/v1/ask", wire.Question{Question: strings.Repeat("x", 5000)}, http.StatusUnprocessableEntity, "question"},
		{"huge", http.MethodPost, "/api/v1/ask", wire.Question{Question: strings.Repeat("x", 100_000)}, http.StatusRequestEntityTooLarge, "large"},
		{"no source", http.MethodGet, "/api/v1/sources/none", nil, http.StatusNotFound, "none"},
		{"short password", http.MethodPost, "/api/v1/setup", wire.Setup{Code: "x", User: "eve", Password: "x"}, http.StatusConflict, "setup"},
		{"bad scope", http.MethodPost, "/api/v1/keys", wire.NewKey{Name: "k", Scopes: []string{"everything"}}, http.StatusUnprocessableEntity, "scope"},
		{"bad policy", http.MethodPut, "/api/v1/policies/p", wire.NewPolicy{Text: `@id("p") permit nonsense`}, http.StatusUnprocessableEntity, "policy"},
		{"other policy", http.MethodPut, "/api/v1/policies/p", wire.NewPolicy{Text: `@id("q") permit (principal, action, resource);`}, http.StatusUnprocessableEntity, "differ"},
		{"no policy", http.MethodDelete, "/api/v1/policies/none", nil, http.StatusNotFound, "policy"},
		{"bad upload", http.MethodPut, "/api/v1/uploads/" + strings.Repeat("z", 64), []byte("x"), http.StatusUnprocessableEntity, "SHA-256"},
		{"wrong offset", http.MethodPut, "/api/v1/uploads/" + strings.Repeat("0", 64) + "?offset=9", []byte("x"), http.StatusConflict, "byte 0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			resp := h.send(t, h.token, tt.method, tt.path, tt.body, "")
			b, err := io.ReadAll(resp.Body)
			must(t, err)
			if resp.StatusCode != tt.want || resp.Header.Get("Content-Type") != "application/problem+json" || !strings.Contains(strings.ToLower(string(b)), strings.ToLower(tt.text)) {
				t.Errorf("status %d (%s), want %d with %q: %s", resp.StatusCode, resp.Header.Get("Content-Type"), tt.want, tt.text, b)
			}
			if resp.Header.Get("X-Content-Type-Options") != "nosniff" || resp.Header.Get("X-Request-Id") == "" {
				t.Errorf("headers %v", resp.Header)
			}
		})
	}
}

func TestAWrongSetupCodeIsSlowedAndNeverLockedForEver(t *testing.T) {
	h := open(t)
	// Setup is done: the door is shut, and says so.
	h.do(t, "", http.MethodPost, "/api/v1/setup", wire.Setup{Code: "x", User: "eve", Password: "correct horse battery staple"}, http.StatusConflict, nil)
	slowed := false
	for range 20 {
		resp := h.send(t, "", http.MethodPost, "/api/v1/login", wire.Login{User: "ada", Password: "wrong"}, "")
		switch resp.StatusCode {
		case http.StatusTooManyRequests:
			slowed = true
			if after := resp.Header.Get("Retry-After"); after == "" || after == "0" {
				t.Errorf("Retry-After %q", after)
			}
		case http.StatusUnauthorized:
		default:
			t.Fatalf("status %d", resp.StatusCode)
		}
	}
	if !slowed {
		t.Error("twenty wrong passwords were not slowed")
	}
}

func TestAnUploadGoesOnWhereItStopped(t *testing.T) {
	h := open(t)
	path := "/api/v1/uploads/" + strings.Repeat("a", 64)
	var u wire.Upload
	for i, part := range []string{"one ", "two ", "three"} {
		h.do(t, h.token, http.MethodPut, fmt.Sprintf("%s?offset=%d", path, u.Offset), []byte(part), http.StatusOK, &u)
		var have wire.Upload
		h.do(t, h.token, http.MethodGet, path, nil, http.StatusOK, &have)
		if have != u {
			t.Errorf("after part %d: %+v, want %+v", i, have, u)
		}
	}
	if u.Offset != 13 {
		t.Errorf("%d bytes, want 13", u.Offset)
	}
}

func TestPoliciesCountFromTheNextCall(t *testing.T) {
	h := open(t)
	h.do(t, h.token, http.MethodGet, "/api/v1/keys", nil, http.StatusOK, nil)
	h.do(t, h.token, http.MethodPut, "/api/v1/policies/no-keys", wire.NewPolicy{Text: `@id("no-keys") forbid (principal, action == Action::"key.manage", resource);`}, http.StatusOK, nil)
	h.do(t, h.token, http.MethodGet, "/api/v1/keys", nil, http.StatusForbidden, nil)
	h.do(t, h.token, http.MethodDelete, "/api/v1/policies/no-keys", nil, http.StatusNoContent, nil)
	h.do(t, h.token, http.MethodGet, "/api/v1/keys", nil, http.StatusOK, nil)
}

func TestOpenAPIIsServed(t *testing.T) {
	h := open(t)
	var doc struct {
		OpenAPI string
		Paths   map[string]any
	}
	h.do(t, "", http.MethodGet, "/api/v1/openapi.json", nil, http.StatusOK, &doc)
	if !strings.HasPrefix(doc.OpenAPI, "3.1") || doc.Paths["/api/v1/ask"] == nil {
		t.Errorf("openapi %s with %d paths", doc.OpenAPI, len(doc.Paths))
	}
}
