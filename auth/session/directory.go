package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/audit"
	"github.com/cloister-os/cloister/auth/directory"
	"github.com/cloister-os/cloister/auth/people"
	"github.com/cloister-os/cloister/store"
)

// followEvery is how often the directories are asked about everybody who is signed
// in. With the time that asking takes, and a server that has to be given up, what
// somebody lost in the directory ends within ten seconds.
const followEvery = 4 * time.Second

// What is on record of sign-ins that no state of an account explains.
const (
	stateAmbiguous = "ambiguous"
	stateSilent    = "no-answer"
	stateNoRole    = "no-role"
	stateTooMany   = "too-many-groups"
)

// errSilent is told to whoever tried; which servers did not answer is in the log.
var errSilent = fmt.Errorf("%w: try again in a moment, or sign in with a local account", directory.ErrNoAnswer)

// loginDirectory signs in somebody of a directory. Whom the attempt counts for is
// known before the password is sent: the person, whatever was typed for them.
func (s *Service) loginDirectory(ctx context.Context, a people.Account, password string) (Session, string, error) {
	found, err := s.people.Find(ctx, a)
	if err != nil && !errors.Is(err, directory.ErrAmbiguous) {
		return Session{}, "", s.loginUnsure(ctx, a, found.ID, 0, err)
	}
	whom := found.ID
	if whom == "" {
		whom = a.String()
	}
	attempts, counted := s.countLogin(ctx, whom)
	if counted != nil {
		return Session{}, "", counted
	}
	if err != nil {
		return Session{}, "", s.loginUnsure(ctx, a, "", attempts+1, err)
	}
	if len(password) > maxPassword {
		password = ""
	}
	who, write, err := s.people.Prove(ctx, found, password)
	if err != nil {
		return Session{}, "", s.loginUnsure(ctx, a, found.ID, attempts+1, err)
	}
	tx := store.NewTx()
	write(tx)
	detail := map[string]any{"directory": a.Directory}
	if len(who.Withheld) > 0 {
		withheld := make([]string, len(who.Withheld))
		for i, r := range who.Withheld {
			withheld[i] = string(r)
		}
		detail["withheld"] = withheld
	}
	return s.signedInAs(ctx, tx, whom, User{ID: who.ID, Name: who.Name, Roles: who.Roles, Groups: who.Groups}, who.Made, detail)
}

// loginUnsure records precisely why somebody was not let in, and returns what they
// are told: an account's state is not for strangers.
func (s *Service) loginUnsure(ctx context.Context, a people.Account, id string, attempt int, err error) error {
	why := map[string]any{"directory": a.Directory}
	var refused *directory.RefusedError
	switch {
	case errors.As(err, &refused):
		why["state"] = string(refused.State)
		return s.loginFailed(ctx, id, attempt, why, errWrong)
	case errors.Is(err, directory.ErrAmbiguous):
		why["state"] = stateAmbiguous
		return s.loginFailed(ctx, id, attempt, why, errWrong)
	case errors.Is(err, directory.ErrTooMany):
		why["state"] = stateTooMany
		return s.loginFailed(ctx, id, attempt, why, fmt.Errorf("you are in more groups than can be looked at: %w", people.ErrNoRole))
	case errors.Is(err, people.ErrNoRole):
		why["state"] = stateNoRole
		return s.loginFailed(ctx, id, attempt, why, err)
	case errors.Is(err, directory.ErrNoAnswer), errors.Is(err, directory.ErrConfig):
		s.logger.WarnContext(ctx, "Somebody could not sign in: the directory gave no answer.", "directory", a.Directory, "error", err)
		why["state"] = stateSilent
		return s.loginFailed(ctx, id, attempt, why, errSilent)
	}
	return err
}

// follow keeps up with the directories until the context ends.
func (s *Service) follow(ctx context.Context) {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		if !s.leads() {
			// whoever leads does it
		} else if err := s.Follow(ctx); err != nil && ctx.Err() == nil {
			s.logger.Warn("What the directories say of who is signed in could not be looked at.", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Follow asks the directories, once, about everybody of theirs who is signed in,
// and ends the sessions of accounts that are disabled, expired or gone.
func (s *Service) Follow(ctx context.Context) error {
	byPerson, err := s.signedInByDirectory(ctx)
	if err != nil || len(byPerson) == 0 {
		return err
	}
	ids := make([]string, 0, len(byPerson))
	for id := range byPerson {
		ids = append(ids, id)
	}
	over, err := s.people.Refresh(ctx, ids)
	for id, state := range over {
		err = errors.Join(err, s.end(ctx, id, state, byPerson[id]))
	}
	return err
}

// signedInByDirectory is the sessions of directories' people, by person.
func (s *Service) signedInByDirectory(ctx context.Context) (map[string][]store.Item, error) {
	byPerson := map[string][]store.Item{}
	now := s.now()
	err := s.store.View(ctx, store.Local, func(snap store.Snapshot) error {
		for item, err := range snap.Scan(sessions.Prefix(), "") {
			if err != nil {
				return err
			}
			var row sessionRow
			if err := decode(item.Value, &row); err != nil {
				return fmt.Errorf("the session at %q cannot be read: %w", item.Key, err)
			}
			if _, _, ok := people.Parts(row.User); ok && now.Before(s.expires(row)) {
				byPerson[row.User] = append(byPerson[row.User], item)
			}
		}
		return nil
	})
	return byPerson, err
}

// end removes somebody's sessions, on record.
func (s *Service) end(ctx context.Context, id string, state directory.State, list []store.Item) error {
	list = list[:min(len(list), 500)] // the rest at the next look; none of them is good
	tx := store.NewTx()
	for _, item := range list {
		tx.Delete(item.Key)
	}
	detail := map[string]any{"state": string(state), "sessions": len(list)}
	if err := s.event(tx, eventEnded, audit.Actor{Kind: auth.System, ID: s.node}, id, detail); err != nil {
		return err
	}
	if _, err := s.store.Apply(ctx, tx); err != nil {
		return fmt.Errorf("end the sessions of who the directory says is %s: %w", state, err)
	}
	return nil
}

// LocalAdministrator says whether a local account that can sign in administers:
// for people.Config.
func LocalAdministrator(snap store.Snapshot) (bool, error) {
	for item, err := range snap.Scan(users.Prefix(), "") {
		if err != nil {
			return false, err
		}
		var row userRow
		if err := decode(item.Value, &row); err != nil {
			return false, fmt.Errorf("the account at %q cannot be read: %w", item.Key, err)
		}
		for _, r := range row.Roles {
			if r == auth.Administrator && row.Hash != "" {
				return true, nil
			}
		}
	}
	return false, nil
}
