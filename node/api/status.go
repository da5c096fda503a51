package api

import (
	"context"
	"net/http"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/node/api/wire"
)

func (a *API) statusRoutes() {
	status := operation(http.MethodGet, "/api/v1/status", "status", "How the node is")
	handle(a, status, func(ctx context.Context, p auth.Principal, _ *none) (*body[wire.Status], error) {
		var out wire.Status
		req := guard.Request{Principal: p, Action: auth.SystemStatus, Resource: auth.TheSystem}
		err := a.cfg.Door.Read(ctx, req, func(ctx context.Context, _ *guard.Permit) (guard.Outcome, error) {
			var err error
			out, err = a.cfg.Status(ctx, p)
			return guard.Outcome{Status: "ok"}, err
		})
		if err != nil {
			return nil, err
		}
		return &body[wire.Status]{out}, nil
	})
}
