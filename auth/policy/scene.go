package policy

import (
	"fmt"

	"github.com/cedar-policy/cedar-go"

	"github.com/cloister-os/cloister/auth"
)

// The names of the schema.
const (
	typeAction = cedar.EntityType("Action")
	typeRole   = cedar.EntityType("Role")
	typeGroup  = cedar.EntityType("Group")
	typeSource = cedar.EntityType("Source")
)

// scene holds the entities of one decision. It implements cedar.EntityGetter.
type scene struct {
	principal cedar.Entity
	resource  cedar.Entity
}

// Get implements cedar.EntityGetter.
func (s *scene) Get(uid cedar.EntityUID) (cedar.Entity, bool) {
	switch {
	case uid == s.principal.UID:
		return s.principal, true
	case uid == s.resource.UID:
		return s.resource, true
	case uid.Type == typeRole:
		return roleEntity(uid), true
	}
	return cedar.Entity{}, false
}

func roleEntity(uid cedar.EntityUID) cedar.Entity {
	return cedar.Entity{UID: uid, Parents: roleSet(auth.Role(uid.ID).Also())}
}

func roleSet(list []auth.Role) cedar.EntityUIDSet { return cedar.NewEntityUIDSet(roleUIDs(list)...) }

func roleUIDs(list []auth.Role) []cedar.EntityUID {
	uids := make([]cedar.EntityUID, len(list))
	for i, r := range list {
		uids[i] = cedar.EntityUID{Type: typeRole, ID: cedar.String(r)}
	}
	return uids
}

// parents is what a person stands in: their roles, and the groups of their
// directory, which stand in nothing themselves: the directory has already said
// which groups are in which.
func parents(who auth.Principal) cedar.EntityUIDSet {
	uids := roleUIDs(who.Roles)
	for _, g := range who.Groups {
		uids = append(uids, cedar.EntityUID{Type: typeGroup, ID: cedar.String(g)})
	}
	return cedar.NewEntityUIDSet(uids...)
}

// sceneOf turns a call into Cedar's words. agent is who acts for the principal,
// or "".
func sceneOf(who auth.Principal, action auth.Action, on auth.Resource, facts map[string]any, agent string) (*scene, cedar.Request, error) {
	s := &scene{}
	var err error
	if s.principal, err = principalEntity(who); err != nil {
		return nil, cedar.Request{}, err
	}
	attrs, err := record(on.Attrs)
	if err != nil {
		return nil, cedar.Request{}, fmt.Errorf("attributes of %s: %w", on.Type, err)
	}
	if on.Type == string(auth.System) {
		attrs["id"] = cedar.String(on.ID)
	}
	s.resource = cedar.Entity{UID: cedar.NewEntityUID(cedar.EntityType(on.Type), cedar.String(on.ID)), Attributes: cedar.NewRecord(attrs)}
	context, err := record(facts)
	if err != nil {
		return nil, cedar.Request{}, fmt.Errorf("facts of %s: %w", action, err)
	}
	delete(context, "agent")
	if agent != "" {
		context["agent"] = cedar.String(agent)
	}
	return s, cedar.Request{
		Principal: s.principal.UID,
		Action:    cedar.NewEntityUID(typeAction, cedar.String(action)),
		Resource:  s.resource.UID,
		Context:   cedar.NewRecord(context),
	}, nil
}

func principalEntity(who auth.Principal) (cedar.Entity, error) {
	if who.ID == "" {
		return cedar.Entity{}, fmt.Errorf("a principal of kind %q without an id", who.Kind)
	}
	attrs := cedar.RecordMap{"id": cedar.String(who.ID)}
	e := cedar.Entity{UID: cedar.NewEntityUID(cedar.EntityType(who.Kind), cedar.String(who.ID))}
	switch who.Kind {
	case auth.User:
		e.Parents = parents(who)
	case auth.APIKey:
		attrs["scopes"] = stringSet(who.Scopes)
		attrs["sources"] = sourceSet(who.Sources)
	case auth.Agent, auth.System:
	default:
		return cedar.Entity{}, fmt.Errorf("an unknown kind of principal %q", who.Kind)
	}
	e.Attributes = cedar.NewRecord(attrs)
	return e, nil
}

func stringSet(list []string) cedar.Set {
	values := make([]cedar.Value, len(list))
	for i, s := range list {
		values[i] = cedar.String(s)
	}
	return cedar.NewSet(values...)
}

func sourceSet(list []string) cedar.Set {
	values := make([]cedar.Value, len(list))
	for i, s := range list {
		values[i] = cedar.NewEntityUID(typeSource, cedar.String(s))
	}
	return cedar.NewSet(values...)
}

// record turns facts into a Cedar record. Only the types that auth.Resource and
// guard.Request name are taken: anything else is a refusal, not a guess.
func record(m map[string]any) (cedar.RecordMap, error) {
	out := make(cedar.RecordMap, len(m)+1)
	for k, v := range m {
		switch v := v.(type) {
		case string:
			out[cedar.String(k)] = cedar.String(v)
		case bool:
			out[cedar.String(k)] = cedar.Boolean(v)
		case int64:
			out[cedar.String(k)] = cedar.Long(v)
		case int:
			out[cedar.String(k)] = cedar.Long(v)
		case []string:
			out[cedar.String(k)] = stringSet(v)
		default:
			return nil, fmt.Errorf("%q is a %T; it may be a string, bool, int64 or []string", k, v)
		}
	}
	return out, nil
}
