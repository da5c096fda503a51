package api

import (
	"context"
	"net/http"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/budget"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/node/api/wire"
)

const maxCostLines = 100

func (a *API) costRoutes() {
	cost := operation(http.MethodGet, "/api/v1/cost", "cost", "What was spent in the last days, by agent, use case, person and model")
	handle(a, cost, func(ctx context.Context, p auth.Principal, in *struct {
		Days int `query:"days" minimum:"1" maximum:"366" default:"30"`
	}) (*body[wire.Cost], error) {
		out := wire.Cost{Lines: []wire.CostLine{}}
		// Who spent what is told to whoever may read the record.
		req := guard.Request{Principal: p, Action: auth.AuditRead, Resource: auth.AuditLog, Args: in.Days, Detail: map[string]any{"what": "cost"}}
		err := a.cfg.Door.Read(ctx, req, func(ctx context.Context, _ *guard.Permit) (guard.Outcome, error) {
			to := time.Now()
			from := to.AddDate(0, 0, 1-in.Days)
			for _, d := range []budget.Dimension{budget.Everything, budget.ByAgent, budget.ByUseCase, budget.ByPerson, budget.ByModel} {
				totals, err := a.cfg.Ledger.Totals(ctx, d, from, to, maxCostLines)
				if err != nil {
					return guard.Outcome{}, err
				}
				for _, t := range totals {
					out.Lines = append(out.Lines, wire.CostLine{By: string(d), ID: t.ID, NanoUSD: t.Cost, Calls: t.Calls, TokensIn: t.TokensIn, TokensOut: t.TokensOut})
				}
			}
			return guard.Outcome{Usage: map[string]int64{"rows": int64(len(out.Lines))}}, nil
		})
		if err != nil {
			return nil, err
		}
		return &body[wire.Cost]{out}, nil
	})
}
