package directory_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-os/cloister/auth/directory"
	"github.com/cloister-os/cloister/auth/directory/directorytest"
)

// Asking about everybody at once says of each what asking about them alone says.
func TestRefreshSaysOfEachWhatLookupSays(t *testing.T) {
	var b strings.Builder
	var dns []string
	for i := range 230 {
		b.WriteString(directorytest.PersonEntry(fmt.Sprintf("p-%03d", i)))
		dns = append(dns, dn(fmt.Sprintf("p-%03d", i)))
	}
	b.WriteString(people() + directorytest.PersonEntry("zed"))
	b.WriteString(directorytest.GroupEntry("all", append(dns, gn("ring-b"))...))
	b.WriteString(directorytest.GroupEntry("ring-a", gn("all"), gn("ring-b")))
	b.WriteString(directorytest.GroupEntry("ring-b", gn("ring-a"), dn("p-007")))
	s := slapd(t, b.String())
	d := open(t, config(s))
	var ids []string
	for _, name := range []string{"alice", "bob", "a*)(uid=*", "zed"} {
		p, err := d.Find(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, p.ID)
	}
	for i := range 230 {
		p, err := d.Find(t.Context(), fmt.Sprintf("p-%03d", i))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, p.ID)
	}
	all, err := d.Refresh(t.Context(), ids)
	if err != nil || len(all) != len(ids) {
		t.Fatalf("%d of %d: %v", len(all), len(ids), err)
	}
	for _, id := range append(ids[:4:4], ids[4], ids[11]) {
		alone, err := d.Lookup(t.Context(), id)
		if err != nil || !slices.Equal(names(alone), names(all[id])) || alone.DN != all[id].DN || alone.State != all[id].State {
			t.Errorf("together %+v, alone %+v %v", all[id], alone, err)
		}
	}
	if got := names(all[ids[4]]); !slices.Equal(got, []string{"all", "ring-a", "ring-b"}) {
		t.Errorf("through a ring of groups: %v", got)
	}
	s.Delete(t, dn("p-000"))
	if all, err = d.Refresh(t.Context(), ids); err != nil || len(all) != len(ids)-1 || all[ids[4]].ID != "" {
		t.Errorf("%d of %d after one was deleted: %v", len(all), len(ids), err)
	}
	s.Stop()
	if all, err = d.Refresh(t.Context(), ids); !errors.Is(err, directory.ErrNoAnswer) || len(all) != 0 {
		t.Errorf("with no server: %d, %v", len(all), err)
	}
}

// A server that sends the searcher elsewhere is not followed there, and whoever
// might be there is nobody here.
func TestReferralsAreNotFollowed(t *testing.T) {
	address, count := dials(t)
	s := slapd(t, people()+directorytest.Entry("ou=elsewhere,dc=example,dc=org", "objectClass: referral", "objectClass: extensibleObject",
		"ou: elsewhere", "ref: ldap://"+address+"/ou=elsewhere,dc=example,dc=org"))
	d := open(t, config(s))
	var refused *directory.RefusedError
	if _, err := d.Find(t.Context(), "zoe"); !errors.As(err, &refused) || refused.State != directory.Unknown {
		t.Errorf("somebody elsewhere: %v", err)
	}
	if p, err := login(t.Context(), d, "alice", directorytest.Password); err != nil || len(p.Groups) != 4 {
		t.Errorf("somebody here: %+v %v", p, err)
	}
	if _, _, err := d.Groups(t.Context(), "", 10); err != nil {
		t.Error(err)
	}
	if n := count.Load(); n != 0 {
		t.Errorf("%d connections were made elsewhere", n)
	}
}
