package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/seal"
	"github.com/cloister-os/cloister/node/api/wire"
)

// Seal is what the API asks of a node's keys. Each of its methods passes the guard.
type Seal interface {
	Status(ctx context.Context, p auth.Principal) (wire.Seal, error)
	Rotate(ctx context.Context, p auth.Principal) (seal.DataKey, error)
	Split(ctx context.Context, p auth.Principal, holders []string, need int) ([]seal.Share, error)
	Confirm(ctx context.Context, p auth.Principal, shares []string) error
	Unsplit(ctx context.Context, p auth.Principal) error
}

var errNoSeal = problem(http.StatusServiceUnavailable, "This node's keys are kept elsewhere.", "")

func (a *API) sealRoutes() {
	status := operation(http.MethodGet, "/api/v1/seal", "get-seal", "How this node's keys are kept; while the node waits for shares, without signing in, who must bring one")
	handle(a, status, func(ctx context.Context, p auth.Principal, _ *none) (*body[wire.Seal], error) {
		if a.cfg.Seal == nil {
			return nil, errNoSeal
		}
		s, err := a.cfg.Seal.Status(ctx, p)
		return &body[wire.Seal]{s}, err
	})
	rotate := operation(http.MethodPost, "/api/v1/seal/rotate", "rotate-seal", "Make a new data key for this node and seal everything anew with it, in the background")
	rotate.DefaultStatus = http.StatusAccepted
	handle(a, rotate, func(ctx context.Context, p auth.Principal, _ *none) (*body[wire.DataKey], error) {
		if a.cfg.Seal == nil {
			return nil, errNoSeal
		}
		key, err := a.cfg.Seal.Rotate(ctx, p)
		return &body[wire.DataKey]{wire.DataKey(key)}, sealProblem(err)
	})
	split := operation(http.MethodPost, "/api/v1/seal/shares", "split-seal", "Split the root key into shares, which are in this answer and nowhere else; nothing changes until they are confirmed")
	handle(a, split, func(ctx context.Context, p auth.Principal, in *body[wire.Split]) (*body[[]wire.Share], error) {
		if a.cfg.Seal == nil {
			return nil, errNoSeal
		}
		shares, err := a.cfg.Seal.Split(ctx, p, in.Body.Holders, in.Body.Need)
		if err != nil {
			return nil, sealProblem(err)
		}
		out := make([]wire.Share, len(shares))
		for i, s := range shares {
			out[i] = wire.Share{Holder: s.Holder, Share: s.Text}
		}
		return &body[[]wire.Share]{out}, nil
	})
	confirm := operation(http.MethodPost, "/api/v1/seal/shares/confirm", "confirm-shares", "Show that enough shares were written down; from then on each node of the cluster needs them to start")
	confirm.DefaultStatus = http.StatusNoContent
	handle(a, confirm, func(ctx context.Context, p auth.Principal, in *body[wire.Confirm]) (*none, error) {
		if a.cfg.Seal == nil {
			return nil, errNoSeal
		}
		return nil, sealProblem(a.cfg.Seal.Confirm(ctx, p, in.Body.Shares))
	})
	file := operation(http.MethodPost, "/api/v1/seal/file", "unsplit-seal", "Keep the root key in a file again, so that each node of the cluster starts by itself; the shares are worth nothing after that")
	file.DefaultStatus = http.StatusNoContent
	handle(a, file, func(ctx context.Context, p auth.Principal, _ *none) (*none, error) {
		if a.cfg.Seal == nil {
			return nil, errNoSeal
		}
		return nil, sealProblem(a.cfg.Seal.Unsplit(ctx, p))
	})
}

func sealProblem(err error) error {
	switch {
	case errors.Is(err, seal.ErrRotating):
		return problem(http.StatusConflict, "The data key is being changed already.", "See how far it is with: cloister seal status.")
	case errors.Is(err, seal.ErrHolders), errors.Is(err, seal.ErrShare):
		return problem(http.StatusUnprocessableEntity, "The seal stays as it is.", sentence(err))
	}
	return err
}
