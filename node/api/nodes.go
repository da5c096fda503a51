package api

import (
	"context"
	"net/http"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/node/api/wire"
	"github.com/cloister-os/cloister/node/cluster/roster"
)

// Nodes is what the API asks of the cluster. *roster.Roster is one.
type Nodes interface {
	List(ctx context.Context, p auth.Principal) ([]roster.Node, error)
	Invite(ctx context.Context, p auth.Principal, life time.Duration) (roster.Invitation, error)
	Remove(ctx context.Context, p auth.Principal, node string) error
	Transfer(ctx context.Context, p auth.Principal, node string) error
	Readdress(ctx context.Context, p auth.Principal, node, address string) error
}

type nodeInput struct {
	Name string `path:"name" maxLength:"40"`
}

type addressInput struct {
	Name string `path:"name" maxLength:"40"`
	Body wire.Address
}

func (a *API) nodeRoutes() {
	list := operation(http.MethodGet, "/api/v1/nodes", "list-nodes", "The nodes of the cluster, by name")
	handle(a, list, func(ctx context.Context, p auth.Principal, _ *none) (*body[[]wire.Node], error) {
		if a.cfg.Nodes == nil {
			return nil, errNoNodes
		}
		nodes, err := a.cfg.Nodes.List(ctx, p)
		if err != nil {
			return nil, err
		}
		out := make([]wire.Node, 0, len(nodes))
		for _, n := range nodes {
			out = append(out, wireNode(n))
		}
		return &body[[]wire.Node]{out}, nil
	})
	invite := operation(http.MethodPost, "/api/v1/nodes/invitations", "invite-node", "Make an invitation for one new node; its token is in this answer and nowhere else")
	invite.DefaultStatus = http.StatusCreated
	handle(a, invite, func(ctx context.Context, p auth.Principal, in *body[wire.NewInvitation]) (*body[wire.Invitation], error) {
		if a.cfg.Nodes == nil {
			return nil, errNoNodes
		}
		i, err := a.cfg.Nodes.Invite(ctx, p, time.Duration(in.Body.Minutes)*time.Minute)
		if err != nil {
			return nil, err
		}
		return &body[wire.Invitation]{wire.Invitation{Token: i.Token, Expires: i.Expires.UTC(), Command: i.Command()}}, nil
	})
	transfer := operation(http.MethodPost, "/api/v1/nodes/transfer", "transfer-lead", "Hand the lead to another node")
	transfer.DefaultStatus = http.StatusNoContent
	handle(a, transfer, func(ctx context.Context, p auth.Principal, in *body[wire.Transfer]) (*none, error) {
		return a.onNodes(func(n Nodes) error { return n.Transfer(ctx, p, in.Body.To) })
	})
	remove := operation(http.MethodDelete, "/api/v1/nodes/{name}", "remove-node", "Remove a node from the cluster for ever")
	handle(a, remove, func(ctx context.Context, p auth.Principal, in *nodeInput) (*none, error) {
		return a.onNodes(func(n Nodes) error { return n.Remove(ctx, p, in.Name) })
	})
	address := operation(http.MethodPut, "/api/v1/nodes/{name}/address", "readdress-node", "Say where the other nodes reach a node")
	address.DefaultStatus = http.StatusNoContent
	handle(a, address, func(ctx context.Context, p auth.Principal, in *addressInput) (*none, error) {
		return a.onNodes(func(n Nodes) error { return n.Readdress(ctx, p, in.Name, in.Body.Peer) })
	})
}

var errNoNodes = problem(http.StatusServiceUnavailable, "This node keeps no list of nodes.", "")

func (a *API) onNodes(act func(Nodes) error) (*none, error) {
	if a.cfg.Nodes == nil {
		return nil, errNoNodes
	}
	return nil, act(a.cfg.Nodes)
}

func wireNode(n roster.Node) wire.Node {
	out := wire.Node{
		Name: n.ID, URL: n.URL, Peer: n.Address, Role: n.Role, Healthy: n.Healthy, Self: n.Self, Note: n.Note,
		Applied: uint64(n.Applied), LastContactMS: n.LastContact.Milliseconds(), ClockOffsetMS: n.ClockOffset.Milliseconds(),
		Version: n.Program, Format: n.Format, FreeBytes: n.FreeBytes, Certificate: n.Certificate, Organisation: n.Organisation,
	}
	if out.Note == "" {
		out.Note = n.Asked
	}
	return out
}
