package access

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-os/cloister/node/api/wire"
)

// The callers. Each has a credential that is too narrow for most.
const (
	nobody    = "nobody"
	revoked   = "revoked"
	signedOut = "signed out"
	admin     = "admin"
	asker     = "ask on alpha"
	other     = "ask on secret"
	idle      = "ask on nothing"
	sourcer   = "source on alpha"
	modeller  = "model"
	auditor   = "audit"
	keeper    = "key"
	lawyer    = "policy"
)

var keyCallers = []string{asker, other, idle, sourcer, modeller, auditor, keeper, lawyer}

// What a caller may expect.
const (
	denied  = "denied"  // 403 with a policy, and a refusal of that policy on record
	unknown = "unknown" // 401
	skipped = "skipped" // not sent: the rest needs the session
)

// route says what to send and what each caller gets: the status, or one of the
// words above. Whoever is not named is denied; nobody, revoked and signedOut are
// unknown.
type route struct {
	path string // with {run}, {key} … filled in; "" = the description's own
	body any
	want map[string]any
}

const someHash = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

const aGroup = "0e6bd2a5-6d0c-4a3a-9c52-2f7b1d9a5b11"

// aDirectory cannot work: its certificate is none.
func aDirectory() wire.NewDirectory {
	return wire.NewDirectory{Name: "corp", Servers: []string{"ldaps://127.0.0.1:1"}, CA: "no certificate", BindDN: "cn=s", BindPassword: "x", Base: "dc=example,dc=org"}
}

func allOf(status any, names ...string) map[string]any {
	out := map[string]any{}
	for _, n := range names {
		out[n] = status
	}
	return out
}

func with(m map[string]any, status any, names ...string) map[string]any {
	for _, n := range names {
		m[n] = status
	}
	return m
}

// routes is what each route of the OpenAPI document gives to whom. A route that
// is not here fails the test: decide who may, and write it down.
func routes() map[string]route {
	public := func(status any) map[string]any {
		return allOf(status, append([]string{nobody, revoked, signedOut, admin}, keyCallers...)...)
	}
	citation := "/api/v1/citations?source=secret&record=secret%2Fdocument%2Fxanadu.md&version={version}&start=0&end=4"
	return map[string]route{
		"POST /api/v1/setup": {body: wire.Setup{Code: "AAAAA-AAAAA-AAAAA-AAAAA", User: "eve", Password: password}, want: public(409)},
		"POST /api/v1/login": {body: wire.Login{User: "eve", Password: "wrong wrong wrong"}, want: public("401 or 429")},
		// A key has no session to end: nothing happens.
		"POST /api/v1/logout":                     {want: with(allOf(204, keyCallers...), skipped, admin)},
		"GET /api/v1/status":                      {want: allOf(200, append(keyCallers, admin)...)},
		"GET /api/v1/sources":                     {want: allOf(200, append(keyCallers, admin)...)},
		"POST /api/v1/sources":                    {body: wire.NewSource{Name: "secret", Kind: "files", Path: "/nowhere"}, want: allOf(422, admin)},
		"GET /api/v1/sources/{name}":              {path: "/api/v1/sources/secret", want: allOf(200, admin, other)},
		"DELETE /api/v1/sources/{name}":           {path: "/api/v1/sources/gone", want: allOf(404, admin)},
		"POST /api/v1/sources/{name}/sync":        {path: "/api/v1/sources/secret/sync", want: allOf(200, admin)},
		"GET /api/v1/sources/{name}/progress":     {path: "/api/v1/sources/secret/progress", want: allOf(200, admin, other)},
		"GET /api/v1/access":                      {want: allOf(200, admin, lawyer)},
		"GET /api/v1/sources/{name}/audience":     {path: "/api/v1/sources/secret/audience", want: allOf(200, admin, lawyer)},
		"PUT /api/v1/sources/{name}/audience":     {path: "/api/v1/sources/secret/audience", body: wire.Audience{Audience: []string{"user"}}, want: allOf(200, admin)},
		"GET /api/v1/citations":                   {path: citation, want: allOf(200, admin, other)},
		"POST /api/v1/ask":                        {body: wire.Question{Question: "How long are backups kept?"}, want: allOf(200, admin, asker, other, idle)},
		"GET /api/v1/runs":                        {want: allOf(200, admin, asker, other, idle)},
		"GET /api/v1/runs/{id}":                   {path: "/api/v1/runs/{run}", want: allOf(200, admin)},
		"DELETE /api/v1/runs/{id}":                {path: "/api/v1/runs/{run}", want: with(allOf("denied without policy", asker, other, idle), 409, admin)},
		"GET /api/v1/runs/{id}/events":            {path: "/api/v1/runs/{run}/events", want: allOf(200, admin)},
		"GET /api/v1/conversations":               {want: allOf(200, admin, asker, other, idle)},
		"GET /api/v1/conversations/{id}":          {path: "/api/v1/conversations/{run}", want: allOf(200, admin)},
		"PATCH /api/v1/conversations/{id}":        {path: "/api/v1/conversations/{run}", body: wire.Title{Title: "A"}, want: with(allOf("denied without policy", asker, other, idle), 204, admin)},
		"DELETE /api/v1/conversations/{id}":       {path: "/api/v1/conversations/{run}", want: with(allOf("denied without policy", asker, other, idle), skipped, admin)},
		"GET /api/v1/memories":                    {want: allOf(200, admin)},
		"POST /api/v1/memories":                   {body: wire.NewMemory{Text: "our release day is Thursday"}, want: allOf(201, admin)},
		"DELETE /api/v1/memories":                 {want: allOf(200, admin)},
		"GET /api/v1/memories/{id}":               {path: "/api/v1/memories/none", want: allOf(404, admin)},
		"PUT /api/v1/memories/{id}":               {path: "/api/v1/memories/none", body: wire.NewMemory{Text: "our release day is Thursday"}, want: allOf(404, admin)},
		"DELETE /api/v1/memories/{id}":            {path: "/api/v1/memories/none", want: allOf(404, admin)},
		"POST /api/v1/memories/{id}/undo":         {path: "/api/v1/memories/none/undo", want: allOf(404, admin)},
		"GET /api/v1/models":                      {want: allOf(200, admin, modeller)},
		"POST /api/v1/models":                     {body: wire.ImportModel{Path: "/nowhere.pack"}, want: allOf(422, admin)},
		"DELETE /api/v1/models/{name}":            {path: "/api/v1/models/none", want: allOf(404, admin)},
		"GET /api/v1/models/{name}/licence":       {path: "/api/v1/models/none/licence", want: allOf(404, admin, modeller)},
		"POST /api/v1/models/{name}/accept":       {path: "/api/v1/models/none/accept", want: allOf(404, admin)},
		"GET /api/v1/uploads/{sha256}":            {path: "/api/v1/uploads/" + someHash, want: allOf(200, admin)},
		"PUT /api/v1/uploads/{sha256}":            {path: "/api/v1/uploads/" + someHash + "?offset=0", body: "part", want: allOf("200 or 409", admin)},
		"GET /api/v1/audit/records":               {want: allOf(200, admin, auditor)},
		"GET /api/v1/audit/records/{seq}":         {path: "/api/v1/audit/records/3", want: allOf(200, admin, auditor)},
		"GET /api/v1/audit/checkpoint":            {want: allOf(200, admin, auditor)},
		"POST /api/v1/audit/export":               {body: wire.Export{}, want: allOf(200, admin, auditor)},
		"GET /api/v1/keys":                        {want: allOf(200, admin, keeper)},
		"POST /api/v1/keys":                       {body: wire.NewKey{Name: "wider", Scopes: []string{"audit"}, Sources: []string{"secret"}}, want: allOf(201, admin)},
		"DELETE /api/v1/keys/{id}":                {path: "/api/v1/keys/nosuchkey", want: allOf(404, admin, keeper)},
		"GET /api/v1/policies":                    {want: allOf(200, admin, lawyer)},
		"GET /api/v1/policies/{id}":               {path: "/api/v1/policies/people-ask", want: allOf(200, admin, lawyer)},
		"PUT /api/v1/policies/{id}":               {path: "/api/v1/policies/x", body: wire.NewPolicy{Text: "no policy"}, want: allOf(422, admin, lawyer)},
		"DELETE /api/v1/policies/{id}":            {path: "/api/v1/policies/none", want: allOf(404, admin, lawyer)},
		"GET /api/v1/cost":                        {want: allOf(200, admin, auditor)},
		"GET /api/v1/nodes":                       {want: allOf(200, admin)},
		"POST /api/v1/nodes/invitations":          {body: wire.NewInvitation{}, want: allOf(422, admin)}, // its peer port is closed
		"POST /api/v1/nodes/transfer":             {body: wire.Transfer{}, want: allOf(422, admin)},      // nobody else votes
		"DELETE /api/v1/nodes/{name}":             {path: "/api/v1/nodes/none", want: allOf(404, admin)},
		"PUT /api/v1/nodes/{name}/address":        {path: "/api/v1/nodes/none/address", body: wire.Address{Peer: "10.0.0.9:8444"}, want: allOf(404, admin)},
		"POST /api/v1/nodes/finalise":             {want: allOf(200, admin)},
		"GET /api/v1/backups":                     {want: allOf(200, admin)},
		"POST /api/v1/backups":                    {body: wire.NewBackup{}, want: allOf(202, admin)},
		"POST /api/v1/backups/{name}/restore":     {path: "/api/v1/backups/none/restore", body: wire.RestoreBackup{Confirm: "none"}, want: allOf(404, admin)},
		"GET /api/v1/backups/{name}/files/{file}": {path: "/api/v1/backups/none/files/manifest", want: allOf(404, admin)},

		"GET /api/v1/seal":                 {want: allOf(200, admin)},
		"POST /api/v1/seal/rotate":         {want: allOf(202, admin)},
		"POST /api/v1/seal/shares":         {body: wire.Split{Holders: []string{"Ann", "Ben"}, Need: 2}, want: allOf(200, admin)},
		"POST /api/v1/seal/shares/confirm": {body: wire.Confirm{Shares: []string{"no", "share"}}, want: allOf(422, admin)},
		"POST /api/v1/seal/file":           {want: allOf(204, admin)},
		"GET /api/v1/certificate":          {want: allOf(200, admin)},
		"POST /api/v1/certificate/request": {body: wire.CertificateNames{Names: []string{"cloister.example"}}, want: allOf(201, admin)},
		"PUT /api/v1/certificate":          {body: wire.CertificateChain{Chain: "no chain"}, want: allOf(422, admin)},
		"DELETE /api/v1/certificate":       {want: allOf(204, admin)},

		"GET /api/v1/directories":                                {want: allOf(200, admin)},
		"POST /api/v1/directories":                               {body: aDirectory(), want: allOf(422, admin)},
		"POST /api/v1/directories/test":                          {body: wire.TestDirectory{NewDirectory: aDirectory()}, want: allOf(422, admin)},
		"POST /api/v1/directories/{name}/test":                   {path: "/api/v1/directories/none/test", body: wire.DirectoryTest{}, want: allOf(404, admin)},
		"DELETE /api/v1/directories/{name}":                      {path: "/api/v1/directories/none", want: allOf(404, admin)},
		"GET /api/v1/directories/{name}/groups":                  {path: "/api/v1/directories/none/groups", want: allOf(404, admin)},
		"POST /api/v1/directories/{name}/roles":                  {path: "/api/v1/directories/none/roles", body: wire.NewDirectoryRole{Group: aGroup, Role: "auditor"}, want: allOf(404, admin)},
		"DELETE /api/v1/directories/{name}/roles/{group}/{role}": {path: "/api/v1/directories/none/roles/" + aGroup + "/auditor", want: allOf(404, admin)},

		// What the document does not describe.
		"POST /v1/chat/completions": {body: `{"model":"default","messages":[{"role":"user","content":"x"}]}`, want: allOf(404, admin, modeller)},
		"POST /v1/embeddings":       {body: `{"model":"default","input":"x"}`, want: allOf(404, admin, modeller)},
		"GET /v1/models":            {want: allOf(200, admin, modeller)},
		"GET /v1/models/default":    {want: allOf(404, admin, modeller)},
		"GET /metrics":              {want: allOf(200, append(keyCallers, admin)...)},
		"GET /healthz":              {want: public(200)},
		"GET /readyz":               {want: public(200)},
		"GET /api/v1/openapi.json":  {want: public(200)},
		"GET /api/v1/nothing":       {want: public(404)},
		"GET /v1/nothing":           {want: public(404)},
		"GET /debug/pprof/":         {want: with(allOf(404, append(keyCallers, admin)...), 303, nobody, revoked, signedOut)},
	}
}

// world is a node with two sources, a run of the administrator's and all callers.
type world struct {
	*house
	callers map[string]caller
	run     string
	version string
}

func peopled(t *testing.T) *world {
	t.Helper()
	h := open(t)
	folder, _ := secret(t)
	h.add("alpha", "files", alpha(t))
	h.add("secret", "files", folder)
	w := &world{house: h, callers: map[string]caller{nobody: {name: nobody}, admin: h.admin}}
	for name, k := range map[string][2][]string{
		asker: {{"ask"}, {"alpha"}}, other: {{"ask"}, {"secret"}}, idle: {{"ask"}, nil}, sourcer: {{"source"}, {"alpha"}}, modeller: {{"model"}, nil},
		auditor: {{"audit"}, nil}, keeper: {{"key"}, nil}, lawyer: {{"policy"}, nil}, revoked: {{"ask", "audit", "model", "key", "policy", "source"}, {"alpha", "secret"}},
	} {
		w.callers[name] = h.key(name, k[0], k[1])
	}
	h.must(h.admin, http.MethodDelete, "/api/v1/keys/"+w.callers[revoked].id, nil, nil)
	var s wire.Session
	h.must(caller{}, http.MethodPost, "/api/v1/login", wire.Login{User: "ada", Password: password}, &s)
	w.callers[signedOut] = caller{name: signedOut, token: s.Token}
	h.must(w.callers[signedOut], http.MethodPost, "/api/v1/logout", nil, nil)
	a, _ := h.ask(h.admin, "When does the Xanadu merger close?")
	if len(a.Citations) == 0 {
		t.Fatalf("the administrator is not answered: %+v", a)
	}
	w.run, w.version = a.Run, jsonNumber(t, a.Citations[0].Version)
	return w
}

func jsonNumber(t *testing.T, n uint64) string {
	b, err := json.Marshal(n)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// described lists the operations of the OpenAPI document.
func (w *world) described() []string {
	w.t.Helper()
	var doc struct {
		Paths map[string]map[string]json.RawMessage
	}
	decode(w.t, w.do(caller{}, http.MethodGet, "/api/v1/openapi.json", nil).body, &doc)
	var out []string
	for path, methods := range doc.Paths {
		for method := range methods {
			out = append(out, strings.ToUpper(method)+" "+path)
		}
	}
	if len(out) < 30 {
		w.t.Fatalf("the document describes only %v", out)
	}
	slices.Sort(out)
	return out
}

// TestEveryRouteAnswersEveryCallerAsExpected goes through each route as each
// caller.
func TestEveryRouteAnswersEveryCallerAsExpected(t *testing.T) {
	t.Parallel()
	w := peopled(t)
	expected := routes()
	for _, name := range w.described() {
		if _, ok := expected[name]; !ok {
			t.Errorf("%s has no expectation: say in routes() who may use it", name)
		}
	}
	callers := append([]string{nobody, revoked, signedOut, admin}, keyCallers...)
	refusals := map[string]int{}
	for name, r := range expected {
		method, path, _ := strings.Cut(name, " ")
		if r.path != "" {
			path = r.path
		}
		path = strings.NewReplacer("{run}", w.run, "{version}", w.version).Replace(path)
		for _, c := range callers {
			want, ok := r.want[c]
			switch {
			case ok:
			case c == nobody || c == revoked || c == signedOut:
				want = unknown
			default:
				want = denied
			}
			if want == skipped {
				continue
			}
			got := w.visit(w.callers[c], method, path, r.body)
			w.judge(name, c, want, got, refusals)
		}
	}
	w.recorded(refusals)
}

// visit makes a request; of an event stream it reads the first event only.
func (w *world) visit(c caller, method, path string, body any) reply {
	w.t.Helper()
	if !strings.HasSuffix(path, "/progress") {
		return w.do(c, method, path, body)
	}
	resp, err := w.send(w.t.Context(), c, method, path, body)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	got := reply{status: resp.StatusCode, header: resp.Header}
	if got.status >= 400 {
		got.body, err = io.ReadAll(resp.Body)
		if err != nil {
			w.t.Fatal(err)
		}
		return got
	}
	for ev := range events(resp.Body) {
		got.body = ev.data
		return got
	}
	return got
}

// judge compares an answer with what was expected, and counts refusals by their
// sequence in the audit log.
func (w *world) judge(name, who string, want any, got reply, refusals map[string]int) {
	w.t.Helper()
	text := strings.ToLower(string(got.body))
	if who != admin && who != other && who != auditor && who != lawyer {
		for _, word := range append(secretWords, "/secret") {
			if strings.Contains(text, word) {
				w.t.Errorf("%s as %s tells %q: %d %s", name, who, word, got.status, got.body)
			}
		}
	}
	switch want {
	case unknown:
		page := !strings.HasPrefix(strings.Fields(name)[1], "/api/") && !strings.HasPrefix(strings.Fields(name)[1], "/v1/") && got.status == http.StatusSeeOther
		if got.status != http.StatusUnauthorized && !page {
			w.t.Errorf("%s as %s: %d, want 401: %s", name, who, got.status, got.body)
		}
	case denied:
		policy, seq := refusal(w.t, got.body)
		if got.status != http.StatusForbidden || policy == "" || seq == "" {
			w.t.Errorf("%s as %s: %d, want 403 with a policy and its record: %s", name, who, got.status, got.body)
			return
		}
		refusals[seq+" "+policy]++
	case "denied without policy":
		if got.status != http.StatusForbidden {
			w.t.Errorf("%s as %s: %d, want 403: %s", name, who, got.status, got.body)
		}
	case "401 or 429":
		if got.status != http.StatusUnauthorized && got.status != http.StatusTooManyRequests {
			w.t.Errorf("%s as %s: %d: %s", name, who, got.status, got.body)
		}
	case "200 or 409":
		if got.status != http.StatusOK && got.status != http.StatusConflict {
			w.t.Errorf("%s as %s: %d: %s", name, who, got.status, got.body)
		}
	default:
		if got.status != want {
			w.t.Errorf("%s as %s: %d, want %v: %.300s", name, who, got.status, want, got.body)
		}
	}
}

// refusal is the policy and the record that a refusal names, in both dialects.
func refusal(t *testing.T, body []byte) (policy, record string) {
	t.Helper()
	var p struct {
		Policy string
		Record *uint64
		Error  struct {
			Policies []string
			Record   *uint64
		}
	}
	if json.Unmarshal(body, &p) != nil {
		return "", ""
	}
	if len(p.Error.Policies) > 0 {
		p.Policy, p.Record = p.Error.Policies[0], p.Error.Record
	}
	if p.Record == nil {
		return p.Policy, ""
	}
	return p.Policy, jsonNumber(t, *p.Record)
}

// recorded checks that each refusal names its own record, which is of a refusal
// by that policy.
func (w *world) recorded(refusals map[string]int) {
	w.t.Helper()
	if len(refusals) < 100 {
		w.t.Errorf("only %d refusals were seen", len(refusals))
	}
	by := map[string]entry{}
	for _, e := range w.records() {
		by[jsonNumber(w.t, e.Seq)] = e
	}
	for r, n := range refusals {
		seq, policy, _ := strings.Cut(r, " ")
		e := by[seq]
		if n != 1 || e.Kind != "refusal" || !slices.Contains(e.Policies, policy) {
			w.t.Errorf("record %s, which %d refusals by %s name, is %+v", seq, n, policy, e)
		}
	}
}

var pagePattern = regexp.MustCompile(`(open|closed)\("(?:(GET|POST) )?(/[^"]*)"`)

// TestEveryPageIsClosed goes through each page that ui/ui.go lists, with no
// credential, with one that is over and with a narrow key.
func TestEveryPageIsClosed(t *testing.T) {
	t.Parallel()
	w := peopled(t)
	source, err := os.ReadFile("../../ui/ui.go")
	if err != nil {
		t.Fatal(err)
	}
	pages := pagePattern.FindAllStringSubmatch(string(source), -1)
	if len(pages) < 30 {
		t.Fatalf("only %d pages were found in ui/ui.go", len(pages))
	}
	fill := strings.NewReplacer("{$}", "", "{name}", "secret", "{run}", w.run, "{seq}", "3", "{id}", w.callers[other].id, "{id...}", "people-ask")
	// What a key with scope ask on alpha may open; all else is refused or absent.
	may := []string{"GET /", "GET /sources", "GET /ask", "POST /ask", "GET /account", "POST /account", "GET /sources/add", "GET /audit/export", "GET /keys/new"}
	// And what a key with scope audit may.
	mayAuditor := []string{"GET /", "GET /account", "POST /account", "GET /audit", "GET /audit/3", "GET /audit/export", "POST /audit/export"}
	for _, p := range pages {
		method, path := p[2], fill.Replace(p[3])
		if method == "" {
			method = "GET"
		}
		for _, c := range []string{nobody, revoked, signedOut} {
			got := w.do(w.callers[c], method, path, nil)
			if to := got.header.Get("Location"); p[1] == "closed" && (got.status != http.StatusSeeOther || !strings.HasPrefix(to, "/sign-in")) {
				t.Errorf("%s %s as %s: %d to %q", method, path, c, got.status, to)
			}
		}
		got := w.do(w.callers[auditor], method, path, nil)
		if p[1] == "closed" && (got.status < 400) != slices.Contains(mayAuditor, method+" "+path) {
			t.Errorf("%s %s as %s: %d to %q", method, path, auditor, got.status, got.header.Get("Location"))
		}
		got = w.do(w.callers[asker], method, path, nil)
		text := strings.ToLower(string(got.body))
		for _, word := range secretWords {
			if strings.Contains(text, word) {
				t.Errorf("%s %s tells %q: %d", method, path, word, got.status)
			}
		}
		if p[1] == "closed" && got.status < 400 && !slices.Contains(may, method+" "+path) {
			t.Errorf("%s %s as %s: %d to %q", method, path, asker, got.status, got.header.Get("Location"))
		}
	}
}

// TestWhatExistsIsRefusedLikeWhatDoesNot compares refusals: nobody learns from
// them which sources, runs, uploads or models there are.
func TestWhatExistsIsRefusedLikeWhatDoesNot(t *testing.T) {
	t.Parallel()
	w := peopled(t)
	w.must(w.admin, http.MethodPut, "/api/v1/uploads/"+someHash+"?offset=0", "part", nil)
	hash := strings.Repeat("b", 64)
	for _, c := range []string{asker, idle, sourcer, modeller} {
		for _, pair := range []struct {
			method, there, not string
			bodyThere, bodyNot any
		}{
			{"GET", "/api/v1/sources/secret", "/api/v1/sources/sacred", nil, nil},
			{"DELETE", "/api/v1/sources/secret", "/api/v1/sources/sacred", nil, nil},
			{"POST", "/api/v1/sources/secret/sync", "/api/v1/sources/sacred/sync", nil, nil},
			{"GET", "/api/v1/sources/secret/audience", "/api/v1/sources/sacred/audience", nil, nil},
			{"PUT", "/api/v1/sources/secret/audience", "/api/v1/sources/sacred/audience", wire.Audience{Audience: []string{"user"}}, wire.Audience{Audience: []string{"user"}}},
			{"POST", "/api/v1/sources", "/api/v1/sources", wire.NewSource{Name: "secret", Kind: "files", Path: "/"}, wire.NewSource{Name: "sacred", Kind: "files", Path: "/"}},
			{"GET", "/api/v1/sources/secret/progress", "/api/v1/sources/sacred/progress", nil, nil},
			{"GET", "/api/v1/citations?source=secret&record=secret%2Fdocument%2Fxanadu.md&start=0&end=4&version=" + w.version, "/api/v1/citations?source=sacred&record=sacred%2Fdocument%2Fxanadu.md&start=0&end=4&version=" + w.version, nil, nil},
			{"GET", "/api/v1/citations?source=secret&record=secret%2Fdocument%2Fxanadu.md&start=0&end=4&version=" + w.version, "/api/v1/citations?source=secret&record=secret%2Fdocument%2Fxxxxxx.md&start=0&end=400000&version=1", nil, nil},
			{"GET", "/api/v1/runs/" + w.run, "/api/v1/runs/" + strings.Repeat("0", len(w.run)), nil, nil},
			{"GET", "/api/v1/runs/" + w.run + "/events", "/api/v1/runs/" + strings.Repeat("0", len(w.run)) + "/events", nil, nil},
			{"GET", "/api/v1/conversations/" + w.run, "/api/v1/conversations/" + strings.Repeat("0", len(w.run)), nil, nil},
			{"PATCH", "/api/v1/conversations/" + w.run, "/api/v1/conversations/" + strings.Repeat("0", len(w.run)), wire.Title{Title: "A"}, wire.Title{Title: "A"}},
			{"DELETE", "/api/v1/conversations/" + w.run, "/api/v1/conversations/" + strings.Repeat("0", len(w.run)), nil, nil},
			{"POST", "/api/v1/ask", "/api/v1/ask", wire.Question{Question: "when?", Conversation: w.run}, wire.Question{Question: "when?", Conversation: strings.Repeat("0", len(w.run))}},
			{"DELETE", "/api/v1/runs/" + w.run, "/api/v1/runs/" + strings.Repeat("0", len(w.run)), nil, nil},
			{"GET", "/api/v1/uploads/" + someHash, "/api/v1/uploads/" + hash, nil, nil},
			{"POST", "/api/v1/models", "/api/v1/models", wire.ImportModel{Upload: someHash}, wire.ImportModel{Upload: hash}},
			{"POST", "/api/v1/models", "/api/v1/models", wire.ImportModel{Path: w.dir + "/seal/root.key"}, wire.ImportModel{Path: w.dir + "/seal/none"}},
			{"DELETE", "/api/v1/keys/" + w.callers[other].id, "/api/v1/keys/" + strings.Repeat("0", len(w.callers[other].id)), nil, nil},
			{"GET", "/cite?source=secret&record=secret%2Fdocument%2Fxanadu.md&start=0&end=4&version=" + w.version, "/cite?source=sacred&record=sacred%2Fdocument%2Fxanadu.md&start=0&end=4&version=" + w.version, nil, nil},
			{"GET", "/sources/secret", "/sources/sacred", nil, nil},
		} {
			there, not := w.visit(w.callers[c], pair.method, pair.there, pair.bodyThere), w.visit(w.callers[c], pair.method, pair.not, pair.bodyNot)
			if there.status < 400 || there.status != not.status || plain(there.body) != plain(not.body) {
				t.Errorf("%s: %s %s: %d %s\nbut %s: %d %s", c, pair.method, pair.there, there.status, there.body, pair.not, not.status, not.body)
			}
		}
	}
	// The pages put refusals on record as well.
	before := len(refused(w.records(), w.callers[asker].id, "source.read"))
	w.visit(w.callers[asker], "GET", "/sources/secret", nil)
	w.visit(w.callers[asker], "GET", "/cite?source=secret&record=secret%2Fdocument%2Fxanadu.md&start=0&end=4&version="+w.version, nil)
	if after := len(refused(w.records(), w.callers[asker].id, "source.read")); after != before+2 {
		t.Errorf("two refusals by pages left %d records", after-before)
	}
	var have wire.Upload
	w.must(w.admin, http.MethodGet, "/api/v1/uploads/"+someHash, nil, &have)
	if have.Offset != int64(len("part")) {
		t.Errorf("somebody who may not import models has dropped an upload: %d bytes are left of it", have.Offset)
	}
}

// refused lists the refusals of an action to somebody.
func refused(all []entry, who, action string) (out []entry) {
	for _, e := range all {
		if e.Kind == "refusal" && e.Actor.ID == who && e.Action == action {
			out = append(out, e)
		}
	}
	return out
}

var ownWords = regexp.MustCompile(`"(instance|record)":\s*("[^"]*"|\d+)|data-now="[^"]*"|<dd[^>]*>[\d,.  ]*</dd>|secret|sacred`)

// plain is an answer without what differs from request to request.
func plain(body []byte) string { return ownWords.ReplaceAllString(string(body), "") }
