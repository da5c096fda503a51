package people

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/directory"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/schema"
)

// Grant is a role that a group of a directory gives to whoever is in it, directly
// or through other groups.
type Grant struct {
	Group string // UUID; what counts
	Name  string // as it was when it was granted, for display
	Role  auth.Role
	By    string // id of who granted it
	At    time.Time
}

// Roles lists the roles that a group can give, in the order people should see.
func Roles() []auth.Role {
	return []auth.Role{auth.Administrator, auth.Builder, auth.Asker, auth.Approver, auth.Auditor, auth.Operator}
}

// sensitive roles watch over the others: nobody gives one to themselves.
func sensitive(r auth.Role) bool { return r == auth.Auditor || r == auth.Approver }

// own is the name by which it goes on record that somebody tried to.
const own = "nobody-makes-themselves-auditor-or-approver"

// Grant lets a group give a role, through the guard, and returns the group as the
// directory has it now. It must answer. A role that watches over others is refused
// with an *OwnError when whoever grants it is in the group, directly or through others,
// and when nobody can tell; that they came into it later gives them nothing either
// (see Member.Withheld).
func (s *Service) Grant(ctx context.Context, p auth.Principal, dir, group string, role auth.Role) (directory.Group, error) {
	var g directory.Group
	req := s.request(p, "grant", dir, map[string]any{"group": group, "role": string(role)})
	req.Within = testWithin
	if err := s.allowed(ctx, req); err != nil {
		return g, err
	}
	if !slices.Contains(Roles(), role) {
		return g, fmt.Errorf("%w: there is no role %q, choose of %v", ErrInvalid, role, Roles())
	}
	if !uuidForm.MatchString(group) {
		return g, fmt.Errorf("%w: name the group by its id, as the list of groups shows it", ErrInvalid)
	}
	d, joined, err := s.named(ctx, dir)
	if err != nil {
		return g, err
	}
	who, err := s.person(ctx, p)
	if err != nil {
		return g, err
	}
	mine := false
	err = s.cfg.Door.Do(ctx, req, func(ctx context.Context, permit *guard.Permit) (guard.Outcome, error) {
		if g, err = d.Group(ctx, group); err != nil {
			return guard.Outcome{}, fmt.Errorf("look at the group: %w", err)
		}
		if sensitive(role) {
			if mine, err = s.isIn(ctx, d, dir, who, group); mine || err != nil {
				return guard.Outcome{Status: guard.StatusFailed, Error: own}, err
			}
		}
		return guard.Outcome{}, s.finish(ctx, permit, func(u *store.Update) error {
			return s.addGrant(u, dir, joined.Made, grantRow{Group: group, Name: shown(g.Name), Role: role, By: who, At: s.cfg.Now().Unix()})
		})
	})
	if mine && err == nil {
		return g, &OwnError{s.refuse(ctx, req, &auth.DeniedError{Action: req.Action, Policies: []string{own}})}
	}
	return g, err
}

// isIn asks the directory whether somebody is in a group, whichever way they sign
// in here: a local account, and one of another directory, is whoever has the same
// name. An error means that nobody can tell.
func (s *Service) isIn(ctx context.Context, d *directory.Directory, dir string, who person, group string) (bool, error) {
	unsure := func(err error) error {
		return fmt.Errorf("nobody can tell now whether you are in this group yourself, so the role is not granted: %w", err)
	}
	theirs, uuid, _ := Parts(who.ID)
	if theirs != dir {
		found, err := d.Find(ctx, who.Login)
		if errors.Is(err, directory.ErrRefused) {
			return false, nil // no such person
		}
		if err != nil {
			return false, unsure(err)
		}
		uuid = found.ID
	}
	p, err := d.Lookup(ctx, uuid)
	if err != nil {
		return false, unsure(err)
	}
	return slices.ContainsFunc(p.Groups, func(g directory.Group) bool { return g.ID == group }), nil
}

// finish adds the permit's outcome to the change that it permitted.
func (s *Service) finish(ctx context.Context, permit *guard.Permit, f func(*store.Update) error) error {
	return s.once(ctx, func(u *store.Update) error {
		if err := f(u); err != nil {
			return err
		}
		return s.cfg.Door.Finish(u.Tx, permit, guard.Outcome{Status: guard.StatusOK})
	})
}

func (s *Service) addGrant(u *store.Update, dir, made string, g grantRow) error {
	var joined directoryRow
	if _, err := read(u.Get, directories.Key(dir), &joined); err != nil || joined.Made != made {
		return fmt.Errorf("there is no directory %q any more: %w", dir, store.ErrNotFound)
	}
	var row grantsRow
	item, err := read(u.Get, grants.Key(dir), &row)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	for _, is := range row.Grants {
		if is.Group == g.Group && is.Role == g.Role {
			return nil // whoever granted it first did
		}
	}
	if len(row.Grants) >= MaxGrants {
		return fmt.Errorf("%w: %d groups of %s give roles already; gather people in fewer groups", ErrInvalid, len(row.Grants), dir)
	}
	row.V, row.Grants = 1, append(row.Grants, g)
	u.Put(grants.Key(dir), schema.MustRewrite(item.Value, row))
	return nil
}

// Revoke takes a role back from a group, through the guard. The directory need not
// answer, unless nobody else may be left who administers. ErrLockOut then.
func (s *Service) Revoke(ctx context.Context, p auth.Principal, dir, group string, role auth.Role) error {
	req := s.request(p, "revoke", dir, map[string]any{"group": group, "role": string(role)})
	return s.change(ctx, req, func(u *store.Update) error {
		var row grantsRow
		item, err := read(u.Get, grants.Key(dir), &row)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		at := slices.IndexFunc(row.Grants, func(g grantRow) bool { return g.Group == group && g.Role == role })
		if at < 0 {
			return fmt.Errorf("that group of %q does not give the role %q: %w", dir, role, store.ErrNotFound)
		}
		row.Grants = slices.Delete(row.Grants, at, at+1)
		if role == auth.Administrator {
			if err := s.lockOut(ctx, u, p, dir, row.Grants); err != nil {
				return err
			}
		}
		u.Put(grants.Key(dir), schema.MustRewrite(item.Value, row))
		return nil
	})
}

// lockOut refuses a change after which nobody would administer: no local account,
// and not even whoever makes the change, by what the directory says of them now.
// left are the directory's grants after it.
func (s *Service) lockOut(ctx context.Context, u *store.Update, p auth.Principal, dir string, left []grantRow) error {
	local, err := s.cfg.LocalAdministrator(u.Snapshot)
	if err != nil || local {
		return err
	}
	theirs, uuid, ok := Parts(p.ID)
	if ok {
		if theirs != dir {
			var row grantsRow
			if _, err := read(u.Get, grants.Key(theirs), &row); err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
			left = row.Grants
		} else if left == nil {
			return lockedOut()
		}
		d, _, err := s.named(ctx, theirs)
		if err != nil {
			return err
		}
		now, err := d.Lookup(ctx, uuid)
		if err != nil {
			return fmt.Errorf("nobody can tell now whether you would still administer: %w", err)
		}
		for _, g := range now.Groups {
			if slices.ContainsFunc(left, func(l grantRow) bool { return l.Group == g.ID && l.Role == auth.Administrator }) {
				return nil
			}
		}
	}
	return lockedOut()
}

func lockedOut() error {
	return fmt.Errorf("%w: there is no local administrator, and you would be none yourself; let another group that you are in give the role administrator first", ErrLockOut)
}

// person is who a principal is, by what others would find them by.
func (s *Service) person(ctx context.Context, p auth.Principal) (person, error) {
	who := person{ID: p.ID}
	dir, uuid, ok := Parts(p.ID)
	login := p.Name
	if ok {
		err := s.cfg.Store.View(ctx, store.Local, func(snap store.Snapshot) error {
			var row memberRow
			_, err := read(snap.Get, members.Key(dir, uuid), &row)
			login = row.Login
			return err
		})
		if err != nil {
			return who, fmt.Errorf("look up who you are: %w", err)
		}
	}
	if who.Login, ok = Canonical(login); !ok {
		who.Login = ""
	}
	return who, nil
}

// is reports whether the member is that person.
func (w person) is(m Member) bool {
	login, ok := Canonical(m.Login)
	return w.ID == m.ID || ok && w.Login == login
}

// shown bounds a name that the directory gives.
func shown(name string) string {
	if len(name) <= 120 {
		return name
	}
	runes := []rune(name)
	return string(runes[:min(len(runes), 30)]) + "…"
}
