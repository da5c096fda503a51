package session

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard/guardtest"
	"github.com/cloister-os/cloister/store"
)

func TestAKeyWorksUntilItIsRevoked(t *testing.T) {
	p := newPlace(t)
	key, secret, err := p.CreateKey(t.Context(), guardtest.Admin(), KeySpec{Name: " ci  bot ", Scopes: []string{"ask", "ask"}, Sources: []string{"wiki"}})
	if err != nil {
		t.Fatal(err)
	}
	who, err := p.Authenticate(bearer(secret))
	if err != nil || who.Kind != auth.APIKey || who.ID != key.ID || !slices.Equal(who.Scopes, []string{"ask"}) || !slices.Equal(who.Sources, []string{"wiki"}) || who.Name != "ci bot" {
		t.Fatalf("%+v %v", who, err)
	}
	if !auth.HoldsSecret(secret) || !auth.HoldsSecret("x"+secret[:len(secret)-30]+"y") {
		t.Error("a key is not recognised as a secret")
	}
	for _, bad := range []string{secret[:len(secret)-1], secret + "A", strings.ToLower(secret), "cl_" + key.ID + "_", "cl_" + strings.Repeat("a", 16) + secret[19:], "cl_", "", "nonsense"} {
		if _, err := p.Authenticate(bearer(bad)); !errors.Is(err, auth.ErrUnauthenticated) || (bad != "" && strings.Contains(err.Error(), bad)) {
			t.Errorf("%.10s: %v", bad, err)
		}
	}
	list, err := p.ListKeys(t.Context(), guardtest.Admin())
	if err != nil || len(list) != 1 || list[0].ID != key.ID || list[0].Owner != "u-admin" {
		t.Errorf("%+v %v", list, err)
	}
	if err := p.RevokeKey(t.Context(), guardtest.Admin(), key.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Authenticate(bearer(secret)); !errors.Is(err, auth.ErrUnauthenticated) {
		t.Errorf("a revoked key: %v", err)
	}
	if err := p.RevokeKey(t.Context(), guardtest.Admin(), key.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("revoked again: %v", err)
	}
	created := false
	for _, r := range p.house.Records(t) {
		created = created || (r.Action == auth.KeyManage && r.Detail["what"] == "create" && r.Detail["key"] == key.ID)
	}
	if !created {
		t.Error("the key's creation is not on record")
	}
}

func TestWhatWorksForSomeoneSeesTheirRightsOfNow(t *testing.T) {
	p := newPlace(t)
	admin, _ := p.setUp(t)
	key, secret, err := p.CreateKey(t.Context(), guardtest.Admin(), KeySpec{Name: "k", Scopes: []string{"ask"}, Sources: []string{"wiki"}})
	if err != nil {
		t.Fatal(err)
	}
	who, err := p.Authenticate(bearer(secret))
	if err != nil {
		t.Fatal(err)
	}
	stale := who
	stale.Scopes, stale.Sources = auth.Scopes(), []string{"hr"}
	now, err := p.Current(t.Context(), guardtest.AgentFor(stale))
	if err != nil || !slices.Equal(now.OnBehalfOf.Scopes, []string{"ask"}) || !slices.Equal(now.OnBehalfOf.Sources, []string{"wiki"}) {
		t.Errorf("%+v %v", now, err)
	}
	demoted := admin.User.Principal()
	demoted.Roles = nil
	if now, err := p.Current(t.Context(), demoted); err != nil || !slices.Equal(now.Roles, []auth.Role{auth.Administrator}) {
		t.Errorf("%+v %v", now, err)
	}
	if err := p.RevokeKey(t.Context(), guardtest.Admin(), key.ID); err != nil {
		t.Fatal(err)
	}
	loop := guardtest.AgentFor(who)
	loop.OnBehalfOf = &loop
	for _, gone := range []auth.Principal{who, guardtest.AgentFor(who), guardtest.Person("u-nobody"), {Kind: auth.Agent, ID: "a"}, {}, loop} {
		if _, err := p.Current(t.Context(), gone); !errors.Is(err, auth.ErrUnauthenticated) {
			t.Errorf("%s %s: %v", gone.Kind, gone.ID, err)
		}
	}
	if _, err := p.Current(t.Context(), guardtest.Node()); err != nil {
		t.Error(err)
	}
}

func TestAKeyExpires(t *testing.T) {
	p := newPlace(t)
	_, secret, err := p.CreateKey(t.Context(), guardtest.Admin(), KeySpec{Name: "k", Scopes: []string{"ask"}, TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	p.wait(time.Hour - time.Second)
	if _, err := p.Authenticate(bearer(secret)); err != nil {
		t.Error(err)
	}
	p.wait(time.Second)
	if _, err := p.Authenticate(bearer(secret)); !errors.Is(err, auth.ErrUnauthenticated) {
		t.Errorf("%v", err)
	}
}

func TestKeysAreManagedThroughTheGuard(t *testing.T) {
	p := newPlace(t)
	spec := KeySpec{Name: "k", Scopes: []string{"ask"}}
	for _, who := range []auth.Principal{guardtest.Asker(), guardtest.Auditor(), guardtest.KeyFor("wiki"), guardtest.AgentFor(guardtest.Admin())} {
		if _, _, err := p.CreateKey(t.Context(), who, spec); !errors.Is(err, auth.ErrDenied) {
			t.Errorf("%s: %v", who.ID, err)
		}
		if _, err := p.ListKeys(t.Context(), who); !errors.Is(err, auth.ErrDenied) {
			t.Errorf("%s: %v", who.ID, err)
		}
		if err := p.RevokeKey(t.Context(), who, "0123456789abcdef"); !errors.Is(err, auth.ErrDenied) {
			t.Errorf("%s: %v", who.ID, err)
		}
	}
	if n := count(t, p.house.Store, apiKeys.Prefix()); n != 0 {
		t.Errorf("%d keys were made", n)
	}
}

func TestAKeyMakesNoneWiderOrLongerThanItself(t *testing.T) {
	p := newPlace(t)
	_, secret, err := p.CreateKey(t.Context(), guardtest.Admin(), KeySpec{Name: "maker", Scopes: []string{"key", "ask"}, Sources: []string{"wiki"}, TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	maker, err := p.Authenticate(bearer(secret))
	if err != nil {
		t.Fatal(err)
	}
	for _, wider := range []KeySpec{{Name: "k", Scopes: []string{"audit"}}, {Name: "k", Scopes: []string{"ask"}, Sources: []string{"hr"}}} {
		_, _, err := p.CreateKey(t.Context(), maker, wider)
		var denied *auth.DeniedError
		if !errors.As(err, &denied) || !slices.Contains(denied.Policies, "keys-make-none-wider") {
			t.Errorf("%+v: %v", wider, err)
		}
	}
	key, _, err := p.CreateKey(t.Context(), maker, KeySpec{Name: "k", Scopes: []string{"ask"}, Sources: []string{"wiki"}})
	if err != nil || key.Expires.Unix() != p.clock.Load()+3600 {
		t.Errorf("%+v %v", key, err)
	}
}

func TestKeySpecsThatCannotBe(t *testing.T) {
	p := newPlace(t)
	for name, spec := range map[string]KeySpec{
		"no name":     {Scopes: []string{"ask"}},
		"control":     {Name: "a\x1b[2J", Scopes: []string{"ask"}},
		"no scope":    {Name: "k"},
		"scope":       {Name: "k", Scopes: []string{"admin"}},
		"source":      {Name: "k", Scopes: []string{"ask"}, Sources: []string{""}},
		"ttl":         {Name: "k", Scopes: []string{"ask"}, TTL: -time.Second},
		"ttl years":   {Name: "k", Scopes: []string{"ask"}, TTL: 10 * maxTTL},
		"key as name": {Name: "cl_0123456789abcdef_ABCDEFGHIJKLMNOP", Scopes: []string{"ask"}},
	} {
		if _, _, err := p.CreateKey(t.Context(), guardtest.Admin(), spec); !errors.Is(err, ErrKeySpec) && !errors.Is(err, ErrMisplacedKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
