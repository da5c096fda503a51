package node

import (
	"context"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
)

// finalise raises the cluster to the newest data format, behind the guard: after
// it no node can go back to an older program.
func (n *Node) finalise(ctx context.Context, p auth.Principal) (from, to int, err error) {
	detail := map[string]any{"what": "finalise"}
	req := guard.Request{Principal: p, Action: auth.ClusterManage, Resource: auth.TheSystem, Args: detail, Detail: detail}
	err = n.guard.Do(ctx, req, func(ctx context.Context, permit *guard.Permit) (guard.Outcome, error) {
		if err := permit.Admit(ctx, auth.ClusterManage, auth.TheSystem); err != nil {
			return guard.Outcome{}, err
		}
		from, to, err = n.store.Finalise(ctx)
		return guard.Outcome{Detail: map[string]any{"from": from, "to": to}}, err
	})
	return from, to, err
}
