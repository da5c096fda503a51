package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/session"
	"github.com/cloister-os/cloister/node/api/wire"
)

func (a *API) sessionRoutes() {
	setup := operation(http.MethodPost, "/api/v1/setup", "setup", "Complete the first start: create the first administrator")
	handlePublic(a, setup, func(ctx context.Context, in *body[wire.Setup]) (*body[wire.Session], error) {
		s, token, err := a.cfg.Sessions.Setup(ctx, in.Body.Code, in.Body.User, in.Body.Password)
		if err != nil {
			return nil, err
		}
		if a.cfg.SetupDone != nil {
			a.cfg.SetupDone()
		}
		return &body[wire.Session]{signedIn(s, token)}, nil
	})
	login := operation(http.MethodPost, "/api/v1/login", "login", "Sign in")
	handlePublic(a, login, func(ctx context.Context, in *body[wire.Login]) (*body[wire.Session], error) {
		s, token, err := a.cfg.Sessions.Login(ctx, in.Body.User, in.Body.Password)
		if err != nil {
			return nil, err
		}
		return &body[wire.Session]{signedIn(s, token)}, nil
	})
	logout := operation(http.MethodPost, "/api/v1/logout", "logout", "Sign out: end the session that the request carries")
	logout.DefaultStatus = http.StatusNoContent
	handle(a, logout, func(ctx context.Context, _ auth.Principal, in *request) (*none, error) {
		return nil, a.cfg.Sessions.Logout(ctx, in.r)
	})
}

func signedIn(s session.Session, token string) wire.Session {
	return wire.Session{Token: token, User: s.User.Name, Expires: s.Expires}
}

// request is an input for handlers that need the HTTP request itself.
type request struct{ r *http.Request }

// Resolve keeps the request.
func (in *request) Resolve(ctx huma.Context) []error {
	in.r = rawRequest(ctx)
	return nil
}
