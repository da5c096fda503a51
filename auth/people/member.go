package people

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/directory"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/schema"
)

// Member is somebody of a directory as they are to this house.
type Member struct {
	ID     string // see ID
	Login  string // as the directory writes it
	Name   string // for display
	Roles  []auth.Role
	Groups []string // see ID
	Made   string   // of their directory; what a session of theirs names
	// Withheld are roles that a group would give, but through somebody who would
	// have given it to themselves.
	Withheld []auth.Role
}

// Account is what somebody means by the name that they typed.
type Account struct {
	Directory string
	Login     string // canonical, without the directory
}

// String is one spelling for all that mean the account.
func (a Account) String() string { return a.Login + "@" + a.Directory }

// Whose says which directory a canonical name is of: DIRECTORY\name and
// name@DIRECTORY name it; all other names are of the directory that was joined
// first. ok is false while none is joined. Whoever signs in looks for a local
// account of that very name before.
func (s *Service) Whose(ctx context.Context, name string) (a Account, ok bool, err error) {
	err = s.cfg.Store.View(ctx, store.Local, func(snap store.Snapshot) error {
		var oldest int64
		a = Account{}
		for item, err := range snap.Scan(directories.Prefix(), "") {
			if err != nil {
				return err
			}
			var row directoryRow
			dir, err := readNamed(item, &row)
			if err != nil {
				return err
			}
			if login, named := within(name, dir); named {
				a, ok = Account{dir, login}, true
				return nil
			}
			if !ok || row.Added < oldest {
				a, ok, oldest = Account{dir, name}, true, row.Added
			}
		}
		return nil
	})
	return a, ok, err
}

// within takes the directory off a name that carries it.
func within(name, dir string) (login string, named bool) {
	if n := len(dir) + 1; len(name) > n {
		if name[:n] == dir+`\` {
			return name[n:], true
		}
		if name[len(name)-n:] == "@"+dir {
			return name[:len(name)-n], true
		}
	}
	return "", false
}

// Found is somebody whose password has not been asked for.
type Found struct {
	Account Account
	ID      string // "" for nobody
	dir     *directory.Directory
	row     directoryRow
	person  directory.Person
	why     *directory.RefusedError // why they cannot sign in whatever their password is
}

// Find looks for the account in its directory. Nobody is no error: ID is empty and
// Prove takes as long as for somebody. The errors are those of package directory.
func (s *Service) Find(ctx context.Context, a Account) (Found, error) {
	f := Found{Account: a}
	d, row, err := s.named(ctx, a.Directory)
	if err != nil {
		return f, err
	}
	f.dir, f.row = d, row
	f.person, err = d.Find(ctx, a.Login)
	switch {
	case err == nil:
		f.ID = ID(a.Directory, f.person.ID)
	case errors.As(err, &f.why):
	default:
		return f, err
	}
	return f, nil
}

// Prove asks the directory whether this is the person's password and returns them
// as they are now, with what must be written for their session to be good: add it
// to the transaction that makes the session. The errors are a
// *directory.RefusedError, those of package directory, and ErrNoRole.
func (s *Service) Prove(ctx context.Context, f Found, password string) (Member, func(*store.Tx), error) {
	if f.why != nil {
		f.dir.Pretend(ctx)
		return Member{}, nil, f.why
	}
	p, err := f.dir.Prove(ctx, f.person, password)
	if err != nil {
		return Member{}, nil, err
	}
	now := s.cfg.Now()
	row := memberRow{V: 1, Made: f.row.Made, Login: p.Login, Name: p.Name, State: string(p.State), Groups: pack(p.Groups), Checked: now.Unix()}
	var m Member
	write := func(*store.Tx) {}
	err = s.cfg.Store.View(ctx, store.Local, func(snap store.Snapshot) error {
		var before memberRow
		key := members.Key(f.Account.Directory, p.ID)
		item, err := read(snap.Get, key, &before)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if err != nil || !before.same(row) || row.Checked-before.Checked >= int64(restate/time.Second) {
			write = func(tx *store.Tx) { tx.Put(key, schema.MustRewrite(item.Value, row)) }
		}
		m, err = s.member(snap, f.Account.Directory, p.ID, f.row, row)
		return err
	})
	if err == nil && len(m.Roles) == 0 {
		return m, nil, ErrNoRole
	}
	return m, write, err
}

// restate is how often what has not changed is written again, with its time.
const restate = time.Minute

// same reports whether the rows say the same of the person.
func (r memberRow) same(o memberRow) bool {
	return r.Made == o.Made && r.Login == o.Login && r.Name == o.Name && r.State == o.State && string(r.Groups) == string(o.Groups)
}

// Now is who somebody of a directory is at this moment, for a session that names
// made. auth.ErrUnauthenticated, with a sentence, when they may do nothing.
func (s *Service) Now(snap store.Snapshot, id, made string) (Member, error) {
	dir, uuid, _ := Parts(id)
	var joined directoryRow
	var row memberRow
	var last heardRow
	_, err := read(snap.Get, directories.Key(dir), &joined)
	if err == nil {
		_, err = read(snap.Get, members.Key(dir, uuid), &row)
	}
	if errors.Is(err, store.ErrNotFound) || err == nil && (joined.Made != made || row.Made != made) {
		return Member{}, fmt.Errorf("%w: your directory is not joined any more, sign in again", auth.ErrUnauthenticated)
	}
	if err != nil {
		return Member{}, err
	}
	if ended(directory.State(row.State)) {
		return Member{}, fmt.Errorf("%w: the session has ended, sign in again", auth.ErrUnauthenticated)
	}
	if _, err := read(snap.Get, heard.Key(dir), &last); err != nil && !errors.Is(err, store.ErrNotFound) {
		return Member{}, err
	}
	if s.cfg.Now().Sub(unix(max(row.Checked, last.At))) > Unheard {
		return Member{}, fmt.Errorf("%w: your directory has not answered for %d hours: sign in again when it does", auth.ErrUnauthenticated, int(Unheard/time.Hour))
	}
	m, err := s.member(snap, dir, uuid, joined, row)
	if err == nil && len(m.Roles) == 0 {
		return Member{}, fmt.Errorf("%w: %w", auth.ErrUnauthenticated, ErrNoRole)
	}
	return m, err
}

// ended says of a state that sessions end with it. One that is locked is not among
// them, for anybody can lock an account by guessing at it; nor are those that only
// keep somebody from signing in again until they have a new password.
func ended(s directory.State) bool {
	return s == gone || s == directory.Disabled || s == directory.Expired
}

func (s *Service) member(snap store.Snapshot, dir, uuid string, joined directoryRow, row memberRow) (Member, error) {
	m := Member{ID: ID(dir, uuid), Login: row.Login, Name: row.Name, Groups: unpack(dir, row.Groups), Made: row.Made}
	given, err := s.grants(snap, dir)
	if err != nil || len(given) == 0 {
		return m, err
	}
	for _, group := range m.Groups {
		for _, g := range given[group] {
			list := &m.Roles
			if sensitive(g.Role) && (g.By.is(m) || joined.By.is(m)) {
				list = &m.Withheld
			}
			if !slices.Contains(*list, g.Role) {
				*list = append(*list, g.Role)
			}
		}
	}
	m.Withheld = slices.DeleteFunc(m.Withheld, func(r auth.Role) bool { return slices.Contains(m.Roles, r) })
	slices.Sort(m.Roles)
	return m, nil
}

// decoded is the grants of a directory by the group's ID, as of a version.
type decoded struct {
	version store.Version
	byGroup map[string][]grantRow
}

func (s *Service) grants(snap store.Snapshot, dir string) (map[string][]grantRow, error) {
	item, err := snap.Get(grants.Key(dir))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	known := s.maps[dir]
	s.mu.Unlock()
	if known != nil && known.version == item.Version {
		return known.byGroup, nil
	}
	var row grantsRow
	if _, err := read(func(store.Key) (store.Item, error) { return item, nil }, item.Key, &row); err != nil {
		return nil, err
	}
	known = &decoded{item.Version, map[string][]grantRow{}}
	for _, g := range row.Grants {
		id := ID(dir, g.Group)
		known.byGroup[id] = append(known.byGroup[id], g)
	}
	s.mu.Lock()
	s.maps[dir] = known
	s.mu.Unlock()
	return known.byGroup, nil
}

func readNamed(item store.Item, row *directoryRow) (name string, err error) {
	parts, ok := directories.Parts(item.Key)
	if !ok || len(parts) != 1 {
		return "", fmt.Errorf("the directory at %q cannot be read", item.Key)
	}
	_, err = read(func(store.Key) (store.Item, error) { return item, nil }, item.Key, row)
	return parts[0], err
}
