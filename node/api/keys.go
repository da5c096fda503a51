package api

import (
	"context"
	"net/http"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/session"
	"github.com/cloister-os/cloister/node/api/wire"
)

func (a *API) keyRoutes() {
	list := operation(http.MethodGet, "/api/v1/keys", "list-keys", "List the API keys, newest first")
	handle(a, list, func(ctx context.Context, p auth.Principal, _ *none) (*body[[]wire.Key], error) {
		keys, err := a.cfg.Sessions.ListKeys(ctx, p)
		if err != nil {
			return nil, err
		}
		out := make([]wire.Key, 0, len(keys))
		for _, k := range keys {
			out = append(out, wireKey(k, ""))
		}
		return &body[[]wire.Key]{out}, nil
	})
	create := operation(http.MethodPost, "/api/v1/keys", "create-key", "Create an API key; its secret is in this answer and nowhere else")
	create.DefaultStatus = http.StatusCreated
	handle(a, create, func(ctx context.Context, p auth.Principal, in *body[wire.NewKey]) (*body[wire.Key], error) {
		if err := a.cfg.Sources.Grantable(ctx, p, in.Body.Sources); err != nil {
			return nil, err
		}
		k, secret, err := a.cfg.Sessions.CreateKey(ctx, p, session.KeySpec{
			Name: in.Body.Name, Scopes: in.Body.Scopes, Sources: in.Body.Sources, TTL: time.Duration(in.Body.Hours) * time.Hour,
		})
		if err != nil {
			return nil, err
		}
		return &body[wire.Key]{wireKey(k, secret)}, nil
	})
	revoke := operation(http.MethodDelete, "/api/v1/keys/{id}", "revoke-key", "End an API key at once")
	handle(a, revoke, func(ctx context.Context, p auth.Principal, in *struct {
		ID string `path:"id" maxLength:"100"`
	}) (*none, error) {
		return nil, a.cfg.Sessions.RevokeKey(ctx, p, in.ID)
	})
}

func wireKey(k session.Key, secret string) wire.Key {
	return wire.Key{
		ID: k.ID, Name: k.Name, Scopes: full(k.Scopes), Sources: full(k.Sources), Owner: k.Owner,
		Created: k.Created, Expires: k.Expires, Secret: secret,
	}
}

// full turns nil into an empty list, so that clients never see null.
func full[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
