package directory_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/cloister-os/cloister/auth/directory"
	"github.com/cloister-os/cloister/auth/directory/directorytest"
)

// TestActiveDirectory asks a real domain controller: groups in groups by the
// token, every state of an account by its own number, names by either attribute.
func TestActiveDirectory(t *testing.T) {
	if why := directorytest.SambaReason(); why != "" {
		t.Skip(why)
	}
	if !directorytest.InNamespace(t) {
		return
	}
	s := directorytest.Samba(t, "../../build/samba")
	for _, url := range []string{s.LDAPS, s.StartTLS} {
		t.Run(url[:5], func(t *testing.T) { members(t, open(t, config(s, url))) })
	}
	t.Run("states", func(t *testing.T) { states(t, open(t, config(s))) })
	t.Run("together", func(t *testing.T) { together(t, open(t, config(s))) })
	t.Run("walk", func(t *testing.T) {
		r := open(t, config(s)).Test(t.Context(), "alice")
		if !r.OK() || r.Person == nil {
			t.Errorf("%+v", r)
		}
		for _, step := range r.Steps {
			t.Logf("%s: %s", step.What, step.Saw)
		}
	})
}

func members(t *testing.T, d *directory.Directory) {
	var id string
	for _, name := range []string{"alice", "ALICE", "alice@cloister.test", `CLOISTER\alice`, "  alice "} {
		p, err := login(t.Context(), d, name, directorytest.Password)
		if err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		if id == "" {
			id = p.ID
		}
		for _, group := range []string{"inner", "middle", "outer", "Domain Users"} {
			if !slices.Contains(names(p), group) {
				t.Errorf("%q: not in %s but in %v", name, group, names(p))
			}
		}
		if p.ID != id || p.Login != "alice" || slices.Contains(names(p), "others") {
			t.Errorf("%q is %+v", name, p)
		}
	}
	groups, more, err := d.Groups(t.Context(), "midd", 10)
	if err != nil || more || len(groups) != 1 || groups[0].Name != "middle" {
		t.Errorf("%v %t %v", groups, more, err)
	}
}

// together asks about several people at once, as of the second time from what is
// remembered of security identifiers.
func together(t *testing.T, d *directory.Directory) {
	var ids []string
	for _, name := range []string{"alice", "bob", "frank"} {
		p, err := d.Find(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, p.ID)
	}
	for range 2 {
		all, err := d.Refresh(t.Context(), append(ids, "00000000-0000-0000-0000-000000000000"))
		if err != nil || len(all) != len(ids) || all[ids[1]].State != directory.Disabled {
			t.Fatalf("%+v %v", all, err)
		}
		for _, id := range ids {
			alone, err := d.Lookup(t.Context(), id)
			if err != nil || !slices.Equal(names(alone), names(all[id])) {
				t.Errorf("together %v, alone %v %v", names(all[id]), names(alone), err)
			}
		}
		if g := all[ids[0]].Groups; !slices.ContainsFunc(g, func(g directory.Group) bool { return g.Name == "outer" }) {
			t.Errorf("through groups in groups: %v", g)
		}
	}
	groups, _, err := d.Groups(t.Context(), "outer", 2)
	if err != nil || len(groups) != 1 {
		t.Fatal(groups, err)
	}
	if g, err := d.Group(t.Context(), groups[0].ID); err != nil || g.Name != "outer" {
		t.Errorf("by its id: %+v %v", g, err)
	}
	if _, err := d.Group(t.Context(), "00000000-0000-0000-0000-000000000000"); !errors.Is(err, directory.ErrGone) {
		t.Errorf("no such group: %v", err)
	}
}

func states(t *testing.T, d *directory.Directory) {
	for range 4 {
		_, _ = login(t.Context(), d, "eve", "wrong")
	}
	for _, c := range []struct {
		name, password string
		want           directory.State
	}{
		{"alice", "wrong", directory.WrongPassword},
		{"nobody", directorytest.Password, directory.Unknown},
		{"bob", directorytest.Password, directory.Disabled},
		{"carol", directorytest.Password, directory.Expired},
		{"dave", directorytest.Password + "y", directory.MustChange},
		{"eve", directorytest.Password, directory.Locked},
	} {
		_, err := login(t.Context(), d, c.name, c.password)
		var refused *directory.RefusedError
		if !errors.As(err, &refused) || refused.State != c.want {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
		if c.want == directory.WrongPassword || c.want == directory.Unknown {
			continue
		}
		p, err := d.Find(t.Context(), c.name)
		if err != nil || p.State != c.want {
			t.Errorf("%s without a password: %+v %v", c.name, p, err)
		}
	}
}
