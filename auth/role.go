package auth

import "slices"

// Roles lists every role in the order people should see them.
func Roles() []Role { return []Role{Administrator, Builder, Asker, Approver, Auditor, Operator} }

// Also is which roles whoever has this one has too.
func (r Role) Also() []Role {
	switch r {
	case Administrator:
		return []Role{Builder}
	case Builder, Approver:
		return []Role{Asker}
	}
	return nil
}

// Is reports whether whoever has this role has the other one, being it or by Also.
func (r Role) Is(other Role) bool {
	return r == other || slices.ContainsFunc(r.Also(), func(a Role) bool { return a.Is(other) })
}
