package graph

import (
	"context"
	"errors"
	"maps"
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

// Sources lists what may be read, by name.
func (a Access) Sources() []string { return slices.Sorted(maps.Keys(a.sources)) }

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

// Was reports whether a snapshot of the past holds this source, and not another
// one that had its name before: what came from that one is not for those who may
// read this one.
func Was(s store.Snapshot, src Source) (bool, error) {
	then, err := readSource(s, newCodec(), src.Name)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil && then.AddedNs == src.AddedNs && then.AddedBy == src.AddedBy, err
}
