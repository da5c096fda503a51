package uitest

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/ui"
	"github.com/cloister-os/cloister/ui/view"
)

// directories are a domain in use, and one that does not answer.
func directories() []view.Directory {
	return []view.Directory{
		{
			Name: "corp", Base: "DC=meridian,DC=example", Servers: []string{"ldaps://dc1.meridian.example", "ldaps://dc2.meridian.example"}, First: true,
			Tone: view.OK, State: "answers", People: 148, Added: now.Add(-40 * 24 * time.Hour),
			Roles: []view.DirectoryRole{
				{Group: "7f0c1f5e-5a8e-4b47-9a52-0f6a4d3c2b11", Name: "Cloister Administrators", Role: "administrator", At: now.Add(-40 * 24 * time.Hour)},
				{Group: "0e6bd2a5-6d0c-4a3a-9c52-2f7b1d9a5b11", Name: "All Staff", Role: "user", At: now.Add(-39 * 24 * time.Hour)},
				{Group: "9a1d7c39-0f5e-4b77-8a34-5d1e6f2c8b22", Name: "Internal Audit", Role: "auditor", At: now.Add(-3 * time.Hour)},
			},
		},
		{
			Name: "partners", Base: "ou=people,dc=partners,dc=example", Servers: []string{"ldap://ldap.partners.example"}, Tone: view.Warn, State: "silent",
			Why: "Not since 08:12:40. Who is signed in goes on with what it said last, until 2026-03-04 12:12:36; nobody new can sign in by it.", Added: now.Add(-time.Hour),
		},
	}
}

type directoryRoom struct{ *World }

var _ ui.Directories = directoryRoom{}

func (r directoryRoom) List(context.Context, auth.Principal) ([]view.Directory, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.directories), r.may(auth.DirectoryManage)
}

func walked(ok bool) *view.DirectoryReport {
	out := &view.DirectoryReport{OK: ok, Steps: []view.DirectoryStep{
		{What: "reach dc1.meridian.example:636", OK: true, Saw: "connected from 10.20.0.11:50112 to 10.20.0.2:636"},
		{What: "trust dc1.meridian.example:636", OK: true, Saw: "TLS 1.3, certificate of CN=dc1.meridian.example signed by CN=Meridian Root CA, good until 2027-01-14"},
	}}
	if !ok {
		out.Steps = append(out.Steps, view.DirectoryStep{
			What: "sign in the service account at dc1.meridian.example:636", Saw: "the service account cannot sign in: Invalid Credentials (LDAP result 49)",
			Next: "check the account's DN and password, and that it is neither locked nor expired",
		})
		return out
	}
	out.Steps = append(out.Steps, view.DirectoryStep{What: "find people below DC=meridian,DC=example", OK: true, Saw: "people are there, each with an objectGUID (kind ad)"})
	out.Person = &view.DirectoryPerson{Name: "Ada Lindqvist", Login: "alindqvist", DN: "CN=Ada Lindqvist,OU=Staff,DC=meridian,DC=example", State: "active", Groups: foundGroups()}
	return out
}

func foundGroups() []view.DirectoryGroup {
	return []view.DirectoryGroup{
		{ID: "0e6bd2a5-6d0c-4a3a-9c52-2f7b1d9a5b11", Name: "All Staff", DN: "CN=All Staff,OU=Groups,DC=meridian,DC=example", Gives: []string{"user"}},
		{ID: "c1b7a5e2-2d0f-4f55-8f7e-93f4f1e0aa01", Name: "Finance", DN: "CN=Finance,OU=Groups,DC=meridian,DC=example"},
	}
}

func (r directoryRoom) Add(ctx context.Context, p auth.Principal, s ui.DirectorySpec) (*view.DirectoryReport, error) {
	report, err := r.Test(ctx, p, s, "")
	if err != nil {
		return nil, err
	}
	if !report.OK {
		return report, &ui.InputError{Text: "The connection does not work yet: see below the step that failed."}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.directories = append(r.directories, view.Directory{Name: s.Name, Base: s.Base, Servers: s.Servers, Tone: view.Calm, State: "joined", Added: now})
	return report, nil
}

func (r directoryRoom) Test(_ context.Context, _ auth.Principal, s ui.DirectorySpec, _ string) (*view.DirectoryReport, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.may(auth.DirectoryManage); err != nil {
		return nil, err
	}
	if !strings.Contains(s.CA, "BEGIN CERTIFICATE") {
		return nil, &ui.InputError{Field: "ca", Text: "Give the PEM certificate of the authority that signed the directory's certificates."}
	}
	return walked(s.Password != "wrong"), nil
}

func (r directoryRoom) TestJoined(_ context.Context, _ auth.Principal, name, _ string) (*view.DirectoryReport, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.may(auth.DirectoryManage); err != nil || r.joined(name) < 0 {
		return nil, cmp.Or(err, store.ErrNotFound)
	}
	return walked(true), nil
}

func (r directoryRoom) joined(name string) int {
	return slices.IndexFunc(r.directories, func(d view.Directory) bool { return d.Name == name })
}

func (r directoryRoom) Remove(_ context.Context, _ auth.Principal, name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := r.joined(name)
	if err := r.may(auth.DirectoryManage); err != nil || i < 0 {
		return cmp.Or(err, store.ErrNotFound)
	}
	r.directories = slices.Delete(slices.Clone(r.directories), i, i+1)
	return nil
}

func (r directoryRoom) Groups(_ context.Context, _ auth.Principal, _, text string) ([]view.DirectoryGroup, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []view.DirectoryGroup
	for _, g := range foundGroups() {
		if strings.Contains(strings.ToLower(g.Name), strings.ToLower(text)) {
			out = append(out, g)
		}
	}
	return out, text == "", r.may(auth.DirectoryManage)
}

func (r directoryRoom) Grant(_ context.Context, _ auth.Principal, _, group, role string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.may(auth.DirectoryManage); err != nil {
		return err
	}
	if role == "auditor" {
		return &ui.InputError{Text: "Nobody makes themselves auditor or approver, and you are in this group yourself: have another administrator do it."}
	}
	if !slices.ContainsFunc(foundGroups(), func(g view.DirectoryGroup) bool { return g.ID == group }) {
		return store.ErrNotFound
	}
	return nil
}

func (r directoryRoom) Revoke(context.Context, auth.Principal, string, string, string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.may(auth.DirectoryManage)
}
