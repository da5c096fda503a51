package session

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/audit"
	"github.com/cloister-os/cloister/auth/directory"
	"github.com/cloister-os/cloister/auth/directory/directorytest"
	"github.com/cloister-os/cloister/auth/guard/guardtest"
	"github.com/cloister-os/cloister/auth/people"
)

const right = directorytest.Password

// plain stands in for the seal; what it must keep is tested in auth/people.
type plain struct{}

func (plain) Seal(_, b []byte) ([]byte, error) { return b, nil }
func (plain) Open(_, b []byte) ([]byte, error) { return b, nil }

// joined is a place with the local account ada, and slapd joined as corp: its group
// staff gives the role user.
type joined struct {
	*place
	slapd *directorytest.Server
}

func inStaff(uids ...string) string {
	entries := ""
	dns := []string{}
	for _, uid := range uids {
		entries += directorytest.PersonEntry(uid)
		dns = append(dns, "uid="+uid+",dc=example,dc=org")
	}
	return entries + directorytest.GroupEntry("staff", dns...)
}

func joinSlapd(t *testing.T, ldif string) *joined {
	t.Helper()
	if why := directorytest.SlapdReason(); why != "" {
		t.Skip(why)
	}
	j := &joined{newPlace(t), directorytest.Slapd(t, ldif)}
	j.setUp(t)
	j.wrongWait = time.Millisecond
	var err error
	j.Service.people, err = people.New(people.Config{
		Store: j.house.Store, Door: j.house, Sealer: plain{}, Node: "test", Now: j.Service.now, LocalAdministrator: LocalAdministrator,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Service.people.Close() })
	root := guardtest.Admin()
	s := j.slapd
	_, err = j.people.Add(t.Context(), root, directory.Config{Name: "corp", Servers: []string{s.LDAPS}, CA: s.CA, BindDN: s.BindDN, BindPassword: s.BindPassword, Base: s.Base}, false)
	if err != nil {
		t.Fatal(err)
	}
	groups, _, err := j.people.Groups(t.Context(), root, "corp", "staff", 1)
	if err != nil || len(groups) != 1 {
		t.Fatal(groups, err)
	}
	if _, err := j.people.Grant(t.Context(), root, "corp", groups[0].ID, auth.Asker); err != nil {
		t.Fatal(err)
	}
	return j
}

// failures are the details of the sign-ins that failed, oldest first.
func (j *joined) failures(t *testing.T) (out []audit.Record) {
	t.Helper()
	for _, r := range j.house.Records(t) {
		if r.Action == eventLoginFailed {
			out = append(out, r)
		}
	}
	return out
}

func (j *joined) as(t *testing.T, token string) (auth.Principal, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	return j.Authenticate(r)
}

func TestSomebodyOfTheDirectorySignsIn(t *testing.T) {
	j := joinSlapd(t, inStaff("alice", "ada"))
	s, token, err := j.Login(t.Context(), "alice", right)
	if err != nil {
		t.Fatal(err)
	}
	p, err := j.as(t, token)
	if err != nil || p.ID != s.User.ID || !strings.HasPrefix(p.ID, "corp/") || !slices.Equal(p.Roles, []auth.Role{auth.Asker}) || len(p.Groups) != 1 || p.Session == "" {
		t.Fatalf("%+v %v", p, err)
	}
	if now, err := j.Current(t.Context(), p); err != nil || !slices.Equal(now.Groups, p.Groups) {
		t.Errorf("%+v %v", now, err)
	}
	// The local account comes first, and its name names nobody else.
	local, _, err := j.Login(t.Context(), "Ada", goodPassword)
	if err != nil || strings.Contains(local.User.ID, "/") {
		t.Errorf("the local account: %+v %v", local, err)
	}
	if _, _, err := j.Login(t.Context(), "ada", right); !errors.Is(err, errWrong) {
		t.Errorf("the directory's password for the local account's name: %v", err)
	}
	for _, name := range []string{"ada@corp", `CORP\Ada`} {
		if s, _, err := j.Login(t.Context(), name, right); err != nil || !strings.HasPrefix(s.User.ID, "corp/") {
			t.Errorf("%q: %+v %v", name, s, err)
		}
	}
}

// Spellings of a name are one person before throttle, policy and audit.
func TestSpellingsShareOneThrottle(t *testing.T) {
	j := joinSlapd(t, inStaff("alice"))
	ctx := WithAddress(t.Context(), "192.0.2.1:1")
	for _, c := range []struct {
		whom   string
		spells []string
	}{
		{"somebody", []string{"alice", "ALICE", " alice ", "\uff41lice", `corp\alice`, "alice@corp", "Alice@CORP"}},
		{"nobody", []string{"nobody", "NOBODY", " nobody ", "\uff4eobody", `corp\nobody`, "nobody@corp", "Nobody@CORP"}},
	} {
		tried := 0
		for _, name := range c.spells {
			if _, _, err := j.Login(ctx, name, "wrong"); errors.Is(err, errWrong) {
				tried++
			} else if !errors.Is(err, auth.ErrThrottled) {
				t.Errorf("%s as %q: %v", c.whom, name, err)
			}
		}
		if tried != forAddress().free {
			t.Errorf("%s: %d guesses were free, want %d", c.whom, tried, forAddress().free)
		}
	}
	if _, _, err := j.Login(WithAddress(t.Context(), "198.51.100.1:1"), "alice", right); err != nil {
		t.Errorf("from elsewhere the person is let in: %v", err)
	}
}

// Why somebody is not let in is on record precisely, and told to nobody.
func TestAccountStatesAreLoggedPreciselyAndShownAlike(t *testing.T) {
	ldif := inStaff("alice", "twin", "locked", "reset", "expired") + directorytest.Entry("cn=twin,dc=example,dc=org", "objectClass: inetOrgPerson", "uid: twin", "cn: twin", "sn: x")
	j := joinSlapd(t, ldif)
	j.slapd.Add(t, "uid=locked,dc=example,dc=org", "pwdAccountLockedTime", "000001010000Z")
	j.slapd.Add(t, "uid=reset,dc=example,dc=org", "pwdReset", "TRUE")
	j.slapd.Add(t, "uid=expired,dc=example,dc=org", "objectClass", "shadowAccount")
	j.slapd.Add(t, "uid=expired,dc=example,dc=org", "shadowExpire", "10")
	for _, c := range []struct{ name, password, state string }{
		{"alice", "wrong", "wrong-password"}, {"alice", "", "wrong-password"}, {"alice", "  ", "wrong-password"}, {"nobody", right, "unknown"},
		{"twin", right, "ambiguous"}, {"reset", right, "must-change"}, {"expired", right, "expired"}, {"a*", right, "unknown"},
		{"alice)(uid=*", right, "unknown"}, {"uid=alice,dc=example,dc=org", right, "unknown"},
	} {
		_, _, err := j.Login(t.Context(), c.name, c.password)
		if err == nil || err.Error() != errWrong.Error() {
			t.Errorf("%s: %v", c.name, err)
		}
		all := j.failures(t)
		last := all[len(all)-1]
		if last.Detail["state"] != c.state {
			t.Errorf("%s: on record as %v, want %s", c.name, last.Detail["state"], c.state)
		}
		for _, r := range all {
			if strings.Contains(fmt.Sprint(r), c.name+")") || strings.Contains(fmt.Sprint(r.Detail), "nobody") {
				t.Errorf("what was typed is on record: %+v", r)
			}
		}
	}
	if _, _, err := j.Login(t.Context(), "locked", right); !errors.Is(err, errWrong) {
		t.Errorf("locked: %v", err)
	}
}

// A wrong sign-in takes one time, whether the name is a local account's, somebody's
// or nobody's: a lower bound that the cheaper ones would be far below.
func TestAStopwatchDoesNotTellLocalAccounts(t *testing.T) {
	j := joinSlapd(t, inStaff("alice"))
	j.wrongWait = wrongWait
	for _, name := range []string{"ada", "alice", "nobody"} {
		began := time.Now()
		if _, _, err := j.Login(t.Context(), name, "wrong"); !errors.Is(err, errWrong) {
			t.Fatal(err)
		}
		if took := time.Since(began); took < wrongWait {
			t.Errorf("%s was answered after %v", name, took)
		}
	}
}

// Who is in no group that gives a role is told so once the password was right, and
// nothing of them is kept.
func TestSomebodyInNoMappedGroup(t *testing.T) {
	j := joinSlapd(t, inStaff("alice")+directorytest.PersonEntry("bob"))
	if _, _, err := j.Login(t.Context(), "bob", "wrong"); !errors.Is(err, errWrong) {
		t.Errorf("with a wrong password: %v", err)
	}
	_, token, err := j.Login(t.Context(), "bob", right)
	if !errors.Is(err, people.ErrNoRole) || errors.Is(err, auth.ErrUnauthenticated) || token != "" {
		t.Errorf("%q %v", token, err)
	}
	byPerson, err := j.signedInByDirectory(t.Context())
	if err != nil || len(byPerson) != 0 {
		t.Errorf("%v %v", byPerson, err)
	}
	all := j.failures(t)
	if last := all[len(all)-1]; last.Detail["state"] != stateNoRole || !strings.HasPrefix(last.Resource.ID, "corp/") {
		t.Errorf("%+v", last)
	}
}

// What the directory takes away ends what sessions may do, and those of whoever is
// gone are removed, on record; a directory that does not answer ends nothing.
func TestSessionsFollowTheDirectory(t *testing.T) {
	j := joinSlapd(t, inStaff("alice", "bob"))
	tokens := map[string]string{}
	for _, name := range []string{"alice", "bob"} {
		_, token, err := j.Login(t.Context(), name, right)
		if err != nil {
			t.Fatal(err)
		}
		tokens[name] = token
	}
	started, err := j.as(t, tokens["alice"]) // what works in her name keeps this
	if err != nil {
		t.Fatal(err)
	}
	follow := func() {
		t.Helper()
		if err := j.Follow(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	follow()
	if _, err := j.as(t, tokens["alice"]); err != nil {
		t.Errorf("nothing changed: %v", err)
	}
	j.slapd.Take(t, "cn=staff,dc=example,dc=org", "member", "uid=alice,dc=example,dc=org")
	follow()
	if _, err := j.as(t, tokens["alice"]); !errors.Is(err, auth.ErrUnauthenticated) {
		t.Errorf("after the group was lost: %v", err)
	}
	if _, err := j.Current(t.Context(), started); !errors.Is(err, auth.ErrUnauthenticated) {
		t.Errorf("what works in her name goes on: %v", err)
	}
	j.slapd.Add(t, "cn=staff,dc=example,dc=org", "member", "uid=alice,dc=example,dc=org")
	follow()
	if _, err := j.as(t, tokens["alice"]); err != nil {
		t.Errorf("once she is in it again: %v", err)
	}
	j.slapd.Delete(t, "uid=bob,dc=example,dc=org")
	follow()
	if _, err := j.as(t, tokens["bob"]); !errors.Is(err, auth.ErrUnauthenticated) {
		t.Errorf("deleted: %v", err)
	}
	ended := slices.IndexFunc(j.house.Records(t), func(r audit.Record) bool { return r.Action == eventEnded && r.Detail["state"] == "gone" })
	if ended < 0 {
		t.Error("the end of bob's session is not on record")
	}
	j.slapd.Stop()
	follow()
	if _, err := j.as(t, tokens["alice"]); err != nil {
		t.Errorf("the directory is down: %v", err)
	}
	if _, _, err := j.Login(t.Context(), "alice", right); !errors.Is(err, directory.ErrNoAnswer) || errors.Is(err, auth.ErrUnauthenticated) || strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("a new sign-in while it is down: %v", err)
	}
}

// What the node that asks the directories has seen is known to all nodes.
func TestEveryNodeFollowsTheDirectory(t *testing.T) {
	j := joinSlapd(t, inStaff("alice"))
	other := newMember(t, j.house.Store, "other")
	other.now = j.Service.now
	var err error
	other.people, err = people.New(people.Config{Store: other.store, Door: other.door, Sealer: plain{}, Node: "other", Now: other.now})
	must(t, err)
	t.Cleanup(func() { _ = other.people.Close() })
	_, token, err := other.Login(t.Context(), "alice", right)
	must(t, err)
	who, err := other.Authenticate(bearer(token))
	must(t, err)
	if _, err := j.as(t, token); err != nil {
		t.Errorf("signed in through the one, unknown to the other: %v", err)
	}
	j.slapd.Delete(t, "cn=staff,dc=example,dc=org")
	must(t, j.Follow(t.Context()))
	if _, err := other.Authenticate(bearer(token)); !errors.Is(err, auth.ErrUnauthenticated) {
		t.Errorf("the node that did not ask: %v", err)
	}
	if _, err := other.Current(t.Context(), who); !errors.Is(err, auth.ErrUnauthenticated) {
		t.Errorf("what works there in her name goes on: %v", err)
	}
}

// A directory that takes connections and says nothing lets nobody in, says so, and
// ends nobody's session.
func TestASlowDirectory(t *testing.T) {
	j := joinSlapd(t, inStaff("alice"))
	_, token, err := j.Login(t.Context(), "alice", right)
	must(t, err)
	j.slapd.Freeze()
	defer j.slapd.Thaw()
	if _, _, err := j.Login(t.Context(), "alice", right); !errors.Is(err, directory.ErrNoAnswer) {
		t.Errorf("a new sign-in: %v", err)
	}
	must(t, j.Follow(t.Context()))
	if _, err := j.as(t, token); err != nil {
		t.Errorf("whoever is signed in: %v", err)
	}
	if _, _, err := j.Login(t.Context(), "ada", goodPassword); err != nil {
		t.Errorf("the local account: %v", err)
	}
	all := j.failures(t)
	if last := all[len(all)-1]; last.Detail["state"] != stateSilent {
		t.Errorf("%+v", last)
	}
}

// An open stream of somebody ends soon after the directory has taken their role.
func TestAnOpenRequestEndsWithTheRole(t *testing.T) {
	j := joinSlapd(t, inStaff("alice"))
	_, token, err := j.Login(t.Context(), "alice", right)
	if err != nil {
		t.Fatal(err)
	}
	var why error
	h := j.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if _, err := j.Authenticate(r); err != nil {
			t.Error(err)
			return
		}
		j.slapd.Delete(t, "cn=staff,dc=example,dc=org")
		if err := j.Follow(t.Context()); err != nil {
			t.Error(err)
		}
		<-r.Context().Done()
		why = context.Cause(r.Context())
	}))
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	h.ServeHTTP(httptest.NewRecorder(), r)
	if !errors.Is(why, auth.ErrUnauthenticated) {
		t.Errorf("it ended because of %v", why)
	}
}
