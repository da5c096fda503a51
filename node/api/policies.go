package api

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/auth/policy"
	"github.com/cloister-os/cloister/node/api/wire"
	"github.com/cloister-os/cloister/store"
)

type policyInput struct {
	ID string `path:"id" maxLength:"200"`
}

type putPolicyInput struct {
	ID   string `path:"id" maxLength:"200"`
	Body wire.NewPolicy
}

func (a *API) policyRoutes() {
	list := operation(http.MethodGet, "/api/v1/policies", "list-policies", "The policies in force, by id")
	handle(a, list, func(ctx context.Context, p auth.Principal, _ *none) (*body[[]wire.Policy], error) {
		out := []wire.Policy{}
		err := a.readPolicies(ctx, p, func(list []policy.Policy) error {
			for _, one := range list {
				out = append(out, wirePolicy(one))
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		return &body[[]wire.Policy]{out}, nil
	})
	show := operation(http.MethodGet, "/api/v1/policies/{id}", "get-policy", "One policy")
	handle(a, show, func(ctx context.Context, p auth.Principal, in *policyInput) (*body[wire.Policy], error) {
		var out wire.Policy
		err := a.readPolicies(ctx, p, func(list []policy.Policy) error {
			for _, one := range list {
				if one.ID == in.ID {
					out = wirePolicy(one)
					return nil
				}
			}
			return errNoPolicy
		})
		if err != nil {
			return nil, err
		}
		return &body[wire.Policy]{out}, nil
	})
	put := operation(http.MethodPut, "/api/v1/policies/{id}", "put-policy", "Add or replace a policy; it counts from the next call")
	handle(a, put, a.putPolicy)
	remove := operation(http.MethodDelete, "/api/v1/policies/{id}", "remove-policy", "Remove a policy; that counts from the next call")
	handle(a, remove, func(ctx context.Context, p auth.Principal, in *policyInput) (*none, error) {
		return nil, a.changePolicies(ctx, p, "remove "+in.ID, in.ID, "", func(tx *store.Tx) error { return a.cfg.Policies.Remove(tx, in.ID) })
	})
}

func (a *API) putPolicy(ctx context.Context, p auth.Principal, in *putPolicyInput) (*body[wire.Policy], error) {
	err := a.changePolicies(ctx, p, "put "+in.ID, in.ID, in.Body.Text, func(tx *store.Tx) error {
		id, err := a.cfg.Policies.Put(tx, in.Body.Text)
		if err == nil && id != in.ID {
			return problem(http.StatusUnprocessableEntity, "The policy's @id and its name differ.",
				"The text has @id(\""+id+"\"); send it to /api/v1/policies/"+id+" or change one of the two.")
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return &body[wire.Policy]{wire.Policy{ID: in.ID, Text: in.Body.Text}}, nil
}

var errNoPolicy = problem(http.StatusNotFound, "There is no such policy.", "See which there are with: cloister policy list.")

func wirePolicy(p policy.Policy) wire.Policy {
	return wire.Policy{ID: p.ID, Effect: p.Effect, Comment: p.Comment, Text: p.Text, Version: uint64(p.Version)}
}

func (a *API) readPolicies(ctx context.Context, p auth.Principal, use func([]policy.Policy) error) error {
	req := guard.Request{Principal: p, Action: auth.PolicyRead, Resource: auth.TheSystem}
	return a.cfg.Door.Read(ctx, req, func(context.Context, *guard.Permit) (guard.Outcome, error) {
		list := a.cfg.Policies.List()
		return guard.Outcome{Usage: map[string]int64{"rows": int64(len(list))}}, use(list)
	})
}

// changePolicies commits a change together with its outcome on the record, which
// holds what the change took from the policies and added to them.
func (a *API) changePolicies(ctx context.Context, p auth.Principal, what, id, text string, change func(*store.Tx) error) error {
	detail := map[string]any{"what": what}
	detail["removed"], detail["added"] = a.difference(id, text)
	req := guard.Request{Principal: p, Action: auth.PolicyManage, Resource: auth.TheSystem, Args: []string{what, text}, Detail: detail}
	return a.cfg.Door.Do(ctx, req, func(ctx context.Context, permit *guard.Permit) (guard.Outcome, error) {
		if err := permit.Covers(auth.PolicyManage, auth.TheSystem); err != nil {
			return guard.Outcome{}, err
		}
		_, err := a.cfg.Store.Update(ctx, func(u *store.Update) error {
			if err := guard.OnceOf(ctx).Claim(u, nil); err != nil {
				return err
			}
			if err := change(u.Tx); err != nil {
				return invalidPolicy(err)
			}
			return a.cfg.Door.Finish(u.Tx, permit, guard.Outcome{Status: guard.StatusOK})
		})
		var before *guard.DoneError
		if errors.As(err, &before) {
			return guard.Outcome{Detail: map[string]any{"repeated": true}}, nil
		}
		return guard.Outcome{}, err
	})
}

// Bounds of a difference on the record.
const (
	maxDiffLines = 60
	maxDiffLine  = 200 // bytes
)

// difference is the lines that a policy loses and gains with a new text; "" is
// none.
func (a *API) difference(id, text string) (removed, added []string) {
	before := ""
	for _, one := range a.cfg.Policies.List() {
		if one.ID == id {
			before = one.Text
		}
	}
	return beyond(before, text), beyond(text, before)
}

// beyond is the lines of a text that another lacks.
func beyond(text, other string) []string {
	out := []string{}
	have := strings.Split(other, "\n")
	for line := range strings.SplitSeq(text, "\n") {
		if strings.TrimSpace(line) == "" || slices.Contains(have, line) {
			continue
		}
		if len(out) == maxDiffLines {
			return append(out, "… and more")
		}
		if auth.HoldsSecret(line) {
			line = "(a line with what looks like an API key)"
		}
		if len(line) > maxDiffLine {
			line = strings.ToValidUTF8(line[:maxDiffLine], "") + "…"
		}
		out = append(out, line)
	}
	return out
}

func invalidPolicy(err error) error {
	switch {
	case errors.Is(err, policy.ErrInvalid):
		return problem(http.StatusUnprocessableEntity, "That is not a valid policy.", sentence(err))
	case errors.Is(err, store.ErrNotFound):
		return errNoPolicy
	}
	return err
}
