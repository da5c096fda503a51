package room

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/graph/connect"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/ui"
	"github.com/cloister-os/cloister/ui/view"
)

type access struct{ *Rooms }

var _ ui.Access = access{}

// List implements ui.Access.
func (s access) List(ctx context.Context, p auth.Principal) (view.Access, error) {
	all, err := s.cfg.Sources.Readers(ctx, p)
	if err != nil {
		return view.Access{}, err
	}
	out := view.Access{Keys: all.Keys}
	for _, r := range all.Sources {
		out.Sources = append(out.Sources, showAccess(r))
		if r.Nobody {
			out.Hidden = append(out.Hidden, hidden(r.Source.Name, r.Records, true))
		}
	}
	for _, h := range all.Orphans {
		out.Hidden = append(out.Hidden, hidden(h.Source, h.Records, false))
	}
	return out, nil
}

func hidden(source string, n int64, there bool) view.Hidden {
	return view.Hidden{Source: source, There: there, Records: view.Number{Name: "records", Value: n, AtLeast: n == connect.MaxHidden}}
}

// Get implements ui.Access.
func (s access) Get(ctx context.Context, p auth.Principal, source string) (view.SourceAccess, error) {
	r, groups, err := s.cfg.Sources.ReadersOf(ctx, p, source)
	if err != nil {
		return view.SourceAccess{}, err
	}
	out := showAccess(r)
	out.Groups = choices(groups)
	return out, nil
}

// Groups implements ui.Access.
func (s access) Groups(ctx context.Context, p auth.Principal) ([]view.Choice, error) {
	all, err := s.cfg.Sources.Readers(ctx, p)
	if errors.Is(err, auth.ErrDenied) {
		return nil, nil
	}
	return choices(all.Groups), err
}

// choices are groups by name, each with the directory that it is of.
func choices(groups map[string]connect.Group) []view.Choice {
	var out []view.Choice
	for id, g := range groups {
		dir, _, _ := strings.Cut(id, "/")
		out = append(out, view.Choice{Value: id, Text: g.Name, Hint: "A group of the directory " + dir + "."})
	}
	slices.SortFunc(out, func(a, b view.Choice) int { return strings.Compare(a.Text+a.Value, b.Text+b.Value) })
	return out
}

// Set implements ui.Access.
func (s access) Set(ctx context.Context, p auth.Principal, source string, audience []string) error {
	_, err := s.cfg.Sources.SetAudience(ctx, p, source, audience)
	err = connect.RefusedFirst(ctx, s.cfg.Door, p, auth.SourceManage, source, err)
	if err == nil || errors.Is(err, store.ErrNotFound) {
		return err
	}
	return forPerson("audience", err)
}

func showAccess(r connect.Readers) view.SourceAccess {
	out := view.SourceAccess{
		Source: r.Source.Name, Kind: r.Source.Kind, Path: r.Source.Path, Audience: r.Source.Audience, Everyone: r.Everyone, Nobody: r.Nobody,
	}
	for _, x := range r.Readers {
		v := view.Reader{Kind: string(x.Kind), ID: x.ID, Name: x.Name, Reads: x.Reads, Policies: x.Policies}
		for _, role := range x.Roles {
			v.Roles = append(v.Roles, string(role))
		}
		out.Readers = append(out.Readers, v)
	}
	return out
}
