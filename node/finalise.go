package node

import (
	"context"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/audit"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/auth/policy"
	"github.com/cloister-os/cloister/store"
)

// finalise raises the cluster to the newest data format, behind the guard: after
// it no node can go back to an older program. The policies that came with today's
// program follow within a second or two: see policy.Policies.RunAmend.
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

// eventAmend is what stands on the record when the starter policies of a newer
// program were added, by the node and not by a person.
const eventAmend auth.Action = "policy.amend"

func (n *Node) recordAmended(tx *store.Tx, a policy.Amended) error {
	detail := map[string]any{}
	for name, ids := range map[string][]string{"added": a.Added, "replaced": a.Replaced, "left_as_changed": a.Changed} {
		if len(ids) > 0 {
			detail[name] = ids
		}
	}
	return audit.Append(tx, audit.Record{
		Kind: audit.Event, Actor: audit.Actor{Kind: auth.System, ID: n.cfg.Node}, Action: eventAmend,
		Resource: audit.Resource{Type: auth.TheSystem.Type, ID: auth.TheSystem.ID}, Detail: detail, Node: n.cfg.Node,
	})
}
