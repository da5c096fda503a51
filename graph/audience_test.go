package graph

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/store"
)

const finance, legal = "corp/0e6bd2a5-6d0c-4a3a-9c52-2f7b1d9a5b11", "corp/9a1d7c39-0f5e-4b77-8a34-5d1e6f2c8b22"

func TestAnAudienceIsKeptInOneForm(t *testing.T) {
	got, err := CheckAudience([]string{"role:user", " " + legal, "group:" + finance, "user", "person:u-ada", "u-ada", "person:" + legal})
	if want := []string{finance, legal, "u-ada", "user"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q %v, want %q", got, err, want)
	}
}

func TestAWrongAudienceIsRefusedInOneSentence(t *testing.T) {
	many := make([]string, MaxAudience+1)
	for i := range many {
		many[i] = "user"
	}
	for say, list := range map[string][]string{
		"who may read":         {},
		"at most 64":           many,
		`no role "finance"`:    {"finance"},
		`no role "u-x"`:        {"role:u-x"},
		"no group or person":   {"Corp/Finance"},
		"directory's own":      {"corp/finance"},
		`"user" is no group`:   {"group:user"},
		`no role ""`:           {""},
		"is no name of a role": {"cl_abcdefghijklmnop_ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHIJKLMNOPQRSTUVWXYZ"},
		"no role \"*\"":        {"*"},
		"(objectGUID":          {"corp/" + strings.Repeat("0", 40)},
	} {
		_, err := CheckAudience(list)
		if !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), say) {
			t.Errorf("%q: %v, want %q", list, err, say)
		}
	}
}

func TestWhoIsInAnAudience(t *testing.T) {
	person := func(id string, groups []string, roles ...auth.Role) auth.Principal {
		return auth.Principal{Kind: auth.User, ID: id, Groups: groups, Roles: roles}
	}
	agent := func(p auth.Principal) auth.Principal {
		return auth.Principal{Kind: auth.Agent, ID: "answer@1", OnBehalfOf: &p}
	}
	in, out := person("x", []string{legal, finance}, auth.Asker), person("y", []string{legal}, auth.Asker)
	for name, c := range map[string]struct {
		who      auth.Principal
		audience []string
		want     bool
	}{
		"of the group":               {in, []string{finance}, true},
		"an agent for them":          {agent(in), []string{finance}, true},
		"of another group":           {out, []string{finance}, false},
		"an agent for the other":     {agent(out), []string{finance}, false},
		"the person":                 {out, []string{"y"}, true},
		"somebody of the same name":  {person("z", nil, auth.Asker), []string{"y"}, false},
		"the role":                   {out, []string{"user"}, true},
		"a role above it":            {person("a", nil, auth.Administrator), []string{"user"}, true},
		"a role below it":            {out, []string{"administrator"}, false},
		"an administrator outside":   {person("a", nil, auth.Administrator), []string{finance}, false},
		"no role at all":             {person("n", nil), []string{"user"}, false},
		"of before, to anybody":      {out, nil, true},
		"a key, by its grant":        {auth.Principal{Kind: auth.APIKey, ID: "k"}, []string{finance}, true},
		"the node":                   {auth.Principal{Kind: auth.System, ID: "n1"}, []string{finance}, true},
		"an agent for nobody":        {auth.Principal{Kind: auth.Agent, ID: "answer@1"}, nil, false},
		"a group called like a role": {person("g", []string{"user"}), []string{"administrator"}, false},
	} {
		if got := inAudience(c.who, Source{Audience: c.audience}); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
