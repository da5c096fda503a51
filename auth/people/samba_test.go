package people_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/directory"
	"github.com/cloister-os/cloister/auth/directory/directorytest"
	"github.com/cloister-os/cloister/auth/guard/guardtest"
	"github.com/cloister-os/cloister/auth/people"
)

// TestPeopleOfActiveDirectory follows people of a real domain: roles through groups
// in groups, one identity for every spelling, and what an administrator of the
// domain takes away.
func TestPeopleOfActiveDirectory(t *testing.T) {
	if why := directorytest.SambaReason(); why != "" {
		t.Skip(why)
	}
	if !directorytest.InNamespace(t) {
		return
	}
	p := &place{t: t, house: guardtest.Open(t, nil), slapd: directorytest.Samba(t, "../../build/samba")}
	p.open()
	p.grant("outer", auth.Builder)
	p.grant("others", auth.Asker)
	alice, err := p.signIn("alice")
	if err != nil || !slices.Equal(alice.Roles, []auth.Role{auth.Builder}) {
		t.Fatalf("%+v %v", alice, err)
	}
	for _, name := range []string{"ALICE", "alice@cloister.test", "alice@cloister.test ", `cloister\alice`, "  alice "} {
		canonical, ok := people.Canonical(name)
		if again, err := p.signIn(canonical); !ok || err != nil || again.ID != alice.ID {
			t.Errorf("%q is %+v %v", name, again, err)
		}
	}
	for name, want := range map[string]directory.State{"bob": directory.Disabled, "carol": directory.Expired} {
		var refused *directory.RefusedError
		if _, err := p.signIn(name); !errors.As(err, &refused) || refused.State != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	frank, err := p.signIn("frank")
	if err != nil {
		t.Fatal(err)
	}
	look := func() map[string]directory.State {
		t.Helper()
		over, err := p.Refresh(t.Context(), []string{alice.ID, frank.ID})
		if err != nil {
			t.Fatal(err)
		}
		return over
	}
	if over := look(); len(over) != 0 {
		t.Fatalf("nothing changed: %v", over)
	}
	directorytest.SambaTool(t, "group", "removemembers", "middle", "inner")
	directorytest.SambaTool(t, "user", "disable", "frank")
	if over := look(); len(over) != 1 || over[frank.ID] != directory.Disabled {
		t.Errorf("%v", over)
	}
	if _, err := p.now(alice); !errors.Is(err, people.ErrNoRole) {
		t.Errorf("a group that was left through another group: %v", err)
	}
	if _, err := p.now(frank); !errors.Is(err, auth.ErrUnauthenticated) {
		t.Errorf("disabled: %v", err)
	}
	directorytest.SambaTool(t, "user", "delete", "alice")
	if over := look(); over[alice.ID] != "gone" {
		t.Errorf("%v", over)
	}
}
