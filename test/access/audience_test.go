package access

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloister-os/cloister/auth/directory/directorytest"
	"github.com/cloister-os/cloister/node/api/wire"
)

// directory is the people of this test: Ann is in the group that the closed
// sources name, Bob is not, and neither is Aud, who audits.
func directory() string {
	dn := func(uid string) string { return "uid=" + uid + ",dc=example,dc=org" }
	return directorytest.PersonEntry("ann") + directorytest.PersonEntry("bob") + directorytest.PersonEntry("aud") +
		directorytest.GroupEntry("staff", dn("ann"), dn("bob")) + directorytest.GroupEntry("insiders", dn("ann"), dn("aud")) + directorytest.GroupEntry("auditors", dn("aud"))
}

// town is a house whose people come from a real directory.
type town struct {
	*house
	slapd         *directorytest.Server
	ann, bob, aud caller
	insiders      string // the group, as audiences name it
}

func settle(t *testing.T) *town {
	t.Helper()
	if why := directorytest.SlapdReason(); why != "" {
		t.Skip(why)
	}
	s := directorytest.Slapd(t, directory())
	w := &town{house: open(t), slapd: s}
	w.must(w.admin, http.MethodPost, "/api/v1/directories", wire.NewDirectory{
		Name: "corp", Servers: []string{s.LDAPS}, CA: string(s.CA), BindDN: s.BindDN, BindPassword: s.BindPassword, Base: s.Base,
	}, nil)
	w.grant("staff", "user")
	w.grant("auditors", "auditor")
	w.insiders = "corp/" + w.group("insiders")
	w.ann, w.bob, w.aud = w.signIn("ann"), w.signIn("bob"), w.signIn("aud")
	return w
}

func (w *town) group(name string) string {
	w.t.Helper()
	var g wire.DirectoryGroups
	w.must(w.admin, http.MethodGet, "/api/v1/directories/corp/groups?search="+name, nil, &g)
	if len(g.Groups) != 1 {
		w.t.Fatalf("groups called %s: %+v", name, g)
	}
	return g.Groups[0].ID
}

func (w *town) grant(group, role string) {
	w.t.Helper()
	w.must(w.admin, http.MethodPost, "/api/v1/directories/corp/roles", wire.NewDirectoryRole{Group: w.group(group), Role: role}, nil)
}

func (w *town) signIn(name string) caller {
	w.t.Helper()
	var s wire.Session
	w.must(caller{}, http.MethodPost, "/api/v1/login", wire.Login{User: name, Password: directorytest.Password}, &s)
	return caller{name: name, token: s.Token}
}

// close connects a source for the insiders alone. Its first sync is waited for
// by one of them.
func (w *town) close(name, kind, path string) {
	w.t.Helper()
	w.must(w.admin, http.MethodPost, "/api/v1/sources", wire.NewSource{Name: name, Kind: kind, Path: path, Audience: []string{w.insiders}}, nil)
	admin := w.admin
	w.admin = w.ann // the administrator does not see how it goes
	defer func() { w.admin = admin }()
	if p := w.synced(name); p.Error != "" {
		w.t.Fatalf("the sync of %s: %s", name, p.Error)
	}
}

// places lists every route that shows something: the pages that are routed and
// what the OpenAPI document describes. A new one is asked without being named.
func (w *town) places(run string) []string {
	w.t.Helper()
	source, err := os.ReadFile("../../ui/ui.go")
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, p := range pagePattern.FindAllStringSubmatch(string(source), -1) {
		if p[2] == "GET" && p[3] != "/setup" && p[3] != "/sign-in" {
			out = append(out, p[3])
		}
	}
	for _, op := range (&world{house: w.house}).described() {
		if path, ok := strings.CutPrefix(op, "GET "); ok {
			out = append(out, path)
		}
	}
	out = append(out, "/metrics", "/readyz", "/healthz", "/v1/models", "/api/v1/openapi.json", "/ask?q=xanadu", "/audit?resource=Source:secret", "/access?reader=user")
	fill := strings.NewReplacer("{$}", "", "{run}", run, "{seq}", "3", "{id...}", "people-ask", "{sha256}", someHash, "{file}", "manifest", "{group}", aGroup, "{role}", "user")
	for i := range out {
		out[i] = fill.Replace(out[i])
		if strings.HasPrefix(out[i], "/api/v1/runs/") {
			out[i] = strings.ReplaceAll(out[i], "{id}", run)
		}
	}
	if len(out) < 60 {
		w.t.Fatalf("only %d places: this test would prove little", len(out))
	}
	return out
}

// passing is what no two looks at a page share: times, versions, the numbers of
// records, tokens of forms. Counts of what is in the sources are not among it.
var passing = regexp.MustCompile(`<time [^>]*>[^<]*</time>|data-now="[^"]*"|name="once" value="[^"]*"|,?"(version|applied|record|n|uptime_s|took_ms|people)":\d+,?|,?"(time|as_of|started|finished|ended|added|answered|job|run|instance)":"[^"]*"|\d{4}-\d\d-\d\d[T ][0-9:.]+( UTC|Z)?|<dt>Record</dt>\s*<dd[^>]*>[^<]*|(?m)^(go|process|cloister)_\S* .*\n`)

func (w *town) look(c caller, path string) string {
	w.t.Helper()
	if strings.HasSuffix(path, "/progress") || strings.HasSuffix(path, "/events") {
		got := w.first(c, path)
		return fmt.Sprint(got.status, "\n", passing.ReplaceAllString(string(got.body), ""))
	}
	got := w.do(c, http.MethodGet, path, nil)
	return fmt.Sprint(got.status, " ", got.header.Get("Location"), "\n", passing.ReplaceAllString(string(got.body), ""))
}

// first is an answer with the first event of it, when it is a stream.
func (w *town) first(c caller, path string) reply {
	w.t.Helper()
	resp, err := w.send(w.t.Context(), c, http.MethodGet, path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	got := reply{status: resp.StatusCode, header: resp.Header}
	for ev := range events(resp.Body) {
		got.body = ev.data
		break
	}
	return got
}

// TestWhoIsOutsideAnAudienceFeelsNothingOfIt has Bob look at everything and ask
// everything before and after there are sources that he may not read.
func TestWhoIsOutsideAnAudienceFeelsNothingOfIt(t *testing.T) {
	t.Parallel()
	w := settle(t)
	folder, repository := secret(t)
	questions := probes(git(t, repository, "rev-parse", "HEAD"))
	w.add("alpha", "files", alpha(t))
	mine, _ := w.ask(w.bob, "How long are backups kept?")
	// The name of a closed source is tried where a name belongs, before it exists too.
	places := w.places(mine.Run)
	named := func(p string) string {
		return strings.NewReplacer("{name}", "secret", "{id}", "secret").Replace(p)
	}
	w.look(w.bob, "/") // what is counted once is counted
	said, seen := map[string][]byte{}, map[string]string{}
	for _, q := range questions {
		said[q] = told(w.house, w.bob, q)
	}
	for _, p := range places {
		seen[p] = w.look(w.bob, named(p))
	}
	w.close("secret", "files", folder)
	w.close("code", "git", repository)
	felt := 0
	for _, q := range questions {
		if a, _ := w.ask(w.ann, q); touches(a, "secret", "code") {
			felt++
		}
		if now := told(w.house, w.bob, q); !bytes.Equal(now, said[q]) {
			t.Errorf("%q is answered\n%s\nand was\n%s", q, now, said[q])
		}
	}
	if felt < 15 {
		t.Errorf("only %d of %d questions reach the closed sources for who may read them", felt, len(questions))
	}
	// As many questions as before: the list of his runs is as long.
	for _, p := range places {
		now := w.look(w.bob, named(p))
		if strings.Contains(p, "runs") || p == "/api/v1/conversations" || p == "/" || strings.HasPrefix(p, "/ask") && !strings.Contains(p, mine.Run) {
			now, seen[p] = "", "" // his questions, which hold the words; see below
		}
		if now != seen[p] {
			t.Errorf("%s shows\n%s\nand showed\n%s", p, now, seen[p])
		}
		for _, word := range secretWords {
			if strings.Contains(strings.ToLower(now), word) {
				t.Errorf("%s holds %q", p, word)
			}
		}
	}
	w.unasked(folder)
	w.absent()
}

// unasked looks at the pages that show somebody's own questions as an outsider
// who asked nothing of what is closed.
func (w *town) unasked(folder string) {
	w.t.Helper()
	w.slapd.Create(w.t, directorytest.PersonEntry("cyd"))
	w.slapd.Add(w.t, "cn=staff,dc=example,dc=org", "member", "uid=cyd,dc=example,dc=org")
	cyd := w.signIn("cyd")
	w.ask(cyd, "How long are backups kept?")
	for _, p := range []string{"/", "/ask", "/api/v1/runs", "/api/v1/conversations", "/sources", "/api/v1/sources", "/api/v1/status"} {
		text := strings.ToLower(string(w.do(cyd, http.MethodGet, p, nil).body))
		for _, word := range append(secretWords, "secret", ">code<", `"code"`, strings.ToLower(folder)) {
			if strings.Contains(text, word) {
				w.t.Errorf("%s holds %q", p, word)
			}
		}
		if !slices.Contains([]string{"/ask", "/api/v1/runs", "/api/v1/conversations"}, p) && !strings.Contains(text, "alpha") {
			w.t.Errorf("%s does not even hold what is open", p)
		}
	}
}

// absent compares, for Bob and for Aud, each act on a closed source with the
// same on one that is not there.
func (w *town) absent() {
	w.t.Helper()
	a, _ := w.ask(w.ann, "When does the Xanadu merger close?")
	if len(a.Citations) == 0 {
		w.t.Fatal("who may read it is not answered")
	}
	c := a.Citations[0]
	cite := func(source string) string {
		q := url.Values{"source": {source}, "record": {strings.Replace(c.Record, "secret/", source+"/", 1)}, "version": {fmt.Sprint(c.Version)}, "start": {fmt.Sprint(c.Start)}, "end": {fmt.Sprint(c.End)}}
		return q.Encode()
	}
	form := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Sec-Fetch-Site": {"same-origin"}}
	for _, who := range []caller{w.bob, w.aud} {
		for _, act := range []struct {
			method, path string
			body         any
		}{
			{"GET", "/api/v1/sources/%s", nil}, {"DELETE", "/api/v1/sources/%s", nil}, {"POST", "/api/v1/sources/%s/sync", nil},
			{"GET", "/api/v1/sources/%s/audience", nil}, {"PUT", "/api/v1/sources/%s/audience", wire.Audience{Audience: []string{"user"}}},
			{"GET", "/api/v1/citations?", nil}, {"GET", "/cite?", nil},
			{"GET", "/sources/%s", nil}, {"GET", "/sources/%s/remove", nil}, {"POST", "/sources/%s/remove", "x=y"}, {"POST", "/sources/%s/sync", "x=y"},
			{"GET", "/access/%s", nil}, {"POST", "/access/%s", "role=user"},
			{"POST", "/api/v1/keys", wire.NewKey{Name: "k", Scopes: []string{"ask"}, Sources: []string{"SOURCE"}}},
		} {
			answers := map[string]string{}
			for _, source := range []string{"secret", "sacred"} {
				path := strings.ReplaceAll(act.path, "%s", source)
				if strings.HasSuffix(path, "?") {
					path += cite(source)
				}
				body := act.body
				if k, ok := body.(wire.NewKey); ok {
					k.Sources = []string{source}
					body = k
				}
				as := who
				if _, ok := body.(string); ok {
					as.header = form
				}
				got := w.do(as, act.method, path, body)
				if got.status < 400 {
					w.t.Errorf("%s as %s: %d", path, who.name, got.status)
				}
				text := passing.ReplaceAllString(fmt.Sprint(got.status, got.header.Get("Location"), string(got.body)), "")
				answers[source] = strings.ReplaceAll(text, source, "SOURCE")
			}
			if answers["secret"] != answers["sacred"] {
				w.t.Errorf("%s %s as %s tells whether it is there:\n%s\n%s", act.method, act.path, who.name, answers["secret"], answers["sacred"])
			}
		}
	}
}

// TestWhoLeavesTheGroupLosesWhatItWasTold takes Ann out of the group: the source
// and the answers that came from it are gone for her, and come back with her.
func TestWhoLeavesTheGroupLosesWhatItWasTold(t *testing.T) {
	t.Parallel()
	w := settle(t)
	folder, repository := secret(t)
	w.add("alpha", "files", alpha(t))
	w.close("secret", "files", folder)
	w.close("code", "git", repository)
	first, _ := w.ask(w.ann, "Who last changed src/xanadu.go?")
	follow := func() string {
		r := w.do(w.ann, http.MethodPost, "/api/v1/ask", wire.Question{Question: "And who changed it before that?", Conversation: first.Conversation})
		if r.status != http.StatusOK {
			t.Fatalf("%d %s", r.status, r.body)
		}
		return strings.ToLower(string(r.body))
	}
	if told := follow(); !strings.Contains(told, "zelda") {
		t.Fatalf("a question that leans on the first: %s", told)
	}
	a, _ := w.ask(w.ann, "When does the Xanadu merger close?")
	if !touches(a, "secret") || !strings.Contains(a.Answer, "14 March 2031") {
		t.Fatalf("%+v", a)
	}
	holds := func() bool {
		api := w.do(w.ann, http.MethodGet, "/api/v1/runs/"+a.Run, nil)
		page := w.do(w.ann, http.MethodGet, "/ask/"+a.Run, nil)
		told := w.do(w.ann, http.MethodGet, "/api/v1/runs/"+a.Run+"/events", nil)
		n := 0
		for _, r := range []reply{api, page, told} {
			if r.status != http.StatusOK {
				t.Fatalf("%d %s", r.status, r.body)
			}
			if strings.Contains(string(r.body), "14 March 2031") {
				n++
			}
		}
		if n != 0 && n != 3 {
			t.Errorf("%d of 3 places hold the answer", n)
		}
		return n > 0
	}
	if !holds() {
		t.Fatal("the answer is not shown to whom it was given")
	}
	const group, member = "cn=insiders,dc=example,dc=org", "uid=ann,dc=example,dc=org"
	w.slapd.Take(t, group, "member", member)
	w.until("she has lost it", func() bool {
		return w.do(w.ann, http.MethodGet, "/api/v1/sources/secret", nil).status == http.StatusNotFound
	})
	if holds() {
		t.Error("an answer from a closed source is still told")
	}
	if again, _ := w.ask(w.ann, "When does the Xanadu merger close?"); touches(again, "secret") {
		t.Errorf("%+v", again)
	}
	told := follow()
	for _, word := range secretWords {
		if strings.Contains(told, word) {
			t.Errorf("a question that leans on what is closed is answered with %q: %s", word, told)
		}
	}
	w.slapd.Add(t, group, "member", member)
	w.until("she has it again", func() bool { return w.do(w.ann, http.MethodGet, "/api/v1/sources/secret", nil).status == http.StatusOK })
	if !holds() {
		t.Error("the answer did not come back with the right to it")
	}
}

// until waits for what the directory is asked about every few seconds.
func (w *town) until(what string, f func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !f(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("it did not come to pass that %s", what)
		}
	}
}

// TestAnAdministratorOutsideReadsNothingUnseen closes a source to the
// administrator: what opens it to them is on record.
func TestAnAdministratorOutsideReadsNothingUnseen(t *testing.T) {
	t.Parallel()
	w := settle(t)
	folder, _ := secret(t)
	w.close("secret", "files", folder)
	if a, _ := w.ask(w.admin, "When does the Xanadu merger close?"); touches(a, "secret") {
		t.Fatalf("%+v", a)
	}
	r := w.do(w.admin, http.MethodPost, "/api/v1/keys", wire.NewKey{Name: "door", Scopes: []string{"ask"}, Sources: []string{"secret"}})
	if r.status != http.StatusBadRequest && r.status != http.StatusUnprocessableEntity || !strings.Contains(string(r.body), "may not read source") {
		t.Errorf("a key for what its maker may not read: %d %s", r.status, r.body)
	}
	var access wire.Access
	w.must(w.admin, http.MethodGet, "/api/v1/access", nil, &access)
	if len(access.Sources) != 1 || access.Sources[0].Readers[0].ID != w.insiders || !access.Sources[0].Readers[0].Reads {
		t.Errorf("%+v", access)
	}
	page := string(w.do(w.admin, http.MethodGet, "/access", nil).body)
	for _, word := range secretWords {
		if strings.Contains(strings.ToLower(page), word) {
			t.Errorf("who sees what holds %q", word)
		}
	}
	w.must(w.admin, http.MethodPut, "/api/v1/sources/secret/audience", wire.Audience{Audience: []string{w.insiders, "administrator"}}, nil)
	if a, _ := w.ask(w.admin, "When does the Xanadu merger close?"); !touches(a, "secret") {
		t.Errorf("%+v", a)
	}
	var log wire.Records
	w.must(w.aud, http.MethodGet, "/api/v1/audit/records?action=source.manage&resource=Source:secret&kind=intent&limit=1", nil, &log)
	if len(log.Records) != 1 || !strings.Contains(string(log.Records[0].Record), `"added":["administrator"]`) {
		t.Errorf("%+v", log.Records)
	}
}

// TestASourceOfTheSameNameIsAnother removes a closed source and connects an open
// one under its name: what was cited from the first stays closed.
func TestASourceOfTheSameNameIsAnother(t *testing.T) {
	t.Parallel()
	w := settle(t)
	folder, _ := secret(t)
	w.close("secret", "files", folder)
	a, _ := w.ask(w.ann, "When does the Xanadu merger close?")
	if len(a.Citations) == 0 {
		t.Fatalf("%+v", a)
	}
	w.must(w.admin, http.MethodDelete, "/api/v1/sources/secret", nil, nil)
	w.add("secret", "files", alpha(t))
	if b, _ := w.ask(w.bob, "How long are backups kept?"); !touches(b, "secret") {
		t.Fatalf("the new source is not read: %+v", b)
	}
	for _, c := range a.Citations {
		q := url.Values{"source": {c.Source}, "record": {c.Record}, "version": {fmt.Sprint(c.Version)}, "start": {fmt.Sprint(c.Start)}, "end": {fmt.Sprint(c.End)}, "sha256": {c.SHA256}}.Encode()
		for _, path := range []string{"/api/v1/citations?" + q, "/cite?" + q} {
			r := w.do(w.bob, http.MethodGet, path, nil)
			if r.status != http.StatusNotFound || strings.Contains(strings.ToLower(string(r.body)), "merger") {
				t.Errorf("%s: %d %s", path, r.status, r.body)
			}
		}
	}
	if !slices.ContainsFunc(a.Citations, func(c wire.Citation) bool { return c.Source == "secret" }) {
		t.Error("nothing of the closed source was cited")
	}
}
