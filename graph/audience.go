package graph

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/store"
)

// An audience says which people may read a source, if a policy lets them read
// sources at all: each entry is a role, a group of a directory (DIRECTORY/ID) or
// a person (the id that the audit record has). An API key is in no audience: it
// reads the sources that it was granted by name.
//
// A source that was added before audiences had to be named has none: then it is
// read by whoever the policies let. A new source always names one.

// Bounds of an audience.
const (
	MaxAudience      = 64
	maxAudienceBytes = 200 // of an entry
)

// DefaultAudience is everybody who may ask.
func DefaultAudience() []string { return []string{string(auth.Asker)} }

// ReaderKind is what an entry of an audience, or a reader of a source, is.
type ReaderKind string

// The kinds of reader.
const (
	ReaderRole   ReaderKind = "role"
	ReaderMember ReaderKind = "group" // or a person of a directory: both are DIRECTORY/ID
	ReaderPerson ReaderKind = "person"
	ReaderKey    ReaderKind = "key"
)

// KindOfReader tells what an entry of an audience names.
func KindOfReader(entry string) ReaderKind {
	switch {
	case slices.Contains(auth.Roles(), auth.Role(entry)):
		return ReaderRole
	case strings.Contains(entry, "/"):
		return ReaderMember
	}
	return ReaderPerson
}

// A group or a person as a directory's identifier, and a person of this house.
var (
	memberForm = regexp.MustCompile(`^[a-z0-9-]{1,40}/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	personForm = regexp.MustCompile(`^u-[a-z0-9-]{1,40}$`)
)

// CheckAudience returns the audience as it is stored, sorted and without what is
// there twice, or says in one sentence what is wrong with it. Entries may be
// written with their kind before them, like "role:user".
func CheckAudience(list []string) ([]string, error) {
	if len(list) == 0 {
		return nil, fmt.Errorf("say who may read the source: a role such as %q, or a group as DIRECTORY/ID: %w", auth.Asker, store.ErrInvalid)
	}
	if len(list) > MaxAudience {
		return nil, fmt.Errorf("an audience has at most %d entries, this one has %d: put people into a group and name that: %w", MaxAudience, len(list), store.ErrInvalid)
	}
	out := make([]string, 0, len(list))
	for _, entry := range list {
		name := strings.TrimSpace(entry)
		want := ReaderKind("")
		for _, kind := range []ReaderKind{ReaderRole, ReaderMember, ReaderPerson} {
			if rest, ok := strings.CutPrefix(name, string(kind)+":"); ok {
				name, want = rest, kind
			}
		}
		if err := checkReader(name, want); err != nil {
			return nil, err
		}
		out = append(out, name)
	}
	return slices.Compact(slices.Sorted(slices.Values(out))), nil
}

func checkReader(name string, want ReaderKind) error {
	is := KindOfReader(name)
	known := is == ReaderRole || is == ReaderMember && memberForm.MatchString(name) || is == ReaderPerson && personForm.MatchString(name)
	switch {
	case len(name) > maxAudienceBytes || auth.HoldsSecret(name):
		return fmt.Errorf("an entry of the audience is no name of a role, a group or a person: %w", store.ErrInvalid)
	case known && (want == "" || want == is || want == ReaderPerson && is == ReaderMember):
		return nil
	case want == ReaderRole || want == "" && is == ReaderPerson:
		return fmt.Errorf("there is no role %q: name one of %s, a group as DIRECTORY/ID, or a person by the id on the audit record: %w", name, roleNames(), store.ErrInvalid)
	}
	return fmt.Errorf("%q is no group or person: name it as DIRECTORY/ID, where ID is the directory's own (objectGUID or entryUUID), never a name: %w", name, store.ErrInvalid)
}

func roleNames() string {
	var out []string
	for _, r := range auth.Roles() {
		out = append(out, string(r))
	}
	return strings.Join(out, ", ")
}

// inAudience reports whether a source's audience, if it names one, includes the
// principal or whoever it acts for. A key is included by the sources that it was
// granted, which the policies check.
func inAudience(p auth.Principal, src Source) bool {
	p = p.Root()
	switch p.Kind {
	case auth.APIKey, auth.System:
		return true
	case auth.User:
	default:
		return false
	}
	if len(src.Audience) == 0 {
		return true
	}
	for _, entry := range src.Audience {
		if entry == p.ID || slices.Contains(p.Groups, entry) {
			return true
		}
		if slices.ContainsFunc(p.Roles, func(r auth.Role) bool { return r.Is(auth.Role(entry)) }) {
			return true
		}
	}
	return false
}
