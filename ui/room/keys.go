package room

import (
	"context"
	"errors"
	"slices"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/auth/policy"
	"github.com/cloister-os/cloister/auth/session"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/ui"
	"github.com/cloister-os/cloister/ui/view"
)

type keys struct{ *Rooms }

var _ ui.Keys = keys{}

// List implements ui.Keys.
func (s keys) List(ctx context.Context, p auth.Principal) ([]view.Key, error) {
	list, err := s.cfg.Sessions.ListKeys(ctx, p)
	if err != nil {
		return nil, err
	}
	out := make([]view.Key, 0, len(list))
	for _, k := range list {
		out = append(out, showKey(k))
	}
	return out, nil
}

// Create implements ui.Keys.
func (s keys) Create(ctx context.Context, p auth.Principal, spec ui.KeySpec) (view.Key, string, error) {
	if err := s.cfg.Sources.Grantable(ctx, p, spec.Sources); err != nil {
		return view.Key{}, "", forPerson("source", err)
	}
	k, secret, err := s.cfg.Sessions.CreateKey(ctx, p, session.KeySpec{Name: spec.Name, Scopes: spec.Scopes, Sources: spec.Sources, TTL: spec.TTL})
	if errors.Is(err, session.ErrKeySpec) || errors.Is(err, session.ErrMisplacedKey) {
		return view.Key{}, "", forPerson("", err)
	}
	if err != nil {
		return view.Key{}, "", err
	}
	return showKey(k), secret, nil
}

// Revoke implements ui.Keys.
func (s keys) Revoke(ctx context.Context, p auth.Principal, id string) error {
	return s.cfg.Sessions.RevokeKey(ctx, p, id)
}

func showKey(k session.Key) view.Key {
	return view.Key{ID: k.ID, Name: k.Name, Scopes: k.Scopes, Sources: k.Sources, Owner: k.Owner, Created: k.Created, Expires: k.Expires}
}

type policies struct{ *Rooms }

var _ ui.Policies = policies{}

// List implements ui.Policies.
func (s policies) List(ctx context.Context, p auth.Principal) ([]view.Policy, error) {
	var out []view.Policy
	req := guard.Request{Principal: p, Action: auth.PolicyRead, Resource: auth.TheSystem}
	err := s.cfg.Door.Read(ctx, req, func(context.Context, *guard.Permit) (guard.Outcome, error) {
		for _, x := range s.cfg.Policies.List() {
			out = append(out, showPolicy(x))
		}
		return guard.Outcome{Usage: map[string]int64{"rows": int64(len(out))}}, nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Get implements ui.Policies.
func (s policies) Get(ctx context.Context, p auth.Principal, id string) (view.Policy, error) {
	list, err := s.List(ctx, p)
	if err != nil {
		return view.Policy{}, err
	}
	i := slices.IndexFunc(list, func(x view.Policy) bool { return x.ID == id })
	if i < 0 {
		return view.Policy{}, store.ErrNotFound
	}
	return list[i], nil
}

func showPolicy(x policy.Policy) view.Policy {
	return view.Policy{ID: x.ID, Text: x.Text, Effect: x.Effect, About: x.Comment, Version: uint64(x.Version), Changed: x.Updated}
}
