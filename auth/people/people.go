// Package people knows the directories that the installation has joined: which
// there are, which of their groups gives which role, and what somebody of theirs
// may be at this moment.
//
// It promises: what is joined is the same on every node, with the service
// account's password sealed before it enters the log; a role that a group gives,
// or gives no longer, counts from the next request on; a group that somebody lost,
// and an account that was disabled or deleted, count as soon as Refresh has seen
// it; a directory that does not answer changes nothing until Unheard has passed.
//
// Who may say who is who is not left to policy alone: only an administrator who is
// a person does, whatever the policies permit, and nobody makes themselves auditor
// or approver (see Grant). What this cannot see is one human with two accounts, or
// an administrator who also rules the directory: each step of that is on record,
// where they cannot remove it.
//
// It may import store, auth, auth/guard, auth/audit and auth/directory.
package people

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/cloister-os/cloister/auth/audit"
	"github.com/cloister-os/cloister/auth/directory"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/store"
)

// Bounds.
const (
	// Unheard is how long sessions of a directory's people go on while it does not
	// answer. Longer than that nobody can say what they may do.
	Unheard = 4 * time.Hour

	MaxDirectories = 16
	MaxGrants      = 200 // of one directory
)

// The kinds of error.
var (
	// ErrInvalid is the kind of whatever cannot be done as asked.
	ErrInvalid = errors.New("the directory cannot be changed like this")
	// ErrExists: there is a directory of that name already.
	ErrExists = errors.New("there is a directory of that name already")
	// ErrNoRole: the password was right, but no group of theirs gives a role.
	ErrNoRole = errors.New("none of your groups gives you a role here: ask an administrator to add you to one that does")
	// ErrOwn is the kind of *OwnError.
	ErrOwn = errors.New("nobody makes themselves auditor or approver")
	// ErrLockOut: nobody would be left who administers.
	ErrLockOut = errors.New("this would leave nobody who administers")
	// ErrUntested: the walk through the connection did not end well. A *WalkError
	// holds what it saw.
	ErrUntested = errors.New("the connection does not work yet")
)

// OwnError refuses to let somebody make themselves auditor or approver. It matches
// ErrOwn and auth.ErrDenied, and names the refusal's record.
type OwnError struct{ denied error }

func (e *OwnError) Error() string {
	return ErrOwn.Error() + ", and you are in this group yourself: have another administrator do it"
}

// Is makes errors.Is(err, ErrOwn) true.
func (e *OwnError) Is(target error) bool { return target == ErrOwn }

func (e *OwnError) Unwrap() error { return e.denied }

// Config is what a Service needs.
type Config struct {
	Store  store.Store  // required
	Door   guard.Door   // required
	Sealer audit.Sealer // required: seals the passwords of service accounts
	Node   string
	Now    func() time.Time // time.Now when nil
	Logger *slog.Logger     // slog.Default() when nil
	// LocalAdministrator says whether a local account administers.
	LocalAdministrator func(store.Snapshot) (bool, error)
}

// Service is safe for concurrent use. Close it when nobody signs in any more.
type Service struct {
	cfg Config

	mu   sync.Mutex         // guards all below
	open map[string]*opened // by the directory's name
	maps map[string]*decoded
}

// opened is a directory in use, as one version of its row says.
type opened struct {
	*directory.Directory
	version store.Version
}

// New returns a Service.
func New(c Config) (*Service, error) {
	if c.Store == nil || c.Door == nil || c.Sealer == nil {
		return nil, errors.New("directories need a store, the guard and a sealer")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.LocalAdministrator == nil {
		c.LocalAdministrator = func(store.Snapshot) (bool, error) { return false, nil }
	}
	return &Service{cfg: c, open: map[string]*opened{}, maps: map[string]*decoded{}}, nil
}

// Close closes every connection to a directory.
func (s *Service) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for name, d := range s.open {
		errs = append(errs, d.Close())
		delete(s.open, name)
	}
	return errors.Join(errs...)
}

// ID is a person, or a group, of a directory, to the rest of the house:
// "DIRECTORY/UUID".
func ID(dir, uuid string) string { return dir + "/" + uuid }

// Parts undoes ID; ok is false for whoever is of no directory.
func Parts(id string) (dir, uuid string, ok bool) { return strings.Cut(id, "/") }

// at opens the directory that the row describes, or returns it as it is in use.
func (s *Service) at(name string, item store.Item, row directoryRow) (*directory.Directory, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.open[name]; d != nil && d.version >= item.Version {
		return d.Directory, nil
	}
	secret, err := s.cfg.Sealer.Open(aad(name, row.Made), row.Password)
	if err != nil {
		return nil, fmt.Errorf("open the password of the service account of %s: %w", name, err)
	}
	d, err := directory.New(row.config(name, string(secret)))
	if err != nil {
		return nil, fmt.Errorf("open the directory %s: %w", name, err)
	}
	if old := s.open[name]; old != nil {
		_ = old.Close() // what is in use goes on to its end
	}
	s.open[name] = &opened{d, item.Version}
	return d, nil
}

// named returns a joined directory, opened; store.ErrNotFound when there is none.
func (s *Service) named(ctx context.Context, name string) (*directory.Directory, directoryRow, error) {
	var row directoryRow
	var item store.Item
	err := s.cfg.Store.View(ctx, store.Local, func(snap store.Snapshot) (err error) {
		item, err = read(snap.Get, directories.Key(name), &row)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil, row, fmt.Errorf("there is no directory %q: %w", name, store.ErrNotFound)
	}
	if err != nil {
		return nil, row, err
	}
	d, err := s.at(name, item, row)
	return d, row, err
}
