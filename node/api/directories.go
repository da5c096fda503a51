package api

import (
	"context"
	"net/http"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/directory"
	"github.com/cloister-os/cloister/auth/people"
	"github.com/cloister-os/cloister/node/api/wire"
)

type directoryInput struct {
	Name string `path:"name" maxLength:"40"`
}

type directoryRoleInput struct {
	Name string `path:"name" maxLength:"40"`
	Body wire.NewDirectoryRole
}

var errNoDirectories = problem(http.StatusServiceUnavailable, "This node knows no directories.", "")

// withPeople registers an operation on the directories.
func withPeople[I, O any](a *API, method, path, id, summary string, status int, f func(context.Context, *people.Service, auth.Principal, *I) (*O, error)) {
	op := operation(method, path, id, summary)
	op.DefaultStatus = status
	handle(a, op, func(ctx context.Context, p auth.Principal, in *I) (*O, error) {
		if a.cfg.People == nil {
			return nil, errNoDirectories
		}
		return f(ctx, a.cfg.People, p, in)
	})
}

func (a *API) directoryRoutes() {
	const at = "/api/v1/directories"
	withPeople(a, http.MethodGet, at, "list-directories", "The directories that were joined, and which of their groups gives which role", http.StatusOK,
		func(ctx context.Context, s *people.Service, p auth.Principal, _ *none) (*body[[]wire.Directory], error) {
			list, err := s.List(ctx, p)
			out := make([]wire.Directory, 0, len(list))
			for i, j := range list {
				out = append(out, wireDirectory(j, i == 0))
			}
			return &body[[]wire.Directory]{out}, err
		})
	withPeople(a, http.MethodPost, at, "add-directory", "Join a directory, after a test of the connection", http.StatusCreated,
		func(ctx context.Context, s *people.Service, p auth.Principal, in *body[wire.NewDirectory]) (*body[wire.DirectoryReport], error) {
			r, err := s.Add(ctx, p, directoryConfig(in.Body), in.Body.Anyway)
			return &body[wire.DirectoryReport]{wireReport(r)}, err
		})
	withPeople(a, http.MethodPost, at+"/test", "test-new-directory", "Walk the connection to a directory that need not be joined, step by step", http.StatusOK,
		func(ctx context.Context, s *people.Service, p auth.Principal, in *body[wire.TestDirectory]) (*body[wire.DirectoryReport], error) {
			r, err := s.Test(ctx, p, directoryConfig(in.Body.NewDirectory), in.Body.Person)
			return &body[wire.DirectoryReport]{wireReport(r)}, err
		})
	withPeople(a, http.MethodPost, at+"/{name}/test", "test-directory", "Walk the connection to a directory step by step", http.StatusOK,
		func(ctx context.Context, s *people.Service, p auth.Principal, in *struct {
			Name string `path:"name" maxLength:"40"`
			Body wire.DirectoryTest
		}) (*body[wire.DirectoryReport], error) {
			r, err := s.TestJoined(ctx, p, in.Name, in.Body.Person)
			return &body[wire.DirectoryReport]{wireReport(r)}, err
		})
	withPeople(a, http.MethodDelete, at+"/{name}", "remove-directory", "Leave a directory: its people are signed out, its groups give no roles", http.StatusNoContent,
		func(ctx context.Context, s *people.Service, p auth.Principal, in *directoryInput) (*none, error) {
			return nil, s.Remove(ctx, p, in.Name)
		})
	withPeople(a, http.MethodGet, at+"/{name}/groups", "list-directory-groups", "Groups of a directory whose name contains a text, by name", http.StatusOK,
		func(ctx context.Context, s *people.Service, p auth.Principal, in *struct {
			Name   string `path:"name" maxLength:"40"`
			Search string `query:"search" maxLength:"200"`
			Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
		}) (*body[wire.DirectoryGroups], error) {
			list, more, err := s.Groups(ctx, p, in.Name, in.Search, in.Limit)
			return &body[wire.DirectoryGroups]{wire.DirectoryGroups{Groups: wireGroups(list), More: more}}, err
		})
	withPeople(a, http.MethodPost, at+"/{name}/roles", "grant-directory-role", "Let a group give a role to whoever is in it", http.StatusOK,
		func(ctx context.Context, s *people.Service, p auth.Principal, in *directoryRoleInput) (*body[wire.DirectoryGroup], error) {
			g, err := s.Grant(ctx, p, in.Name, in.Body.Group, auth.Role(in.Body.Role))
			return &body[wire.DirectoryGroup]{wire.DirectoryGroup{ID: g.ID, Name: g.Name, DN: g.DN}}, err
		})
	withPeople(a, http.MethodDelete, at+"/{name}/roles/{group}/{role}", "revoke-directory-role", "Take a role back from a group", http.StatusNoContent,
		func(ctx context.Context, s *people.Service, p auth.Principal, in *struct {
			Name  string `path:"name" maxLength:"40"`
			Group string `path:"group" maxLength:"36"`
			Role  string `path:"role" maxLength:"20"`
		}) (*none, error) {
			return nil, s.Revoke(ctx, p, in.Name, in.Group, auth.Role(in.Role))
		})
}

func directoryConfig(d wire.NewDirectory) directory.Config {
	return directory.Config{
		Name: d.Name, Servers: d.Servers, CA: []byte(d.CA), BindDN: d.BindDN, BindPassword: d.BindPassword, Base: d.Base, GroupBase: d.GroupBase,
		Kind: directory.Kind(d.Kind), LoginAttrs: d.LoginAttrs, Filter: d.Filter,
	}
}

func wireDirectory(j people.Joined, first bool) wire.Directory {
	out := wire.Directory{
		Name: j.Name, Servers: j.Servers, BindDN: j.BindDN, Base: j.Base, GroupBase: j.GroupBase, Kind: string(j.Kind), LoginAttrs: j.LoginAttrs,
		Filter: j.Filter, First: first, Added: j.Added, Roles: []wire.DirectoryRole{}, DirectoryHeard: Heard(j.Heard),
	}
	for _, g := range j.Grants {
		out.Roles = append(out.Roles, wire.DirectoryRole{Group: g.Group, Name: g.Name, Role: string(g.Role), By: g.By, At: g.At})
	}
	return out
}

// Heard is how it goes with a directory, as clients read it.
func Heard(h people.Heard) wire.DirectoryHeard {
	out := wire.DirectoryHeard{People: h.People, SilentWhy: h.Why, TookMS: h.Took.Milliseconds()}
	known := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		return &t
	}
	out.Answered, out.SilentSince = known(h.At), known(h.Silent)
	return out
}

func wireGroups(list []directory.Group) []wire.DirectoryGroup {
	out := make([]wire.DirectoryGroup, 0, len(list))
	for _, g := range list {
		out = append(out, wire.DirectoryGroup{ID: g.ID, Name: g.Name, DN: g.DN})
	}
	return out
}

func wireReport(r directory.Report) wire.DirectoryReport {
	out := wire.DirectoryReport{OK: r.OK(), Steps: []wire.DirectoryStep{}}
	for _, s := range r.Steps {
		out.Steps = append(out.Steps, wire.DirectoryStep(s))
	}
	if p := r.Person; p != nil {
		out.Person = &wire.DirectoryPerson{ID: p.ID, Login: p.Login, Name: p.Name, DN: p.DN, State: string(p.State), Groups: wireGroups(p.Groups)}
	}
	return out
}
