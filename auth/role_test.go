package auth

import "testing"

// TestRolesStandWithinOneAnother says for each pair of roles whether who has the
// first has the second.
func TestRolesStandWithinOneAnother(t *testing.T) {
	also := map[Role][]Role{
		Administrator: {Administrator, Builder, Asker}, Builder: {Builder, Asker}, Asker: {Asker},
		Approver: {Approver, Asker}, Auditor: {Auditor}, Operator: {Operator},
	}
	for _, r := range Roles() {
		for _, o := range Roles() {
			want := false
			for _, a := range also[r] {
				want = want || a == o
			}
			if r.Is(o) != want {
				t.Errorf("%s is %s: %v", r, o, r.Is(o))
			}
		}
	}
}
