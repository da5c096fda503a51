// Package policy answers one question: may they?
//
// It promises: what no permit allows is refused; a forbid wins; a policy that
// fails to evaluate, or that is stored but cannot be read, refuses; a decision
// takes no lock and touches no disk; a policy that was put or removed counts from
// the next decision on this node, and on other nodes as soon as they have applied
// it (the guard sees to it that this is soon, see guard.Recent); 10,000 policies cost what 10 do, because only those whose scope can match
// are evaluated (see index). Policies are Cedar; schema.cedarschema says what
// they may speak of, and starter.cedar holds those that a new installation has, and
// that an upgraded cluster is offered once it is finalised.
//
// It may import store and auth.
package policy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/store"
)

// DefaultDeny stands for the policies of a refusal that no policy names.
const DefaultDeny = "default-deny"

// MaxPolicies bounds how many policies there may be.
const MaxPolicies = 100_000

// ErrInvalid is the kind of every refusal to store a policy.
var ErrInvalid = errors.New("not a valid policy")

// Decision is the answer, with its reasons.
type Decision struct {
	Allow       bool
	Policies    []string // the ids that decided, sorted; DefaultDeny alone when none did
	Obligations []string // @obligation of the permits that decided, sorted
	Err         error    // why a policy could not be evaluated; the decision is then a refusal
}

// Policies is the set of stored policies. It is safe for concurrent use.
type Policies struct {
	store  store.Store
	logger *slog.Logger

	current atomic.Pointer[set]
	dirty   atomic.Bool // changes is not empty
	follows atomic.Bool // Run is at work

	mu      sync.Mutex    // guards what follows, and the replacement of current
	changes []change      // committed, and not yet in current
	moved   chan struct{} // closed and replaced when changes were noted
}

// New reads the policies from the store. Call Run to follow changes that other
// nodes make.
func New(ctx context.Context, st store.Store, logger *slog.Logger) (*Policies, error) {
	if logger == nil {
		logger = slog.Default()
	}
	p := &Policies{store: st, logger: logger, moved: make(chan struct{})}
	if err := p.reload(ctx); err != nil {
		return nil, fmt.Errorf("read the policies: %w", err)
	}
	return p, nil
}

// Decide says whether the principal may do this, under the facts of the call.
// Whoever acts on behalf of another may do what both may; for the second question
// the fact "agent" names who acts, and no caller can set it.
func (p *Policies) Decide(who auth.Principal, action auth.Action, on auth.Resource, facts map[string]any) Decision {
	return p.now().decide(who, action, on, facts)
}

func (s *set) decide(who auth.Principal, action auth.Action, on auth.Resource, facts map[string]any) Decision {
	allowed := Decision{Allow: true}
	agent := ""
	for depth := 0; ; depth++ {
		if depth > auth.MaxDelegation {
			return refused(fmt.Errorf("more than %d principals act for one another", auth.MaxDelegation))
		}
		d := s.decideOne(who, action, on, facts, agent)
		if !d.Allow {
			return d
		}
		allowed.Policies = append(allowed.Policies, d.Policies...)
		allowed.Obligations = append(allowed.Obligations, d.Obligations...)
		if who.OnBehalfOf == nil {
			break
		}
		agent, who = who.ID, *who.OnBehalfOf
	}
	if who.Kind == auth.Agent {
		return refused(errors.New("an agent acts only on behalf of someone"))
	}
	allowed.Policies, allowed.Obligations = sorted(allowed.Policies), sorted(allowed.Obligations)
	return allowed
}

func (s *set) decideOne(who auth.Principal, action auth.Action, on auth.Resource, facts map[string]any, agent string) Decision {
	if len(s.broken) > 0 && !repairs(action) {
		return Decision{Policies: s.broken, Err: fmt.Errorf("policy %s is stored but cannot be read", s.broken[0])}
	}
	entities, req, err := sceneOf(who, action, on, facts, agent)
	if err != nil {
		return refused(err)
	}
	verdict, diag := s.index.authorize(entities, req)
	if len(diag.Errors) > 0 {
		return failed(diag.Errors)
	}
	d := Decision{Allow: verdict == cedar.Allow}
	for _, r := range diag.Reasons {
		d.Policies = append(d.Policies, string(r.PolicyID))
		if o := s.byID[string(r.PolicyID)].obligation; d.Allow && o != "" {
			d.Obligations = append(d.Obligations, o)
		}
	}
	if len(d.Policies) == 0 {
		d.Policies = []string{DefaultDeny}
	}
	slices.Sort(d.Policies)
	return d
}

// repairs are the actions that a broken policy does not refuse, so that it can be
// seen and removed; they still need a permit like any other.
func repairs(action auth.Action) bool {
	return action == auth.PolicyRead || action == auth.PolicyManage
}

func refused(err error) Decision { return Decision{Policies: []string{DefaultDeny}, Err: err} }

// failed refuses because policies could not be evaluated. Cedar itself would
// skip them, which turns a broken forbid into a permit.
func failed(errs []types.DiagnosticError) Decision {
	d := Decision{}
	for _, e := range errs {
		d.Policies = append(d.Policies, string(e.PolicyID))
	}
	d.Policies = sorted(d.Policies)
	d.Err = fmt.Errorf("policy %s failed to evaluate: %s", errs[0].PolicyID, errs[0].Message)
	return d
}

func sorted(list []string) []string {
	slices.Sort(list)
	return slices.Compact(list)
}

// Policy is one stored policy.
type Policy struct {
	ID      string
	Text    string        // Cedar, with its @id
	Comment string        // the comment above it, for people
	Effect  string        // "permit" or "forbid"
	Version store.Version // when it was last put
	Updated time.Time
}
