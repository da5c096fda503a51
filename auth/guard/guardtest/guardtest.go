// Package guardtest gives tests of other rooms a real guard with the starter
// policies over a store in memory, and principals to try it with.
//
// Only tests may import it. It may import store, store/storetest and auth.
package guardtest

import (
	"context"
	"testing"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/audit"
	"github.com/cloister-os/cloister/auth/budget"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/auth/policy"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/storetest"
)

// House is a guard with what stands around it.
type House struct {
	*guard.Guard
	Store store.Store
}

// Open returns a House over st, or over a new storetest.Model when it is nil. The
// starter policies are in force.
func Open(t testing.TB, st store.Store) *House {
	t.Helper()
	if st == nil {
		st = storetest.NewModel(nil)
	}
	ctx := t.Context()
	policies, err := policy.New(ctx, st, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := policies.Seed(ctx); err != nil {
		t.Fatal(err)
	}
	ledger, err := budget.NewLedger(ctx, st, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	g, err := guard.New(guard.Config{Store: st, Policies: policies, Ledger: ledger, Node: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return &House{Guard: g, Store: st}
}

// Admin is an administrator.
func Admin() auth.Principal { return Person("u-admin", auth.Administrator) }

// Auditor is an auditor.
func Auditor() auth.Principal { return Person("u-auditor", auth.Auditor) }

// Asker is a person who may ask and nothing else.
func Asker() auth.Principal { return Person("u-asker", auth.Asker) }

// Person is a person with the roles.
func Person(id string, roles ...auth.Role) auth.Principal {
	return auth.Principal{Kind: auth.User, ID: id, Name: id, Roles: roles}
}

// KeyFor is an API key that may ask on the sources.
func KeyFor(sources ...string) auth.Principal { return Key([]string{auth.ScopeAsk}, sources...) }

// Key is an API key with the scopes on the sources.
func Key(scopes []string, sources ...string) auth.Principal {
	return auth.Principal{Kind: auth.APIKey, ID: "k-test", Name: "test key", Scopes: scopes, Sources: sources}
}

// AgentFor is the agent "answer" acting for p.
func AgentFor(p auth.Principal) auth.Principal {
	return auth.Principal{Kind: auth.Agent, ID: "answer@1", Name: "answer", OnBehalfOf: &p}
}

// Node is the node itself.
func Node() auth.Principal { return auth.Principal{Kind: auth.System, ID: "test", Name: "test"} }

// Put puts a policy in force.
func (h *House) Put(t testing.TB, text string) {
	t.Helper()
	tx := store.NewTx()
	if _, err := h.Policies().Put(tx, text); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Store.Apply(t.Context(), tx); err != nil {
		t.Fatal(err)
	}
}

// Records returns every record of the audit log so far, oldest first.
func (h *House) Records(t testing.TB) []audit.Record {
	t.Helper()
	var out []audit.Record
	err := h.Store.View(context.Background(), store.Fresh, func(s store.Snapshot) error {
		for leaf, err := range s.Log(audit.LogName).Leaves(0) {
			if err != nil {
				return err
			}
			rec, err := audit.ParseRecord(leaf.Data)
			if err != nil {
				return err
			}
			out = append(out, rec)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
