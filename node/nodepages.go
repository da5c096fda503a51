package node

import (
	"context"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/node/cluster/roster"
	"github.com/cloister-os/cloister/ui"
	"github.com/cloister-os/cloister/ui/view"
)

// nodePages is the cluster as the page of the nodes sees it.
type nodePages struct{ *Node }

var _ ui.Nodes = nodePages{}

// List implements ui.Nodes.
func (n nodePages) List(ctx context.Context, p auth.Principal) (view.Nodes, error) {
	list, err := n.roster.Load().List(ctx, p)
	if err != nil {
		return view.Nodes{}, err
	}
	out := view.Nodes{
		Manage: n.guard.Decide(ctx, guard.Request{Principal: p, Action: auth.ClusterManage, Resource: auth.TheSystem}) == nil,
		Shut:   n.port == nil,
	}
	web := n.web.Status()
	out.Web = view.Certificate{Tone: view.OK, State: "internal", Names: web.Names, Issuer: web.Issuer, Until: web.Until, Warning: web.Warning}
	if web.Organisation {
		out.Web.State = "of the organisation"
	}
	if web.Warning != "" {
		out.Web.Tone = view.Warn
	}
	for _, m := range list {
		out.List = append(out.List, showNode(m))
	}
	return out, nil
}

func showNode(m roster.Node) view.Node {
	out := view.Node{
		Name: m.ID, URL: m.URL, Peer: m.Address, Self: m.Self, CanLead: m.Role == roster.Voter && m.Healthy, Tone: view.OK, State: "well", Note: m.Note,
		Applied: uint64(m.Applied), Certificate: m.Certificate, Free: m.FreeBytes, Version: m.Program,
		Role: map[string]string{roster.Leader: "leads", roster.Voter: "votes", roster.Learner: "learns", roster.Joining: "joins"}[m.Role],
	}
	if !m.Healthy {
		out.Tone, out.State = view.Warn, "not well"
	}
	if m.Role == roster.Joining {
		out.Tone, out.State = view.Calm, "not started"
	}
	return out
}

// Invite implements ui.Nodes.
func (n nodePages) Invite(ctx context.Context, p auth.Principal) (view.Invitation, error) {
	i, err := n.roster.Load().Invite(ctx, p, 0)
	if err != nil {
		return view.Invitation{}, err
	}
	return view.Invitation{Command: i.Command(), Until: i.Expires}, nil
}

// Lead implements ui.Nodes.
func (n nodePages) Lead(ctx context.Context, p auth.Principal, node string) error {
	return n.roster.Load().Transfer(ctx, p, node)
}

// Remove implements ui.Nodes.
func (n nodePages) Remove(ctx context.Context, p auth.Principal, node string) error {
	return n.roster.Load().Remove(ctx, p, node)
}
