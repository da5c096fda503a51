package session

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/budget"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/auth/guard/guardtest"
	"github.com/cloister-os/cloister/auth/policy"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/storetest"
)

// member is one of several nodes that share a store.
type member struct {
	*Service
	store *storetest.Follower
}

func newMember(t *testing.T, st store.Store, name string) member {
	t.Helper()
	f := storetest.NewFollower(st)
	policies, err := policy.New(t.Context(), f, nil)
	must(t, err)
	must(t, policies.Seed(t.Context()))
	ledger, err := budget.NewLedger(t.Context(), f, nil, nil)
	must(t, err)
	g, err := guard.New(guard.Config{Store: f, Policies: policies, Ledger: ledger, Node: name})
	must(t, err)
	s, err := New(Config{Store: f, Door: g, Node: name, Recent: g.Recent})
	must(t, err)
	s.hasher = newHasher(cost{memory: 64, time: 1, lanes: 1})
	return member{s, f}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Each node prints a code of its own at its start; each is good on every node,
// and none after.
func TestTheSetupCodeOfAnyNodeIsGoodOnAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.NewModel(nil)
		a, b := newMember(t, st, "a"), newMember(t, st, "b")
		first, err := a.NewSetupCode(t.Context())
		must(t, err)
		second, err := b.NewSetupCode(t.Context())
		must(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		heard := make(chan error, 1)
		go func() { heard <- b.AwaitSetup(ctx) }()
		if _, _, err := b.Setup(t.Context(), first, "ada", goodPassword); err != nil {
			t.Fatalf("the code of the first node on the second: %v", err)
		}
		must(t, <-heard)
		must(t, a.AwaitSetup(ctx))
		if _, _, err := a.Setup(t.Context(), second, "eve", goodPassword); !errors.Is(err, ErrSetupDone) {
			t.Errorf("a second setup: %v", err)
		}
		if n := countKeys(t, st, setupCode.Prefix()); n != 0 {
			t.Errorf("%d codes are left", n)
		}
	})
}

func countKeys(t *testing.T, st store.Store, prefix store.Key) (n int) {
	t.Helper()
	must(t, st.View(t.Context(), store.Fresh, func(s store.Snapshot) error {
		for range s.Scan(prefix, "") {
			n++
		}
		return nil
	}))
	return n
}

// What is ended through one node is refused by one that lags, a second later; a
// node that is cut off lets nobody in and ends what is open.
func TestWhatIsRevokedThroughOneNodeIsRefusedByAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.NewModel(nil)
		a, b := newMember(t, st, "a"), newMember(t, st, "b")
		code, err := a.NewSetupCode(t.Context())
		must(t, err)
		_, token, err := a.Setup(t.Context(), code, "ada", goodPassword)
		must(t, err)
		key, secret, err := a.CreateKey(t.Context(), guardtest.Admin(), KeySpec{Name: "k", Scopes: []string{auth.ScopeAsk}})
		must(t, err)
		who, err := b.Authenticate(bearer(token))
		must(t, err)
		if who.Session == "" || who.Session == token {
			t.Errorf("the session is named %q", who.Session)
		}
		_, err = b.Authenticate(bearer(secret))
		must(t, err)
		time.Sleep(time.Second)
		must(t, b.recent(t.Context()))
		b.store.Hold()
		must(t, a.RevokeKey(t.Context(), guardtest.Admin(), key.ID))
		must(t, a.Logout(t.Context(), bearer(token)))
		time.Sleep(time.Second)
		for name, secret := range map[string]string{"key": secret, "session": token} {
			if _, err := b.Authenticate(bearer(secret)); !errors.Is(err, auth.ErrUnauthenticated) {
				t.Errorf("the %s that was ended a second ago: %v", name, err)
			}
		}
		if _, err := b.Current(t.Context(), who); !errors.Is(err, auth.ErrUnauthenticated) {
			t.Errorf("what was started by somebody who signed out may go on: %v", err)
		}
	})
}

func TestANodeThatIsCutOffLetsNobodyIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMember(t, storetest.NewModel(nil), "b")
		_, secret, err := b.CreateKey(t.Context(), guardtest.Admin(), KeySpec{Name: "k", Scopes: []string{auth.ScopeAsk}})
		must(t, err)
		cause := make(chan error, 1)
		h := b.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if _, err := b.Authenticate(r); err != nil {
				t.Error(err)
			}
			<-r.Context().Done()
			cause <- context.Cause(r.Context())
		}))
		go h.ServeHTTP(httptest.NewRecorder(), bearer(secret))
		time.Sleep(3 * time.Second)
		synctest.Wait()
		b.store.Cut()
		time.Sleep(2 * time.Second)
		if _, err := b.Authenticate(bearer(secret)); !errors.Is(err, store.ErrBusy) {
			t.Errorf("cut off it answers %v", err)
		}
		if err := <-cause; !errors.Is(err, store.ErrBusy) {
			t.Errorf("the open request ended with %v", err)
		}
		synctest.Wait()
	})
}
