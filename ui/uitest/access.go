package uitest

import (
	"context"
	"slices"
	"strings"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/ui"
	"github.com/cloister-os/cloister/ui/view"
)

// A group of the bank's directory.
const riskTeam = "meridian/0e6bd2a5-6d0c-4a3a-9c52-2f7b1d9a5b11"

type accessRoom struct{ *World }

var _ ui.Access = accessRoom{}

func (r accessRoom) List(context.Context, auth.Principal) (view.Access, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := view.Access{Keys: true}
	for _, s := range r.sources {
		a := r.of(s)
		out.Sources = append(out.Sources, a)
		if a.Nobody {
			out.Hidden = append(out.Hidden, view.Hidden{Source: s.Name, There: true, Records: view.Number{Name: "records", Value: 1321}})
		}
	}
	if len(r.sources) > 0 {
		out.Hidden = append(out.Hidden, view.Hidden{Source: "old-wiki", Records: view.Number{Name: "records", Value: 10_000, AtLeast: true}})
	}
	return out, r.may(auth.AccessRead)
}

func (r accessRoom) of(s view.Source) view.SourceAccess {
	out := view.SourceAccess{Source: s.Name, Kind: s.Kind, Path: s.Path, Audience: s.Audience, Everyone: len(s.Audience) == 0}
	named := s.Audience
	if out.Everyone {
		named = []string{"administrator", "builder", "user", "approver"}
	}
	for _, entry := range named {
		x := view.Reader{Kind: string(graph.KindOfReader(entry)), ID: entry, Reads: true, Policies: []string{"people-ask"}}
		if entry == riskTeam {
			x.Name = "Risk Control"
		} else if strings.Contains(entry, "/") {
			x.Roles = []string{"user"}
		}
		if entry == "auditor" {
			x.Reads, x.Policies = false, []string{"default-deny"}
		}
		out.Readers = append(out.Readers, x)
	}
	for _, k := range r.keys {
		if slices.Contains(k.Sources, s.Name) {
			out.Readers = append(out.Readers, view.Reader{Kind: "key", ID: k.ID, Name: k.Name, Reads: true, Policies: []string{"keys-within-scope"}})
		}
	}
	out.Nobody = !slices.ContainsFunc(out.Readers, func(x view.Reader) bool { return x.Reads })
	return out
}

func (r accessRoom) Get(_ context.Context, _ auth.Principal, source string) (view.SourceAccess, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.may(auth.AccessRead); err != nil {
		return view.SourceAccess{}, err
	}
	i := slices.IndexFunc(r.sources, func(s view.Source) bool { return s.Name == source })
	if i < 0 {
		return view.SourceAccess{}, store.ErrNotFound
	}
	out := r.of(r.sources[i])
	out.Groups = knownGroups()
	return out, nil
}

func (r accessRoom) Set(_ context.Context, _ auth.Principal, source string, audience []string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.may(auth.SourceManage); err != nil {
		return err
	}
	for i := range r.sources {
		if r.sources[i].Name == source {
			r.sources[i].Audience = audience
			return nil
		}
	}
	return store.ErrNotFound
}

func knownGroups() []view.Choice {
	return []view.Choice{
		{Value: riskTeam, Text: "Risk Control", Hint: "A group of the directory meridian."},
		{Value: "meridian/9a1d7c39-0f5e-4b77-8a34-5d1e6f2c8b22", Text: "All staff", Hint: "A group of the directory meridian."},
	}
}

func (r accessRoom) Groups(context.Context, auth.Principal) ([]view.Choice, error) {
	return knownGroups(), nil
}
