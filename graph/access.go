package graph

import (
	"context"
	"errors"
	"slices"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/store"
)

// Access is the set of sources that somebody may read. The zero value may read
// nothing. It is resolved once for a question and then filters every read.
type Access struct {
	sources map[string]bool
}

// AccessTo is access to the named sources and no other. Production code gets
// its Access from ResolveAccess.
func AccessTo(sources ...string) Access {
	a := Access{sources: make(map[string]bool, len(sources))}
	for _, s := range sources {
		a.sources[s] = true
	}
	return a
}

// May reports whether what comes from the source may be read.
func (a Access) May(source string) bool { return a.sources[source] }

// Empty reports whether nothing may be read.
func (a Access) Empty() bool { return len(a.sources) == 0 }

// ResolveAccess asks the policy, for every source that exists in the snapshot,
// whether the principal may read it. Rights are those of now, also when the
// snapshot is of the past.
func ResolveAccess(ctx context.Context, door guard.Door, p auth.Principal, s store.Snapshot) (Access, error) {
	a := AccessTo()
	for src, err := range sources(s) {
		if err != nil {
			return Access{}, err
		}
		err := MayRead(ctx, door, p, src)
		switch {
		case err == nil:
			a.sources[src.Name] = true
		case !errors.Is(err, auth.ErrDenied):
			return Access{}, err
		}
	}
	return a, nil
}

// inAudience reports whether a source's audience, if it names one, includes the
// principal or whoever it acts for. A key is included by the sources that it was
// granted, which the policies check.
func inAudience(p auth.Principal, src Source) bool {
	for p.OnBehalfOf != nil {
		p = *p.OnBehalfOf
	}
	if len(src.Audience) == 0 || p.Kind == auth.APIKey || p.Kind == auth.System || slices.Contains(src.Audience, p.ID) {
		return true
	}
	return slices.ContainsFunc(p.Roles, func(r auth.Role) bool { return slices.Contains(src.Audience, string(r)) })
}

// MayRead asks whether a principal may read one source as it is defined.
func MayRead(ctx context.Context, door guard.Door, p auth.Principal, src Source) error {
	if src.Removing || !inAudience(p, src) {
		return &auth.DeniedError{Action: auth.SourceRead, Policies: []string{"audience"}}
	}
	return door.Decide(ctx, guard.Request{Principal: p, Action: auth.SourceRead, Resource: SourceResource(src)})
}

// SourceResource is the source as policies see it.
func SourceResource(s Source) auth.Resource {
	return auth.Source(s.Name)
}
