package api

import (
	"context"
	"net/http"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/node/api/wire"
)

func (a *API) formatRoutes() {
	op := operation(http.MethodPost, "/api/v1/nodes/finalise", "finalise", "Raise the cluster to the newest data format that all nodes know; no node can go back to an older program then")
	handle(a, op, func(ctx context.Context, p auth.Principal, _ *none) (*body[wire.Finalised], error) {
		if a.cfg.Finalise == nil {
			return nil, errNoNodes
		}
		from, to, err := a.cfg.Finalise(ctx, p)
		if err != nil {
			return nil, err
		}
		return &body[wire.Finalised]{wire.Finalised{From: from, To: to}}, nil
	})
}
