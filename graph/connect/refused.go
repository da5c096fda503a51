package connect

import (
	"context"
	"errors"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/store"
)

// RefusedFirst turns "there is no such source" into a refusal on record for
// whoever could not have it anyway: so nobody learns which sources there are, and
// who tried is known. Any other error it returns as it is.
func RefusedFirst(ctx context.Context, door guard.Door, p auth.Principal, action auth.Action, name string, err error) error {
	if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	req := guard.Request{Principal: p, Action: action, Resource: graph.SourceResource(graph.Source{Name: name})}
	refusal := door.Read(ctx, req, func(context.Context, *guard.Permit) (guard.Outcome, error) {
		return guard.Outcome{Status: guard.StatusFailed, Error: "no such source"}, nil
	})
	if refusal != nil {
		return refusal
	}
	return err
}
