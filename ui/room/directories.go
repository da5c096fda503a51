package room

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/directory"
	"github.com/cloister-os/cloister/auth/people"
	"github.com/cloister-os/cloister/ui"
	"github.com/cloister-os/cloister/ui/view"
)

type directories struct{ *Rooms }

var _ ui.Directories = directories{}

// seenGroups is how many groups a page shows.
const seenGroups = 50

// asInput makes what somebody can do something about a matter of the form.
func asInput(err error) error {
	for _, kind := range []error{
		people.ErrInvalid, people.ErrExists, people.ErrUntested, people.ErrLockOut, people.ErrOwn,
		directory.ErrNoAnswer, directory.ErrGone, directory.ErrAmbiguous, directory.ErrConfig, directory.ErrTooMany,
	} {
		if errors.Is(err, kind) {
			return &ui.InputError{Text: ui.Sentence(err)}
		}
	}
	return err
}

// List implements ui.Directories.
func (s directories) List(ctx context.Context, p auth.Principal) ([]view.Directory, error) {
	list, err := s.cfg.People.List(ctx, p)
	if err != nil {
		return nil, err
	}
	out := make([]view.Directory, 0, len(list))
	for i, j := range list {
		d := view.Directory{
			Name: j.Name, Base: j.Base, Servers: j.Servers, First: i == 0, Tone: view.Calm, State: "joined", People: j.Heard.People, Added: j.Added, ServiceName: j.BindDN,
		}
		switch h := j.Heard; {
		case !h.Silent.IsZero():
			d.Tone, d.State = view.Warn, "silent"
			d.Why = fmt.Sprintf("Not since %s. Who is signed in goes on with what it said last, until %s; nobody new can sign in by it.",
				h.Silent.Format(time.TimeOnly), h.Ends().Format(time.DateTime))
		case !h.At.IsZero():
			d.Tone, d.State = view.OK, "answers"
		}
		for _, g := range j.Grants {
			d.Roles = append(d.Roles, view.DirectoryRole{Group: g.Group, Name: g.Name, Role: string(g.Role), At: g.At})
		}
		out = append(out, d)
	}
	return out, nil
}

func specConfig(s ui.DirectorySpec) directory.Config {
	return directory.Config{
		Name: s.Name, Servers: s.Servers, CA: []byte(s.CA), BindDN: s.BindDN, BindPassword: s.Password, Base: s.Base, GroupBase: s.GroupBase,
		Kind: directory.Kind(s.Kind), Filter: s.Filter,
	}
}

// Add implements ui.Directories.
func (s directories) Add(ctx context.Context, p auth.Principal, spec ui.DirectorySpec) (*view.DirectoryReport, error) {
	r, err := s.cfg.People.Add(ctx, p, specConfig(spec), false)
	return showReport(r), asInput(err)
}

// Test implements ui.Directories.
func (s directories) Test(ctx context.Context, p auth.Principal, spec ui.DirectorySpec, person string) (*view.DirectoryReport, error) {
	if spec.Name == "" {
		spec.Name = "test"
	}
	r, err := s.cfg.People.Test(ctx, p, specConfig(spec), person)
	return showReport(r), asInput(err)
}

// TestJoined implements ui.Directories.
func (s directories) TestJoined(ctx context.Context, p auth.Principal, name, person string) (*view.DirectoryReport, error) {
	r, err := s.cfg.People.TestJoined(ctx, p, name, person)
	return showReport(r), asInput(err)
}

// Remove implements ui.Directories.
func (s directories) Remove(ctx context.Context, p auth.Principal, name string) error {
	return asInput(s.cfg.People.Remove(ctx, p, name))
}

// Groups implements ui.Directories.
func (s directories) Groups(ctx context.Context, p auth.Principal, name, text string) ([]view.DirectoryGroup, bool, error) {
	found, more, err := s.cfg.People.Groups(ctx, p, name, text, seenGroups)
	if err != nil {
		return nil, false, asInput(err)
	}
	joined, err := s.cfg.People.List(ctx, p)
	if err != nil {
		return nil, false, err
	}
	gives := map[string][]string{}
	for _, j := range joined {
		for _, g := range j.Grants {
			if j.Name == name {
				gives[g.Group] = append(gives[g.Group], string(g.Role))
			}
		}
	}
	out := showGroups(found)
	for i := range out {
		out[i].Gives = gives[out[i].ID]
	}
	return out, more, nil
}

// Grant implements ui.Directories.
func (s directories) Grant(ctx context.Context, p auth.Principal, name, group, role string) error {
	_, err := s.cfg.People.Grant(ctx, p, name, group, auth.Role(role))
	return asInput(err)
}

// Revoke implements ui.Directories.
func (s directories) Revoke(ctx context.Context, p auth.Principal, name, group, role string) error {
	return asInput(s.cfg.People.Revoke(ctx, p, name, group, auth.Role(role)))
}

func showGroups(list []directory.Group) []view.DirectoryGroup {
	out := make([]view.DirectoryGroup, 0, len(list))
	for _, g := range list {
		out = append(out, view.DirectoryGroup{ID: g.ID, Name: g.Name, DN: g.DN})
	}
	return out
}

// showReport is nil for a walk that did not begin.
func showReport(r directory.Report) *view.DirectoryReport {
	if len(r.Steps) == 0 {
		return nil
	}
	out := &view.DirectoryReport{OK: r.OK()}
	for _, s := range r.Steps {
		out.Steps = append(out.Steps, view.DirectoryStep{What: s.What, OK: s.OK, Saw: s.Saw, Next: s.Next})
	}
	if p := r.Person; p != nil {
		out.Person = &view.DirectoryPerson{Name: p.Name, Login: p.Login, DN: p.DN, State: string(p.State), Groups: showGroups(p.Groups)}
	}
	return out
}
