package people_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/audit"
	"github.com/cloister-os/cloister/auth/directory"
	"github.com/cloister-os/cloister/auth/directory/directorytest"
	"github.com/cloister-os/cloister/auth/guard/guardtest"
	"github.com/cloister-os/cloister/auth/people"
)

const own = "nobody-makes-themselves-auditor-or-approver"

// Whoever is in a group, directly or through others, by their account there or by
// one of the same name, does not make it give a role that watches over others; and
// every attempt is on record.
func TestNobodyMakesThemselvesAuditorOrApprover(t *testing.T) {
	p := join(t)
	p.grant("admins", auth.Administrator)
	ada := p.principal("ada")
	p.slapd.Create(t, strings.TrimSuffix(nested("above-admins", gn("admins")), "\n"))
	namesake := guardtest.Admin()
	namesake.Name = "ada"
	tried := 0
	for name, who := range map[string]auth.Principal{"their own account": ada, "a local account of the same name": namesake} {
		for _, group := range []string{"admins", "above-admins"} {
			for _, role := range []auth.Role{auth.Auditor, auth.Approver} {
				tried++
				_, err := p.Grant(t.Context(), who, "corp", p.group(group), role)
				if !errors.Is(err, people.ErrOwn) || !errors.Is(err, auth.ErrDenied) {
					t.Errorf("%s, %s → %s: %v", name, group, role, err)
				}
			}
		}
	}
	if n := p.refusals(own); n != tried {
		t.Errorf("%d of %d attempts are on record", n, tried)
	}
	if _, err := p.Grant(t.Context(), ada, "corp", p.group("watchers"), auth.Auditor); err != nil {
		t.Errorf("a group that she is not in: %v", err)
	}
	if _, err := p.Grant(t.Context(), localAdmin(), "corp", p.group("above-admins"), auth.Auditor); err != nil {
		t.Errorf("by somebody who is not in it: %v", err)
	}
}

func nested(cn string, members ...string) string {
	return "dn: " + gn(cn) + "\nobjectClass: groupOfNames\ncn: " + cn + "\nmember: " + strings.Join(members, "\nmember: ") + "\n\n"
}

// Whoever granted a role that watches over others, or joined the directory, does
// not get it by coming into the group later.
func TestWhoGrantedItGainsNothingByJoiningTheGroupLater(t *testing.T) {
	p := join(t)
	p.grant("admins", auth.Administrator)
	ada := p.principal("ada")
	if _, err := p.Grant(t.Context(), ada, "corp", p.group("watchers"), auth.Auditor); err != nil {
		t.Fatal(err)
	}
	p.slapd.Add(t, gn("watchers"), "member", dn("ada"))
	m, err := p.signIn("ada")
	if err != nil || slices.Contains(m.Roles, auth.Auditor) || !slices.Equal(m.Withheld, []auth.Role{auth.Auditor}) {
		t.Errorf("%+v %v", m, err)
	}
	if alice, err := p.signIn("alice"); err != nil || !slices.Contains(alice.Roles, auth.Auditor) {
		t.Errorf("somebody else in the group: %+v %v", alice, err)
	}
	p.slapd.Create(t, directorytest.PersonEntry("root")) // as the local account is called that joined the directory
	p.slapd.Add(t, gn("watchers"), "member", dn("root"))
	if root, err := p.signIn("root"); !errors.Is(err, people.ErrNoRole) || !slices.Equal(root.Withheld, []auth.Role{auth.Auditor}) {
		t.Errorf("whoever joined the directory is auditor by it: %+v %v", root, err)
	}
}

// An act that is not permitted whatever the policies say.
func TestNoPolicyLetsAnybodyElseSayWhoIsWho(t *testing.T) {
	p := join(t)
	p.grant("admins", auth.Administrator)
	group := p.group("admins")
	p.house.Put(t, `@id("everything") permit (principal, action, resource);`)
	for _, id := range []string{"keys-never", "agents-never-administer"} {
		p.house.Put(t, fmt.Sprintf("// Gone.\n@id(%q) forbid (principal, action, resource) when { false };", id))
	}
	admin := p.principal("ada")
	for name, who := range map[string]auth.Principal{
		"a key with all scopes": guardtest.Key(auth.Scopes()), "an agent of an administrator": guardtest.AgentFor(admin),
		"a builder": guardtest.Person("u-b", auth.Builder), "an auditor": guardtest.Auditor(), "the node": guardtest.Node(),
	} {
		_, err := p.Grant(t.Context(), who, "corp", group, auth.Auditor)
		if !errors.Is(err, auth.ErrDenied) {
			t.Errorf("%s grants: %v", name, err)
		}
		if err := p.Revoke(t.Context(), who, "corp", group, auth.Administrator); !errors.Is(err, auth.ErrDenied) {
			t.Errorf("%s revokes: %v", name, err)
		}
		if _, err := p.Add(t.Context(), who, p.config("theirs"), true); !errors.Is(err, auth.ErrDenied) {
			t.Errorf("%s joins: %v", name, err)
		}
		if err := p.Remove(t.Context(), who, "corp"); !errors.Is(err, auth.ErrDenied) {
			t.Errorf("%s leaves: %v", name, err)
		}
		if _, err := p.List(t.Context(), who); !errors.Is(err, auth.ErrDenied) {
			t.Errorf("%s lists: %v", name, err)
		}
		if _, _, err := p.Groups(t.Context(), who, "corp", "", 5); !errors.Is(err, auth.ErrDenied) {
			t.Errorf("%s looks at groups: %v", name, err)
		}
		if _, err := p.Test(t.Context(), who, p.config("theirs"), ""); !errors.Is(err, auth.ErrDenied) {
			t.Errorf("%s tests: %v", name, err)
		}
	}
	if n := p.refusals("only-administrators-in-person-manage-directories"); n != 5*7 {
		t.Errorf("%d refusals are on record", n)
	}
}

func TestTheLastAdministratorIsNotLockedOut(t *testing.T) {
	p := join(t)
	p.grant("admins", auth.Administrator)
	ada := p.principal("ada")
	admins := p.group("admins")
	p.local.Store(false) // nobody administers but by the directory
	if err := p.Revoke(t.Context(), ada, "corp", admins, auth.Administrator); !errors.Is(err, people.ErrLockOut) || !strings.Contains(err.Error(), "another group") {
		t.Errorf("her own: %v", err)
	}
	if err := p.Remove(t.Context(), ada, "corp"); !errors.Is(err, people.ErrLockOut) {
		t.Errorf("the directory: %v", err)
	}
	if m, err := p.signIn("ada"); err != nil || len(m.Roles) != 1 {
		t.Errorf("she is locked out: %+v %v", m, err)
	}
	p.slapd.Create(t, nested("more-admins", dn("ada")))
	if _, err := p.Grant(t.Context(), ada, "corp", p.group("more-admins"), auth.Administrator); err != nil {
		t.Fatal(err)
	}
	if err := p.Revoke(t.Context(), ada, "corp", admins, auth.Administrator); err != nil {
		t.Errorf("one of two that she is in: %v", err)
	}
	p.slapd.Stop()
	if err := p.Revoke(t.Context(), ada, "corp", p.moreAdmins(), auth.Administrator); err == nil {
		t.Error("revoked while nobody could tell")
	}
	p.local.Store(true)
	if err := p.Revoke(t.Context(), ada, "corp", p.moreAdmins(), auth.Administrator); err != nil {
		t.Errorf("with a local administrator: %v", err)
	}
}

// moreAdmins is the only group that gives a role, from the list: the directory may
// be down.
func (p *place) moreAdmins() string {
	p.t.Helper()
	list, err := p.List(p.t.Context(), localAdmin())
	if err != nil || len(list[0].Grants) != 1 || list[0].Grants[0].Name != "more-admins" {
		p.t.Fatalf("%+v %v", list, err)
	}
	return list[0].Grants[0].Group
}

// A role that watches over others is not granted while nobody can tell whether it
// is to oneself; a group that is not there gives nothing.
func TestAGrantThatNobodyCanCheckIsRefused(t *testing.T) {
	p := join(t)
	group := p.group("watchers")
	if _, err := p.Grant(t.Context(), localAdmin(), "corp", "00000000-0000-0000-0000-000000000000", auth.Asker); !errors.Is(err, directory.ErrGone) {
		t.Errorf("no such group: %v", err)
	}
	for _, wrong := range []string{"watchers", gn("watchers"), ""} {
		if _, err := p.Grant(t.Context(), localAdmin(), "corp", wrong, auth.Asker); !errors.Is(err, people.ErrInvalid) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
	if _, err := p.Grant(t.Context(), localAdmin(), "corp", group, "owner"); !errors.Is(err, people.ErrInvalid) {
		t.Errorf("no such role: %v", err)
	}
	p.slapd.Stop()
	if _, err := p.Grant(t.Context(), localAdmin(), "corp", group, auth.Auditor); !errors.Is(err, directory.ErrNoAnswer) {
		t.Errorf("no answer: %v", err)
	}
	for _, r := range p.house.Records(t) {
		if r.Kind == audit.Outcome && r.Status == "ok" && r.Detail["what"] == "grant" {
			t.Errorf("%+v", r)
		}
	}
}
