package people

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/audit"
	"github.com/cloister-os/cloister/auth/directory"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/schema"
)

// testWithin bounds a walk through all servers of a directory.
const testWithin = 90 * time.Second

// Joined is a directory that was joined, without its password.
type Joined struct {
	directory.Config // without BindPassword
	Added            time.Time
	By               string // id of who joined it
	Grants           []Grant
	Heard            Heard
}

// Heard says how it goes with asking a directory about the people who are signed
// in.
type Heard struct {
	At     time.Time // when it last answered for all of them; zero = never yet
	Silent time.Time // since when it does not; zero = it does
	Why    string
	People int           // how many are signed in
	Took   time.Duration // to ask about all of them
}

// Ends is when the sessions of the directory's people end, unless it answers.
func (h Heard) Ends() time.Time {
	if h.At.IsZero() {
		return h.Silent.Add(Unheard)
	}
	return h.At.Add(Unheard)
}

// WalkError is a walk through a connection that did not end well. It matches
// ErrUntested.
type WalkError struct{ Report directory.Report }

func (e *WalkError) Error() string {
	for _, s := range e.Report.Steps {
		if !s.OK {
			return fmt.Sprintf("%v: to %s: %s; %s", ErrUntested, s.What, s.Saw, s.Next)
		}
	}
	return ErrUntested.Error()
}

// Is makes errors.Is(err, ErrUntested) true.
func (e *WalkError) Is(target error) bool { return target == ErrUntested }

// Add joins a directory through the guard, after a walk through the connection
// that ended well; anyway joins it whatever the walk saw. No group of it gives a
// role yet. The report is of the walk.
func (s *Service) Add(ctx context.Context, p auth.Principal, c directory.Config, anyway bool) (directory.Report, error) {
	report, err := s.Test(ctx, p, c, "")
	if err != nil {
		return report, err
	}
	if !report.OK() && !anyway {
		return report, &WalkError{report}
	}
	row := directoryRow{
		V: 1, Made: strings.ToLower(rand.Text()), Servers: c.Servers, CA: c.CA, BindDN: c.BindDN, Base: c.Base, GroupBase: c.GroupBase,
		Kind: string(c.Kind), LoginAttrs: c.LoginAttrs, Filter: c.Filter, Added: s.cfg.Now().Unix(),
	}
	if row.Password, err = s.cfg.Sealer.Seal(aad(c.Name, row.Made), []byte(c.BindPassword)); err != nil {
		return report, fmt.Errorf("seal the password of the service account: %w", err)
	}
	if row.By, err = s.person(ctx, p); err != nil {
		return report, err
	}
	c.BindPassword = ""
	req := s.request(p, "add", c.Name, map[string]any{"servers": c.Servers, "base": c.Base, "tested": report.OK()})
	req.Args = c
	return report, s.change(ctx, req, func(u *store.Update) error {
		n := 0
		for _, err := range u.Snapshot.Scan(directories.Prefix(), "") {
			if n++; err != nil {
				return err
			}
		}
		if n >= MaxDirectories {
			return fmt.Errorf("%w: %d are joined already, remove one first", ErrInvalid, n)
		}
		if _, err := u.Get(directories.Key(c.Name)); !errors.Is(err, store.ErrNotFound) {
			return either(err, fmt.Errorf("%w: remove %s first, or choose another name", ErrExists, c.Name))
		}
		u.Put(directories.Key(c.Name), schema.MustEncode(row))
		return nil
	})
}

// check refuses settings that cannot work, and secrets where names belong.
func check(c directory.Config) error {
	words := strings.Join(append(append([]string{c.Name, string(c.CA), c.BindDN, c.Base, c.GroupBase, c.Filter}, c.Servers...), c.LoginAttrs...), "\n")
	if auth.HoldsSecret(words) {
		return fmt.Errorf("%w: an API key was given where a setting belongs; replace it, for it may have been seen", ErrInvalid)
	}
	if len(words) > 32<<10 || len(c.BindPassword) > 1024 {
		return fmt.Errorf("%w: the settings are longer than 32 KiB; give only the certificate that signed the servers' own", ErrInvalid)
	}
	if err := c.Check(); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}

// Remove leaves a directory through the guard: its people are signed out on every
// node, and its groups give no roles.
func (s *Service) Remove(ctx context.Context, p auth.Principal, name string) error {
	err := s.change(ctx, s.request(p, "remove", name, nil), func(u *store.Update) error {
		if _, err := u.Get(directories.Key(name)); err != nil {
			return fmt.Errorf("there is no directory %q: %w", name, err)
		}
		if err := s.lockOut(ctx, u, p, name, nil); err != nil {
			return err
		}
		u.Delete(directories.Key(name))
		u.Delete(grants.Key(name))
		u.Delete(heard.Key(name))
		return nil
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.open[name]; d != nil {
		delete(s.open, name)
		return d.Close()
	}
	return nil
}

// List lists the directories through the guard, in the order in which they were
// joined: the first is the one of names that carry no directory.
func (s *Service) List(ctx context.Context, p auth.Principal) ([]Joined, error) {
	var list []Joined
	req := s.request(p, "list", "", nil)
	if err := s.allowed(ctx, req); err != nil {
		return nil, err
	}
	err := s.cfg.Door.Read(ctx, req, func(ctx context.Context, _ *guard.Permit) (guard.Outcome, error) {
		err := s.cfg.Store.View(ctx, store.Local, func(snap store.Snapshot) (err error) {
			list, err = listed(snap)
			return err
		})
		return guard.Outcome{Usage: map[string]int64{"rows": int64(len(list))}}, err
	})
	return list, err
}

func listed(snap store.Snapshot) ([]Joined, error) {
	var list []Joined
	for item, err := range snap.Scan(directories.Prefix(), "") {
		if err != nil {
			return nil, err
		}
		var row directoryRow
		name, err := readNamed(item, &row)
		if err != nil {
			return nil, err
		}
		j := Joined{Config: row.config(name, ""), Added: unix(row.Added), By: row.By.ID}
		if j.Heard, err = heardOf(snap, name); err != nil {
			return nil, err
		}
		var given grantsRow
		if _, err := read(snap.Get, grants.Key(name), &given); err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
		for _, g := range given.Grants {
			j.Grants = append(j.Grants, Grant{Group: g.Group, Name: g.Name, Role: g.Role, By: g.By.ID, At: unix(g.At)})
		}
		list = append(list, j)
	}
	slices.SortStableFunc(list, func(a, b Joined) int { return a.Added.Compare(b.Added) })
	return list, nil
}

func heardOf(snap store.Snapshot, name string) (Heard, error) {
	var row heardRow
	_, err := read(snap.Get, heard.Key(name), &row)
	if errors.Is(err, store.ErrNotFound) {
		return Heard{}, nil
	}
	h := Heard{Why: row.Why, People: row.People, Took: time.Duration(row.TookMS) * time.Millisecond}
	if row.At > 0 {
		h.At = unix(row.At)
	}
	if row.Silent > 0 {
		h.Silent = unix(row.Silent)
	}
	return h, err
}

// Status is what anybody who sees whether the system is well may know of each
// directory.
func (s *Service) Status(ctx context.Context) (map[string]Heard, error) {
	out := map[string]Heard{}
	err := s.cfg.Store.View(ctx, store.Local, func(snap store.Snapshot) error {
		list, err := listed(snap)
		for _, j := range list {
			out[j.Name] = j.Heard
		}
		return err
	})
	return out, err
}

// Test walks the connection to a directory step by step, through the guard, with
// settings that need not be joined. With a login the report ends with that person
// and their groups.
func (s *Service) Test(ctx context.Context, p auth.Principal, c directory.Config, login string) (directory.Report, error) {
	if err := s.allowed(ctx, s.request(p, "test", "", nil)); err != nil {
		return directory.Report{}, err
	}
	if err := check(c); err != nil {
		return directory.Report{}, err
	}
	d, err := directory.New(c)
	if err != nil {
		return directory.Report{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	defer d.Close()
	return s.walk(ctx, p, d, c.Name, login)
}

// TestJoined is Test of a directory that is joined.
func (s *Service) TestJoined(ctx context.Context, p auth.Principal, name, login string) (directory.Report, error) {
	if err := s.allowed(ctx, s.request(p, "test", name, nil)); err != nil {
		return directory.Report{}, err
	}
	d, _, err := s.named(ctx, name)
	if err != nil {
		return directory.Report{}, err
	}
	return s.walk(ctx, p, d, name, login)
}

func (s *Service) walk(ctx context.Context, p auth.Principal, d *directory.Directory, name, login string) (directory.Report, error) {
	if login != "" {
		var ok bool
		if login, ok = Canonical(login); !ok {
			return directory.Report{}, fmt.Errorf("%w: that is not a name that somebody signs in with", ErrInvalid)
		}
		if bare, named := within(login, name); named {
			login = bare
		}
	}
	req := s.request(p, "test", name, nil)
	req.Within = testWithin
	if err := s.allowed(ctx, req); err != nil {
		return directory.Report{}, err
	}
	var report directory.Report
	err := s.cfg.Door.Do(ctx, req, func(ctx context.Context, _ *guard.Permit) (guard.Outcome, error) {
		report = d.Test(ctx, login)
		return guard.Outcome{Detail: map[string]any{"well": report.OK()}, Usage: map[string]int64{"steps": int64(len(report.Steps))}}, nil
	})
	return report, err
}

// Groups lists groups of a joined directory whose name contains the text, by name,
// at most limit of them, and whether there are more.
func (s *Service) Groups(ctx context.Context, p auth.Principal, name, text string, limit int) (list []directory.Group, more bool, err error) {
	req := s.request(p, "groups", name, nil)
	req.Within = testWithin
	if err := s.allowed(ctx, req); err != nil {
		return nil, false, err
	}
	if text, limit = strings.TrimSpace(text), min(max(limit, 1), 200); len(text) > 200 || auth.HoldsSecret(text) {
		return nil, false, fmt.Errorf("%w: give some letters of the group's name", ErrInvalid)
	}
	d, _, err := s.named(ctx, name)
	if err != nil {
		return nil, false, err
	}
	err = s.cfg.Door.Do(ctx, req, func(ctx context.Context, _ *guard.Permit) (out guard.Outcome, err error) {
		list, more, err = d.Groups(ctx, text, limit)
		return guard.Outcome{Usage: map[string]int64{"rows": int64(len(list))}}, err
	})
	slices.SortFunc(list, func(a, b directory.Group) int {
		return strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name))
	})
	return list, more, err
}

func (s *Service) request(p auth.Principal, what, name string, detail map[string]any) guard.Request {
	req := guard.Request{Principal: p, Action: auth.DirectoryManage, Resource: auth.TheSystem, Detail: map[string]any{"what": what}}
	if name != "" {
		req.Detail["directory"] = name
	}
	for k, v := range detail {
		req.Detail[k] = v
	}
	return req
}

// only is the name by which a refusal goes on record that no policy can lift.
const only = "only-administrators-in-person-manage-directories"

// allowed refuses, on record and before anything is looked at, whom the policies
// refuse, and whoever is not a person who administers: what a policy permits beyond
// that would let them say who they are.
func (s *Service) allowed(ctx context.Context, req guard.Request) error {
	p := req.Principal
	administers := p.Kind == auth.User && p.OnBehalfOf == nil && slices.Contains(p.Roles, auth.Administrator)
	if administers && s.cfg.Door.Decide(ctx, req) == nil {
		return nil
	}
	if _, err := s.cfg.Door.Begin(ctx, store.NewTx(), req); err != nil || administers {
		return err // that the policies refuse it is on record
	}
	return s.refuse(ctx, req, &auth.DeniedError{Action: req.Action, Policies: []string{only}})
}

// refuse records a refusal that the guard's policies did not make.
func (s *Service) refuse(ctx context.Context, req guard.Request, denied *auth.DeniedError) error {
	tx := store.NewTx()
	err := audit.Append(tx, audit.Record{
		Kind: audit.Refusal, Actor: audit.ActorOf(req.Principal), Action: req.Action, Resource: audit.Resource{Type: req.Resource.Type, ID: req.Resource.ID},
		Decision: "deny", Policies: denied.Policies, Detail: req.Detail, Node: s.cfg.Node,
	})
	if err == nil {
		var res store.Result
		if res, err = s.cfg.Store.Apply(context.WithoutCancel(ctx), tx); err == nil {
			denied.Record = res.Seqs[0]
			return denied
		}
	}
	return fmt.Errorf("%w, and the refusal could not be recorded: %w", denied, err)
}

// change makes a change through the guard. Its intent, itself and its outcome are
// one transaction, so none stands without the others.
func (s *Service) change(ctx context.Context, req guard.Request, f func(*store.Update) error) error {
	if err := s.allowed(ctx, req); err != nil {
		return err
	}
	return s.once(ctx, func(u *store.Update) error {
		permit, err := s.cfg.Door.Begin(ctx, u.Tx, req)
		if err != nil {
			return err
		}
		if err := f(u); err != nil {
			return err
		}
		return s.cfg.Door.Finish(u.Tx, permit, guard.Outcome{Status: guard.StatusOK})
	})
}

// once makes a change unless the request was carried out before.
func (s *Service) once(ctx context.Context, f func(*store.Update) error) error {
	_, err := s.cfg.Store.Update(ctx, func(u *store.Update) error {
		if err := guard.OnceOf(ctx).Claim(u, nil); err != nil {
			return err
		}
		return f(u)
	})
	var before *guard.DoneError
	if errors.As(err, &before) {
		return nil
	}
	return err
}

func either(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}
