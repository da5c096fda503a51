package policy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/storetest"
)

func open(t testing.TB) (*Policies, store.Store) {
	t.Helper()
	st := storetest.NewModel(nil)
	p, err := New(context.Background(), st, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Seed(context.Background()); err != nil {
		t.Fatal(err)
	}
	return p, st
}

func put(t testing.TB, p *Policies, st store.Store, text string) string {
	t.Helper()
	tx := store.NewTx()
	id, err := p.Put(tx, text)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Apply(context.Background(), tx); err != nil {
		t.Fatal(err)
	}
	return id
}

func person(roles ...auth.Role) auth.Principal {
	return auth.Principal{Kind: auth.User, ID: "u-1", Roles: roles}
}

func TestANewForbidAppliesToTheNextCall(t *testing.T) {
	p, st := open(t)
	ask := func() bool { return p.Decide(person(auth.Asker), auth.Ask, auth.TheSystem, nil).Allow }
	if !ask() {
		t.Fatal("a user may not ask at first")
	}
	id := put(t, p, st, `@id("no-questions-today") forbid (principal, action == Action::"ask", resource);`)
	if ask() {
		t.Fatal("the call after the forbid was permitted")
	}
	tx := store.NewTx()
	if err := p.Remove(tx, id); err != nil {
		t.Fatal(err)
	}
	if ask() {
		t.Fatal("a removal that is not applied counts already")
	}
	if _, err := st.Apply(context.Background(), tx); err != nil {
		t.Fatal(err)
	}
	if !ask() {
		t.Fatal("the call after the removal was refused")
	}
}

func TestPutRefusesInOneSentenceWithTheLine(t *testing.T) {
	p, _ := open(t)
	for name, c := range map[string]struct{ text, want string }{
		"syntax":         {"@id(\"x\")\npermit (principal, action resource);", "line 2, column"},
		"no id":          {`permit (principal, action, resource);`, `line 1: begin it with @id`},
		"unknown action": {"\n\n@id(\"x\") permit (principal, action == Action::\"asks\", resource);", "line 3: unrecognized action"},
		"unknown type":   {`@id("x") forbid (principal is Person, action, resource);`, "Person"},
		"unknown role":   {`@id("x") forbid (principal in Role::"adminstrator", action, resource);`, `no role "adminstrator"`},
		"role in when":   {`@id("x") forbid (principal is User, action, resource) when { principal in [Role::"auditr"] };`, `no role "auditr"`},
		"unknown fact":   {`@id("x") forbid (principal, action, resource) when { context.colour == "red" };`, "colour"},
		"unsafe fact":    {`@id("x") forbid (principal, action, resource) when { context.agent == "a" };`, "agent"},
		"annotation":     {`@id("x") @obligations("approve") permit (principal, action, resource);`, "no annotation @obligations"},
		"two":            {`@id("x") permit (principal, action, resource); @id("y") permit (principal, action, resource);`, "2 policies"},
		"reserved id":    {`@id("default-deny") permit (principal, action, resource);`, "begin it with"},
	} {
		t.Run(name, func(t *testing.T) {
			tx := store.NewTx()
			_, err := p.Put(tx, c.text)
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("error %q, want one line with %q", err, c.want)
			}
			if tx.Len() != 0 {
				t.Fatal("a refused policy entered the transaction")
			}
			t.Log(err)
		})
	}
}

// A policy can speak of a group of the directory: whoever the directory says is
// in it, and nobody else.
func TestAPolicyCanSpeakOfAGroup(t *testing.T) {
	p, st := open(t)
	const team, other = "corp/0e6bd2a5-6d0c-4a3a-9c52-2f7b1d9a5b11", "corp/9a1d7c39-0f5e-4b77-8a34-5d1e6f2c8b22"
	put(t, p, st, `@id("team-leaves-it") forbid (principal in Group::"`+team+`", action == Action::"ask", resource);`)
	ask := func(groups ...string) bool {
		who := person(auth.Asker)
		who.Groups = groups
		return p.Decide(who, auth.Ask, auth.TheSystem, nil).Allow
	}
	if !ask() || !ask(other) || ask(team) || ask(other, team) {
		t.Errorf("nobody's %t, another's %t, the team's %t, both %t", ask(), ask(other), ask(team), ask(other, team))
	}
	for _, wrong := range []string{"Finance", "corp/finance", "Corp/0e6bd2a5-6d0c-4a3a-9c52-2f7b1d9a5b11", "0e6bd2a5-6d0c-4a3a-9c52-2f7b1d9a5b11"} {
		if _, err := p.Put(store.NewTx(), `@id("x") permit (principal in Group::"`+wrong+`", action, resource);`); err == nil {
			t.Errorf("%q was taken for a group", wrong)
		}
	}
}

// Somebody in very many groups is decided on like anybody else.
func TestSomebodyInThousandsOfGroups(t *testing.T) {
	p, _ := open(t)
	who := person(auth.Asker)
	for i := range 2048 {
		who.Groups = append(who.Groups, fmt.Sprintf("corp/%08x-0000-4000-8000-000000000000", i))
	}
	if !p.Decide(who, auth.Ask, auth.TheSystem, nil).Allow || p.Decide(who, auth.KeyManage, auth.TheSystem, nil).Allow {
		t.Error("groups changed what the role gives")
	}
}
