package roster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/consensus"
)

// The roles of a node.
const (
	Leader  = "leader"
	Voter   = "voter"
	Learner = "learner" // it follows and does not vote yet
	Joining = "joining" // it was taken in and has not started yet
)

// Node is a node as a person sees it.
type Node struct {
	consensus.Member
	Facts
	Role  string
	Asked string // why it could not be asked itself; empty = it was
}

// askWithin bounds how long a list waits for a node that does not answer.
const askWithin = 1500 * time.Millisecond

// List is every node of the cluster, by name.
func (r *Roster) List(ctx context.Context, p auth.Principal) ([]Node, error) {
	var out []Node
	req := guard.Request{Principal: p, Action: auth.ClusterRead, Resource: auth.TheSystem}
	err := r.cfg.Door.Read(ctx, req, func(ctx context.Context, _ *guard.Permit) (guard.Outcome, error) {
		var err error
		out, err = r.list(ctx)
		return guard.Outcome{Usage: map[string]int64{"rows": int64(len(out))}}, err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (r *Roster) list(ctx context.Context) ([]Node, error) {
	members, err := r.cfg.Raft.Members(ctx)
	if err != nil {
		return nil, err
	}
	var out []Node
	for _, m := range members {
		out = append(out, Node{Member: m, Role: role(m)})
	}
	r.mu.RLock()
	for name, e := range r.entries {
		i := slices.IndexFunc(out, func(n Node) bool { return n.ID == name })
		switch {
		case i >= 0:
			out[i].URL = e.URL
		case !e.Removed:
			out = append(out, Node{
				Member: consensus.Member{ID: name, Address: e.Address, Note: "It has not started yet: run cloister serve on it, with the data folder that it joined with."},
				Facts:  Facts{URL: e.URL}, Role: Joining,
			})
		}
	}
	r.mu.RUnlock()
	slices.SortFunc(out, func(a, b Node) int { return strings.Compare(a.ID, b.ID) })
	r.ask(ctx, out)
	return out, nil
}

// ask asks each node for what only it knows.
func (r *Roster) ask(ctx context.Context, list []Node) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	var all sync.WaitGroup
	for i := range list {
		n := &list[i]
		if n.Role == Joining || r.cfg.Facts == nil {
			continue
		}
		all.Go(func() {
			f, err := r.cfg.Facts(ctx, n.ID)
			if err != nil {
				n.Asked = "It does not answer."
				return
			}
			n.Facts = f
		})
	}
	all.Wait()
}

func role(m consensus.Member) string {
	switch {
	case m.Leader:
		return Leader
	case m.Voter:
		return Voter
	}
	return Learner
}

// change is an act on the cluster, guarded and on the record.
func (r *Roster) change(ctx context.Context, p auth.Principal, what string, detail map[string]any, act func(context.Context, *guard.Permit) error) error {
	if detail == nil {
		detail = map[string]any{}
	}
	detail["what"] = what
	req := guard.Request{Principal: p, Action: auth.ClusterManage, Resource: auth.TheSystem, Args: detail, Detail: detail, Within: time.Minute}
	return r.cfg.Door.Do(ctx, req, func(ctx context.Context, permit *guard.Permit) (guard.Outcome, error) {
		if err := permit.Covers(auth.ClusterManage, auth.TheSystem); err != nil {
			return guard.Outcome{}, err
		}
		return guard.Outcome{}, act(ctx, permit)
	})
}

// Remove takes a node out of the cluster for ever. It is told so when it knocks
// again. Removing one that was removed already finishes what was left undone.
func (r *Roster) Remove(ctx context.Context, p auth.Principal, node string) error {
	return r.change(ctx, p, "remove a node", map[string]any{"node": node}, func(ctx context.Context, _ *guard.Permit) error {
		members, err := r.cfg.Raft.Members(ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(members, func(m consensus.Member) bool { return m.ID == node })
		e, known := r.entry(node)
		switch {
		case i < 0 && (!known || e.Removed):
			return noNode(node)
		case i >= 0 && members[i].Voter && voters(members) == 1:
			return fmt.Errorf("%s is the only node that votes; add another one first: %w", node, store.ErrInvalid)
		}
		if i >= 0 && members[i].Leader {
			if err := r.cfg.Raft.Transfer(ctx, ""); err != nil {
				return fmt.Errorf("hand the lead of %s to another node first: %w", node, err)
			}
		}
		if err := r.mark(ctx, node, true); err != nil {
			return err
		}
		if i < 0 {
			return nil
		}
		return r.cfg.Raft.Remove(ctx, node) // interrupted, mend finishes it
	})
}

// mark writes whether a node is removed.
func (r *Roster) mark(ctx context.Context, node string, removed bool) error {
	_, err := r.cfg.Store.Update(ctx, func(u *store.Update) error {
		e, _, err := get(u, node)
		if err != nil {
			return err
		}
		e.Removed = removed
		return put(u, node, e)
	})
	return err
}

func noNode(node string) error {
	return fmt.Errorf("there is no node %q in this cluster: %w", node, store.ErrNotFound)
}

func voters(list []consensus.Member) int {
	n := 0
	for _, m := range list {
		if m.Voter {
			n++
		}
	}
	return n
}

// Transfer hands the lead to a node, "" = to any that is fit.
func (r *Roster) Transfer(ctx context.Context, p auth.Principal, node string) error {
	return r.change(ctx, p, "hand over the lead", map[string]any{"node": node}, func(ctx context.Context, _ *guard.Permit) error {
		members, err := r.cfg.Raft.Members(ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(members, func(m consensus.Member) bool { return m.ID == node })
		switch {
		case node == "" && voters(members) == 1:
			return fmt.Errorf("no other node votes, so none can take the lead: %w", store.ErrInvalid)
		case node == "":
		case i < 0:
			return noNode(node)
		case !members[i].Voter:
			return fmt.Errorf("%s does not vote yet, so it cannot lead; wait until it does: %w", node, store.ErrInvalid)
		case members[i].Leader:
			return nil
		}
		return r.cfg.Raft.Transfer(ctx, node)
	})
}

// Readdress says where a node is reached by the others from now on.
func (r *Roster) Readdress(ctx context.Context, p auth.Principal, node, address string) error {
	if err := CheckAddress(address); err != nil {
		return fmt.Errorf("%w: %w", err, store.ErrInvalid)
	}
	return r.change(ctx, p, "readdress a node", map[string]any{"node": node, "address": address}, func(ctx context.Context, _ *guard.Permit) error {
		if e, known := r.entry(node); !known || e.Removed {
			return noNode(node)
		}
		_, err := r.cfg.Store.Update(ctx, func(u *store.Update) error {
			e, _, err := get(u, node)
			if err != nil {
				return err
			}
			e.Address = address
			return put(u, node, e)
		})
		if err != nil {
			return err
		}
		members, err := r.cfg.Raft.Members(ctx)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(members, func(m consensus.Member) bool { return m.ID == node }) {
			return nil // it is added with its address when it starts
		}
		return r.cfg.Raft.Readdress(ctx, consensus.Peer{ID: node, Address: address})
	})
}
