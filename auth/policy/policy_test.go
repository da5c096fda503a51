package policy

import (
	"context"
	"errors"
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
