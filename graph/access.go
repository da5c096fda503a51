package graph

import (
	"context"
	"errors"

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
		err := door.Decide(ctx, guard.Request{Principal: p, Action: auth.SourceRead, Resource: SourceResource(src)})
		switch {
		case err == nil:
			a.sources[src.Name] = true
		case !errors.Is(err, auth.ErrDenied):
			return Access{}, err
		}
	}
	return a, nil
}

// SourceResource is the source as policies see it.
func SourceResource(s Source) auth.Resource {
	r := auth.Source(s.Name)
	r.Attrs = map[string]any{"kind": s.Kind, "audience": append([]string{}, s.Audience...)}
	return r
}
