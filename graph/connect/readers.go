package connect

import (
	"context"
	"errors"
	"slices"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/auth/policy"
	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/store"
)

// Decider says what the policies say of somebody. *policy.Policies is one.
type Decider interface {
	Decide(who auth.Principal, action auth.Action, on auth.Resource, facts map[string]any) policy.Decision
}

// Group is a group of a directory: what it is called, and which roles it gives to
// whoever is in it.
type Group struct {
	Name  string
	Roles []auth.Role
}

// Reader is somebody whom a source's audience names, or an API key that was
// granted it, and whether they read it.
type Reader struct {
	Kind graph.ReaderKind
	ID   string
	Name string // of a key, or of a group that is known
	// Reads reports that a policy lets them. Roles are then those one of which a
	// member or person needs for that; none = they need no role.
	Reads    bool
	Roles    []auth.Role
	Policies []string // that decided
}

// Readers is who may read one source. It tells nothing of what is in it.
type Readers struct {
	Source   graph.Source
	Everyone bool // it names no audience: whoever the policies let
	Readers  []Reader
	Nobody   bool // none of them reads it
	// Records is how many records nobody sees because of that; at most MaxHidden
	// are counted.
	Records int64
}

// Hidden is records whose source is not there any more, so that nobody sees them.
type Hidden struct {
	Source  string
	Records int64 // at most MaxHidden are counted
}

// Access is who may read what, and what nobody may.
type Access struct {
	Sources []Readers // by name
	Orphans []Hidden  // by name
	Keys    bool      // keys are told of: whoever asks may list them
	Groups  map[string]Group
}

// MaxHidden bounds the counting of records that nobody sees.
const MaxHidden = 10_000

// Readers tells who may read each source, and through which policies. It is for
// whoever manages access (auth.AccessRead): they learn names of sources, and
// nothing of what is in them.
func (s *Service) Readers(ctx context.Context, p auth.Principal) (Access, error) {
	var out Access
	req := guard.Request{Principal: p, Action: auth.AccessRead, Resource: auth.TheSystem}
	err := s.cfg.Door.Read(ctx, req, func(ctx context.Context, permit *guard.Permit) (guard.Outcome, error) {
		if err := permit.Covers(auth.AccessRead, auth.TheSystem); err != nil {
			return guard.Outcome{Status: guard.StatusFailed}, err
		}
		var err error
		out, err = s.readers(ctx, p)
		return guard.Outcome{Usage: map[string]int64{"rows": int64(len(out.Sources))}}, err
	})
	if err != nil {
		return Access{}, err
	}
	return out, nil
}

// ReadersOf is Readers for one source, with the groups that are known; an unknown
// source is store.ErrNotFound.
func (s *Service) ReadersOf(ctx context.Context, p auth.Principal, name string) (Readers, map[string]Group, error) {
	all, err := s.Readers(ctx, p)
	if err != nil {
		return Readers{}, nil, err
	}
	i := slices.IndexFunc(all.Sources, func(r Readers) bool { return r.Source.Name == name })
	if i < 0 {
		return Readers{}, nil, unseen(name, store.ErrNotFound)
	}
	return all.Sources[i], all.Groups, nil
}

func (s *Service) readers(ctx context.Context, p auth.Principal) (Access, error) {
	keys, told, err := s.keysOf(ctx, p)
	if err != nil {
		return Access{}, err
	}
	out := Access{Keys: told}
	if s.cfg.Groups != nil {
		if out.Groups, err = s.cfg.Groups(ctx, p); err != nil && !errors.Is(err, auth.ErrDenied) {
			return Access{}, err
		}
	}
	err = s.cfg.Store.View(ctx, store.Fresh, func(snap store.Snapshot) error {
		all, err := graph.AllSources(snap)
		if err != nil {
			return err
		}
		for _, src := range all {
			r := s.readersOf(src, keys, out.Groups)
			if r.Nobody {
				if r.Records, err = count(snap, src.Name); err != nil {
					return err
				}
			}
			out.Sources = append(out.Sources, r)
		}
		out.Orphans, err = orphans(snap, all)
		return err
	})
	return out, err
}

// keysOf are the API keys, if p may list them.
func (s *Service) keysOf(ctx context.Context, p auth.Principal) (keys []auth.Principal, told bool, err error) {
	if s.cfg.Keys == nil || s.cfg.Door.Decide(ctx, guard.Request{Principal: p, Action: auth.KeyManage, Resource: auth.TheSystem}) != nil {
		return nil, false, nil
	}
	keys, err = s.cfg.Keys(ctx, p)
	if errors.Is(err, auth.ErrDenied) {
		return nil, false, nil
	}
	return keys, err == nil, err
}

func (s *Service) readersOf(src graph.Source, keys []auth.Principal, groups map[string]Group) Readers {
	out := Readers{Source: src, Everyone: len(src.Audience) == 0}
	named := src.Audience
	if out.Everyone {
		for _, r := range auth.Roles() {
			named = append(named, string(r))
		}
	}
	for _, entry := range named {
		r := s.reader(src, entry, groups[entry])
		if out.Everyone && !r.Reads {
			continue // nobody named them
		}
		out.Readers = append(out.Readers, r)
	}
	for _, k := range keys {
		if slices.Contains(k.Sources, src.Name) {
			d := s.decide(k, src)
			out.Readers = append(out.Readers, Reader{Kind: graph.ReaderKey, ID: k.ID, Name: k.Name, Reads: d.Allow, Policies: d.Policies})
		}
	}
	out.Nobody = src.Removing || !slices.ContainsFunc(out.Readers, func(r Reader) bool { return r.Reads })
	return out
}

// reader asks the policies about somebody who is what an entry names and nothing
// else; a member or a person who reads nothing as such may do so with a role.
func (s *Service) reader(src graph.Source, entry string, group Group) Reader {
	out := Reader{Kind: graph.KindOfReader(entry), ID: entry, Name: group.Name}
	who := auth.Principal{Kind: auth.User, ID: "somebody"}
	switch out.Kind {
	case graph.ReaderRole:
		who.Roles = []auth.Role{auth.Role(entry)}
	case graph.ReaderMember:
		who.ID, who.Groups, who.Roles = entry, []string{entry}, group.Roles
	default:
		who.ID = entry
	}
	d := s.decide(who, src)
	out.Reads, out.Policies = d.Allow, d.Policies
	if d.Allow || out.Kind == graph.ReaderRole {
		return out
	}
	for _, role := range auth.Roles() {
		who.Roles = []auth.Role{role}
		if d := s.decide(who, src); d.Allow {
			if !out.Reads {
				out.Policies = nil
			}
			out.Reads, out.Roles, out.Policies = true, append(out.Roles, role), append(out.Policies, d.Policies...)
		}
	}
	out.Roles = lowest(out.Roles)
	out.Policies = slices.Compact(slices.Sorted(slices.Values(out.Policies)))
	return out
}

// lowest are the roles that are not there through another one of them anyway.
func lowest(roles []auth.Role) []auth.Role {
	return slices.DeleteFunc(slices.Clone(roles), func(r auth.Role) bool {
		return slices.ContainsFunc(roles, func(o auth.Role) bool { return o != r && r.Is(o) })
	})
}

func (s *Service) decide(p auth.Principal, src graph.Source) policy.Decision {
	if s.cfg.Policies == nil {
		return policy.Decision{}
	}
	return s.cfg.Policies.Decide(p, auth.SourceRead, graph.SourceResource(src), nil)
}

// count counts a source's records.
func count(snap store.Snapshot, source string) (n int64, err error) {
	for _, err := range snap.Scan(graph.SpaceRecord.Prefix(source), "") {
		if err != nil {
			return 0, err
		}
		if n++; n == MaxHidden {
			break
		}
	}
	return n, nil
}

// orphans are records of sources that are not defined. It looks at one record of
// each source.
func orphans(snap store.Snapshot, all []graph.Source) ([]Hidden, error) {
	var out []Hidden
	for after := store.Key(""); ; {
		source, err := next(snap, after)
		if err != nil || source == "" {
			return out, err
		}
		if !slices.ContainsFunc(all, func(s graph.Source) bool { return s.Name == source }) {
			n, err := count(snap, source)
			if err != nil {
				return nil, err
			}
			out = append(out, Hidden{source, n})
		}
		after = graph.SpaceRecord.Prefix(source) + "\xff"
	}
}

// next is the source of the first record after a key, or "".
func next(snap store.Snapshot, after store.Key) (string, error) {
	for item, err := range snap.Scan(store.Key(graph.SpaceRecord), after) {
		if err != nil {
			return "", err
		}
		if id, ok := graph.ParseRecordKey(item.Key); ok {
			return id.Source, nil
		}
	}
	return "", nil
}
