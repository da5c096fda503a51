package session

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/audit"
	"github.com/cloister-os/cloister/store"
)

// errWrong is the one answer to a wrong name and to a wrong password.
var errWrong = fmt.Errorf("the user name or the password is wrong: %w", auth.ErrUnauthenticated)

// Login signs a local user in. The token goes into a cookie (see SetCookie) or
// after "Authorization: Bearer". Errors are ErrMisplacedKey, a *ThrottledError,
// or one that matches auth.ErrUnauthenticated and says nothing else.
func (s *Service) Login(ctx context.Context, user, password string) (Session, string, error) {
	if auth.HoldsSecret(password) {
		return Session{}, "", ErrMisplacedKey
	}
	name, err := Canonical(user)
	if err == ErrMisplacedKey {
		return Session{}, "", err
	}
	whom := name // "" for all that cannot be names: they share one throttle
	before, err := s.countLogin(ctx, whom)
	if err != nil {
		return Session{}, "", err
	}
	known, hash, err := s.find(ctx, name)
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
		return Session{}, "", s.loginFailed(ctx, known, before+1)
	}
	tx := store.NewTx()
	s.forgiveLogin(ctx, tx, whom)
	opened, token := s.open(tx, known)
	if err := s.event(tx, eventLogin, audit.ActorOf(known.Principal()), known.ID, nil); err != nil {
		return Session{}, "", err
	}
	if _, err := s.store.Apply(ctx, tx); err != nil {
		return Session{}, "", fmt.Errorf("sign in: %w", err)
	}
	return opened, token, nil
}

// loginFailed records the failure: with the id of a known user, else with none,
// for what was typed may be anything.
func (s *Service) loginFailed(ctx context.Context, known User, attempt int) error {
	tx := store.NewTx()
	detail := map[string]any{"attempt": attempt, "wait_s": int64(forAddress().wait(attempt).Seconds())}
	if err := s.event(tx, eventLoginFailed, audit.Actor{Kind: nobody}, known.ID, detail); err != nil {
		return err
	}
	if _, err := s.store.Apply(ctx, tx); err != nil {
		return fmt.Errorf("a failed sign-in could not be recorded: %w", err)
	}
	return errWrong
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

// open adds a new session to the transaction and returns its token.
func (s *Service) open(tx *store.Tx, u User) (Session, string) {
	token := sessionPrefix + newSecret()
	now := s.now()
	row := sessionRow{V: 1, User: u.ID, Created: now.Unix(), Seen: now.Unix()}
	tx.Put(sessions.Key(hashPart(token)), encode(row))
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
