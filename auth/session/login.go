package session

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/audit"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/schema"
)

// errWrong is the one answer to a wrong name and to a wrong password.
var errWrong = fmt.Errorf("the user name or the password is wrong: %w", auth.ErrUnauthenticated)

// Login signs somebody in: the local account of exactly that name, else whoever a
// directory has by it. The token goes into a cookie (see SetCookie) or after
// "Authorization: Bearer". Errors are ErrMisplacedKey, a *ThrottledError,
// directory.ErrNoAnswer, people.ErrNoRole (the password was right), or one that
// matches auth.ErrUnauthenticated and says nothing else.
func (s *Service) Login(ctx context.Context, user, password string) (Session, string, error) {
	if auth.HoldsSecret(password) {
		return Session{}, "", ErrMisplacedKey
	}
	name, err := Canonical(user)
	if err == ErrMisplacedKey {
		return Session{}, "", err
	}
	known, hash, err := s.find(ctx, name)
	if err != nil {
		return Session{}, "", err
	}
	if s.people == nil {
		return s.loginLocal(ctx, name, known, hash, password)
	}
	account, joined, err := s.people.Whose(ctx, name)
	if err != nil {
		return Session{}, "", err
	}
	began := time.Now()
	var opened Session
	var token string
	if joined && known.ID == "" && name != "" {
		opened, token, err = s.loginDirectory(ctx, account, password)
	} else {
		opened, token, err = s.loginLocal(ctx, name, known, hash, password)
	}
	if joined && errors.Is(err, errWrong) {
		s.level(ctx, began)
	}
	return opened, token, err
}

// wrongWait is how long a wrong sign-in takes where a directory is joined. A local
// password is checked by a slow hash and a directory's by the directory: without it
// a stopwatch would tell which names are local accounts. What is right does not wait.
const wrongWait = 750 * time.Millisecond

func (s *Service) level(ctx context.Context, began time.Time) {
	select {
	case <-time.After(s.wrongWait - time.Since(began)):
	case <-ctx.Done():
	}
}

func (s *Service) loginLocal(ctx context.Context, name string, known User, hash, password string) (Session, string, error) {
	whom := name // "" for all that cannot be names: they share one throttle
	before, err := s.countLogin(ctx, whom)
	if err != nil {
		return Session{}, "", err
	}
	if len(password) > maxPassword {
		hash, password = "", ""
	}
	right, err := s.hasher.verify(ctx, hash, password)
	if err != nil {
		return Session{}, "", err
	}
	if !right {
		return Session{}, "", s.loginFailed(ctx, known.ID, before+1, nil, errWrong)
	}
	tx := store.NewTx()
	return s.signedInAs(ctx, tx, whom, known, "", nil)
}

// signedInAs opens the session in the transaction and applies it.
func (s *Service) signedInAs(ctx context.Context, tx *store.Tx, whom string, u User, of string, detail map[string]any) (Session, string, error) {
	s.forgiveLogin(ctx, tx, whom)
	opened, token := s.open(tx, u, of)
	if err := s.event(tx, eventLogin, audit.ActorOf(u.Principal()), u.ID, detail); err != nil {
		return Session{}, "", err
	}
	if _, err := s.store.Apply(ctx, tx); err != nil {
		return Session{}, "", fmt.Errorf("sign in: %w", err)
	}
	return opened, token, nil
}

// loginFailed records the failure and returns err: with the id of a known user,
// else with none, for what was typed may be anything.
func (s *Service) loginFailed(ctx context.Context, id string, attempt int, why map[string]any, err error) error {
	tx := store.NewTx()
	detail := map[string]any{"attempt": attempt, "wait_s": int64(forAddress().wait(attempt).Seconds())}
	maps.Copy(detail, why)
	if err := s.event(tx, eventLoginFailed, audit.Actor{Kind: nobody}, id, detail); err != nil {
		return err
	}
	if _, err := s.store.Apply(ctx, tx); err != nil {
		return fmt.Errorf("a failed sign-in could not be recorded: %w", err)
	}
	return err
}

// find returns a user by canonical name, and the password's hash; both are zero
// for an unknown name.
func (s *Service) find(ctx context.Context, name string) (User, string, error) {
	var u User
	var hash string
	err := s.store.View(ctx, store.Fresh, func(snap store.Snapshot) error {
		var ref nameRow
		_, ok, err := get(snap.Get, userNames.Key(name), &ref)
		if err != nil || !ok {
			return err
		}
		var row userRow
		if _, ok, err = get(snap.Get, users.Key(ref.ID), &row); ok {
			u, hash = User{ID: ref.ID, Name: row.Name, Roles: row.Roles}, row.Hash
		}
		return err
	})
	return u, hash, err
}

// open adds a new session to the transaction and returns its token. of is what it
// names of the user's directory.
func (s *Service) open(tx *store.Tx, u User, of string) (Session, string) {
	token := sessionPrefix + newSecret()
	now := s.now()
	row := sessionRow{V: 1, User: u.ID, Created: now.Unix(), Seen: now.Unix(), Of: of}
	tx.Put(sessions.Key(hashPart(token)), schema.MustEncode(row))
	return Session{User: u, Created: now, Expires: now.Add(s.life)}, token
}

// expires is when a session is over: unused for too long, or too old.
func (s *Service) expires(row sessionRow) time.Time {
	idle, life := time.Unix(row.Seen, 0).Add(s.idle), time.Unix(row.Created, 0).Add(s.life)
	if idle.Before(life) {
		return idle
	}
	return life
}

// Logout closes the session that the request carries; without one it does nothing.
func (s *Service) Logout(ctx context.Context, r *http.Request) error {
	token, err := credential(r)
	if err != nil || !isSession(token) {
		return nil
	}
	_, err = s.store.Update(ctx, func(u *store.Update) error {
		var row sessionRow
		key := sessions.Key(hashPart(token))
		if _, ok, err := get(u.Get, key, &row); err != nil || !ok {
			return err
		}
		u.Delete(key)
		return s.event(u.Tx, eventLogout, audit.Actor{Kind: auth.User, ID: row.User}, row.User, nil)
	})
	if err != nil {
		return fmt.Errorf("sign out: %w", err)
	}
	return nil
}
