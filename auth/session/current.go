package session

import (
	"context"
	"fmt"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/store"
)

// Current is a principal that was authenticated earlier as it is now: a person
// with today's roles, a key that still stands with its scopes and sources, and an
// agent for whoever it acts for. What works for someone over time asks it before
// each step. Someone who is no more, or has signed out of the session that they
// came by, is auth.ErrUnauthenticated.
func (s *Service) Current(ctx context.Context, p auth.Principal) (auth.Principal, error) {
	if err := s.recent(ctx); err != nil {
		return auth.Principal{}, fmt.Errorf("look whether who started this may still act: %w", err)
	}
	return s.current(ctx, p, 0)
}

func (s *Service) current(ctx context.Context, p auth.Principal, depth int) (auth.Principal, error) {
	if depth > auth.MaxDelegation {
		return auth.Principal{}, fmt.Errorf("%w: too many act for one another", auth.ErrUnauthenticated)
	}
	var found bool
	var err error
	switch p.Kind {
	case auth.System:
		return p, nil
	case auth.Agent:
		if p.OnBehalfOf == nil {
			return auth.Principal{}, fmt.Errorf("%w: an agent acts only on behalf of someone", auth.ErrUnauthenticated)
		}
		behind, err := s.current(ctx, *p.OnBehalfOf, depth+1)
		p.OnBehalfOf = &behind
		return p, err
	case auth.User:
		of, err := s.signedIn(ctx, p)
		if err != nil {
			return auth.Principal{}, err
		}
		var user User
		err = s.store.View(ctx, store.Local, func(snap store.Snapshot) (err error) {
			user, found, err = s.user(snap, p.ID, of)
			return err
		})
		if found || err != nil {
			now := user.Principal()
			now.Session = p.Session
			return now, err
		}
	case auth.APIKey:
		var row keyRow
		if found, err = s.row(ctx, apiKeys.Key(p.ID), &row); found && s.now().Unix() < row.Expires {
			return row.principal(p.ID), err
		}
	}
	if err != nil {
		return auth.Principal{}, err
	}
	return auth.Principal{}, fmt.Errorf("%w: who started this is no longer known here", auth.ErrUnauthenticated)
}

// signedIn refuses somebody who came by a session that is over, and returns what
// the session names of their directory.
func (s *Service) signedIn(ctx context.Context, p auth.Principal) (of string, err error) {
	if p.Session == "" {
		return "", nil
	}
	var row sessionRow
	found, err := s.row(ctx, sessions.Key(p.Session), &row)
	if err == nil && (!found || row.User != p.ID || !s.now().Before(s.expires(row))) {
		err = fmt.Errorf("%w: who started this has signed out", auth.ErrUnauthenticated)
	}
	return row.Of, err
}

func (s *Service) row(ctx context.Context, k store.Key, row any) (found bool, err error) {
	err = s.store.View(ctx, store.Local, func(snap store.Snapshot) (err error) {
		_, found, err = get(snap.Get, k, row)
		return err
	})
	return found && err == nil, err
}
