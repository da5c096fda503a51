package people_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/audit"
	"github.com/cloister-os/cloister/auth/directory"
	"github.com/cloister-os/cloister/auth/directory/directorytest"
	"github.com/cloister-os/cloister/auth/guard/guardtest"
	"github.com/cloister-os/cloister/auth/people"
	"github.com/cloister-os/cloister/store"
)

// sealer marks what was sealed, so that a test sees what entered the log.
type sealer struct{}

func (sealer) Seal(aad, plain []byte) ([]byte, error) {
	return append([]byte("sealed:"+string(aad)+":"), reversed(plain)...), nil
}

func (sealer) Open(aad, sealed []byte) ([]byte, error) {
	rest, ok := strings.CutPrefix(string(sealed), "sealed:"+string(aad)+":")
	if !ok {
		return nil, errors.New("sealed for something else")
	}
	return reversed([]byte(rest)), nil
}

func reversed(b []byte) []byte {
	b = slices.Clone(b)
	slices.Reverse(b)
	return b
}

// place is a house that has joined slapd as "corp". local says whether a local
// account administers.
type place struct {
	*people.Service
	t     *testing.T
	house *guardtest.House
	slapd *directorytest.Server
	local atomic.Bool
	clock atomic.Int64
}

func dn(uid string) string { return "uid=" + uid + ",dc=example,dc=org" }
func gn(cn string) string  { return "cn=" + cn + ",dc=example,dc=org" }

// world is ada, who administers by the directory; alice in inner, in outer; and bob,
// who is in no group that gives a role.
func world() string {
	return directorytest.PersonEntry("ada") + directorytest.PersonEntry("alice", "displayName: Alice Liddell") + directorytest.PersonEntry("bob") +
		directorytest.GroupEntry("admins", dn("ada")) + directorytest.GroupEntry("inner", dn("alice")) +
		directorytest.GroupEntry("outer", gn("inner")) + directorytest.GroupEntry("watchers", dn("alice"))
}

func join(t *testing.T) *place {
	t.Helper()
	if why := directorytest.SlapdReason(); why != "" {
		t.Skip(why)
	}
	p := &place{t: t, house: guardtest.Open(t, nil), slapd: directorytest.Slapd(t, world())}
	p.open()
	return p
}

// open joins the directory.
func (p *place) open() {
	t := p.t
	t.Helper()
	p.local.Store(true)
	p.clock.Store(1_800_000_000)
	var err error
	p.Service, err = people.New(people.Config{
		Store: p.house.Store, Door: p.house, Sealer: sealer{}, Node: "test", Now: func() time.Time { return time.Unix(p.clock.Load(), 0) },
		LocalAdministrator: func(store.Snapshot) (bool, error) { return p.local.Load(), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	if _, err := p.Add(t.Context(), localAdmin(), p.config("corp"), false); err != nil {
		t.Fatal(err)
	}
}

func localAdmin() auth.Principal {
	p := guardtest.Admin()
	p.Name = "root"
	return p
}

func (p *place) config(name string) directory.Config {
	s := p.slapd
	return directory.Config{Name: name, Servers: []string{s.LDAPS}, CA: s.CA, BindDN: s.BindDN, BindPassword: s.BindPassword, Base: s.Base}
}

// group is a group's id by its name.
func (p *place) group(name string) string {
	p.t.Helper()
	list, _, err := p.Groups(p.t.Context(), localAdmin(), "corp", name, 10)
	for _, g := range list {
		if g.Name == name {
			return g.ID
		}
	}
	p.t.Fatalf("no group %s: %v %v", name, list, err)
	return ""
}

func (p *place) grant(group string, role auth.Role) {
	p.t.Helper()
	if _, err := p.Grant(p.t.Context(), localAdmin(), "corp", p.group(group), role); err != nil {
		p.t.Fatal(err)
	}
}

// signIn is what a sign-in does with the service.
func (p *place) signIn(name string) (people.Member, error) {
	p.t.Helper()
	f, err := p.Find(p.t.Context(), people.Account{Directory: "corp", Login: name})
	if err != nil {
		return people.Member{}, err
	}
	m, write, err := p.Prove(p.t.Context(), f, directorytest.Password)
	if err != nil {
		return m, err
	}
	tx := store.NewTx()
	write(tx)
	if _, err := p.house.Store.Apply(p.t.Context(), tx); err != nil && !errors.Is(err, store.ErrInvalid) {
		p.t.Fatal(err)
	}
	return m, nil
}

// principal is somebody who has signed in.
func (p *place) principal(name string) auth.Principal {
	p.t.Helper()
	m, err := p.signIn(name)
	if err != nil {
		p.t.Fatalf("%s: %v", name, err)
	}
	return auth.Principal{Kind: auth.User, ID: m.ID, Name: m.Name, Roles: m.Roles, Groups: m.Groups}
}

func (p *place) now(m people.Member) (out people.Member, err error) {
	err = errors.Join(p.house.Store.View(p.t.Context(), store.Local, func(snap store.Snapshot) error {
		out, err = p.Now(snap, m.ID, m.Made)
		return nil
	}), err)
	return out, err
}

func (p *place) refusals(policy string) (n int) {
	for _, r := range p.house.Records(p.t) {
		if r.Kind == audit.Refusal && slices.Contains(r.Policies, policy) {
			n++
		}
	}
	return n
}

func TestAGroupGivesItsRoleToWhoeverIsInIt(t *testing.T) {
	p := join(t)
	if _, err := p.signIn("alice"); !errors.Is(err, people.ErrNoRole) {
		t.Errorf("before any group gave a role: %v", err)
	}
	p.grant("outer", auth.Builder)
	m, err := p.signIn("alice")
	if err != nil || !slices.Equal(m.Roles, []auth.Role{auth.Builder}) || m.Name != "Alice Liddell" || !strings.HasPrefix(m.ID, "corp/") {
		t.Fatalf("%+v %v", m, err)
	}
	if !slices.Contains(m.Groups, people.ID("corp", p.group("outer"))) || len(m.Groups) != 3 {
		t.Errorf("groups %v", m.Groups)
	}
	if _, err := p.signIn("bob"); !errors.Is(err, people.ErrNoRole) {
		t.Errorf("in no group: %v", err)
	}
	p.grant("watchers", auth.Auditor)
	if now, err := p.now(m); err != nil || !slices.Equal(now.Roles, []auth.Role{auth.Auditor, auth.Builder}) {
		t.Errorf("a role that came later: %+v %v", now, err)
	}
	if err := p.Revoke(t.Context(), localAdmin(), "corp", p.group("outer"), auth.Builder); err != nil {
		t.Fatal(err)
	}
	if now, err := p.now(m); err != nil || !slices.Equal(now.Roles, []auth.Role{auth.Auditor}) {
		t.Errorf("a role that was taken back: %+v %v", now, err)
	}
	if err := p.Revoke(t.Context(), localAdmin(), "corp", p.group("watchers"), auth.Auditor); err != nil {
		t.Fatal(err)
	}
	if _, err := p.now(m); !errors.Is(err, auth.ErrUnauthenticated) || !errors.Is(err, people.ErrNoRole) {
		t.Errorf("with no role left: %v", err)
	}
}

func TestTheServiceAccountsPasswordEntersTheLogSealedOnly(t *testing.T) {
	p := join(t)
	secret := p.slapd.BindPassword
	err := p.house.Store.View(t.Context(), store.Fresh, func(s store.Snapshot) error {
		for item, err := range s.Scan("", "") {
			if err != nil {
				return err
			}
			if strings.Contains(string(item.Value), secret) || strings.Contains(string(item.Key), secret) {
				t.Errorf("%q holds the password", item.Key)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	list, err := p.List(t.Context(), localAdmin())
	if err != nil || len(list) != 1 || list[0].BindPassword != "" {
		t.Errorf("%+v %v", list, err)
	}
}

// What was taken from somebody in the directory counts at the next look, and
// ends the sessions of accounts that are no more.
func TestWhatTheDirectoryTakesAwayCounts(t *testing.T) {
	p := join(t)
	p.grant("inner", auth.Asker)
	p.grant("outer", auth.Builder)
	m, err := p.signIn("alice")
	if err != nil {
		t.Fatal(err)
	}
	look := func() map[string]directory.State {
		t.Helper()
		over, err := p.Refresh(t.Context(), []string{m.ID})
		if err != nil {
			t.Fatal(err)
		}
		return over
	}
	if over := look(); len(over) != 0 {
		t.Fatalf("nothing changed: %v", over)
	}
	p.slapd.Add(t, gn("outer"), "member", dn("bob"))
	p.slapd.Take(t, gn("outer"), "member", gn("inner"))
	look()
	if now, err := p.now(m); err != nil || !slices.Equal(now.Roles, []auth.Role{auth.Asker}) {
		t.Errorf("a group that was left through another group: %+v %v", now, err)
	}
	p.slapd.Rename(t, dn("alice"), "uid=alicia")
	if over := look(); len(over) != 0 {
		t.Errorf("renamed: %v", over)
	}
	p.slapd.Delete(t, "uid=alicia,dc=example,dc=org")
	if over := look(); over[m.ID] != "gone" {
		t.Errorf("deleted: %v", over)
	}
	if _, err := p.now(m); !errors.Is(err, auth.ErrUnauthenticated) {
		t.Errorf("deleted: %v", err)
	}
}

// A directory that does not answer changes nothing, says so, and lets nobody go on
// for longer than is written.
func TestDidNotAnswerIsNeverGone(t *testing.T) {
	p := join(t)
	p.grant("inner", auth.Asker)
	m, err := p.signIn("alice")
	if err != nil {
		t.Fatal(err)
	}
	p.slapd.Stop()
	for range 2 {
		if over, err := p.Refresh(t.Context(), []string{m.ID}); err != nil || len(over) != 0 {
			t.Fatalf("%v %v", over, err)
		}
	}
	if now, err := p.now(m); err != nil || len(now.Roles) != 1 {
		t.Errorf("%+v %v", now, err)
	}
	status, err := p.Status(t.Context())
	if err != nil || status["corp"].Silent.IsZero() || status["corp"].Why == "" {
		t.Errorf("%+v %v", status, err)
	}
	p.clock.Add(int64(people.Unheard/time.Second) + 1)
	if _, err := p.now(m); !errors.Is(err, auth.ErrUnauthenticated) || !strings.Contains(err.Error(), "has not answered for 4 hours") {
		t.Errorf("after %v: %v", people.Unheard, err)
	}
}

// A service account that may see nobody any more makes nobody disappear.
func TestAnEmptyDirectoryIsNoAnswer(t *testing.T) {
	p := join(t)
	p.grant("inner", auth.Asker)
	m, err := p.signIn("alice")
	if err != nil {
		t.Fatal(err)
	}
	for _, uid := range []string{"ada", "alice", "bob"} {
		p.slapd.Delete(t, dn(uid))
	}
	if over, err := p.Refresh(t.Context(), []string{m.ID}); err != nil || len(over) != 0 {
		t.Errorf("%v %v", over, err)
	}
	if _, err := p.now(m); err != nil {
		t.Error(err)
	}
}

func TestWhoIsLeftIsSignedOutAndAnotherOfTheNameIsAnother(t *testing.T) {
	p := join(t)
	p.grant("inner", auth.Asker)
	m, err := p.signIn("alice")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Remove(t.Context(), localAdmin(), "corp"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.now(m); !errors.Is(err, auth.ErrUnauthenticated) {
		t.Errorf("%v", err)
	}
	if _, err := p.Add(t.Context(), localAdmin(), p.config("corp"), false); err != nil {
		t.Fatal(err)
	}
	if list, err := p.List(t.Context(), localAdmin()); err != nil || len(list[0].Grants) != 0 {
		t.Errorf("its groups give roles again: %+v %v", list, err)
	}
	p.grant("inner", auth.Asker)
	if _, err := p.signIn("alice"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.now(m); !errors.Is(err, auth.ErrUnauthenticated) {
		t.Errorf("a session of the directory that was left: %v", err)
	}
}

func TestNamesThatCarryTheirDirectory(t *testing.T) {
	p := join(t)
	p.clock.Add(10)
	if _, err := p.Add(t.Context(), localAdmin(), p.config("ad-2"), false); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"alice": "alice@corp", "alice@corp": "alice@corp", `corp\alice`: "alice@corp", `ad-2\alice`: "alice@ad-2", "alice@ad-2": "alice@ad-2",
		"alice@example.org": "alice@example.org@corp", "alice@example.org@ad-2": "alice@example.org@ad-2", `other\alice`: `other\alice@corp`, "@corp": "@corp@corp",
	} {
		if a, ok, err := p.Whose(t.Context(), name); err != nil || !ok || a.String() != want {
			t.Errorf("%q is %s, want %s (%v)", name, a, want, err)
		}
	}
}

func TestAConnectionThatDoesNotWorkIsNotJoinedUnlessAsked(t *testing.T) {
	p := join(t)
	c := p.config("second")
	c.Servers = []string{"ldaps://127.0.0.1:1"}
	report, err := p.Add(t.Context(), localAdmin(), c, false)
	if !errors.Is(err, people.ErrUntested) || report.OK() || len(report.Steps) == 0 {
		t.Errorf("%+v %v", report, err)
	}
	if _, err := p.Add(t.Context(), localAdmin(), c, true); err != nil {
		t.Error(err)
	}
	if _, err := p.Add(t.Context(), localAdmin(), p.config("corp"), false); !errors.Is(err, people.ErrExists) {
		t.Errorf("joined twice: %v", err)
	}
	if report, err := p.TestJoined(context.Background(), localAdmin(), "corp", "Alice@CORP"); err != nil || !report.OK() || report.Person == nil {
		t.Errorf("%+v %v", report, err)
	}
}
