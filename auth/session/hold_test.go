package session

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard/guardtest"
)

// TestARequestEndsSoonAfterItsCredential keeps requests open and takes their
// credentials away.
func TestARequestEndsSoonAfterItsCredential(t *testing.T) {
	p := newPlace(t)
	_, token := p.setUp(t)
	key, secret, err := p.CreateKey(t.Context(), guardtest.Admin(), KeySpec{Name: "k", Scopes: []string{auth.ScopeAsk}})
	if err != nil {
		t.Fatal(err)
	}
	_, lasting, err := p.CreateKey(t.Context(), guardtest.Admin(), KeySpec{Name: "l", Scopes: []string{auth.ScopeAsk}})
	if err != nil {
		t.Fatal(err)
	}
	began := make(chan struct{}, 4)
	causes := map[string]chan error{}
	for _, name := range []string{"session", "revoked", "lasting", "wrong"} {
		causes[name] = make(chan error, 1)
	}
	release := make(chan struct{})
	h := p.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, err := p.Authenticate(r)
		began <- struct{}{}
		select {
		case <-r.Context().Done():
			err = context.Cause(r.Context())
		case <-release:
		}
		causes[r.URL.Path[1:]] <- err
	}))
	for name, secret := range map[string]string{"session": token, "revoked": secret, "lasting": lasting, "wrong": secret + "x"} {
		r := httptest.NewRequest("GET", "https://cloister/"+name, nil)
		r.Header.Set("Authorization", "Bearer "+secret)
		go h.ServeHTTP(httptest.NewRecorder(), r)
		<-began
	}
	r := httptest.NewRequest("POST", "https://cloister/", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	if err := p.Logout(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if err := p.RevokeKey(t.Context(), guardtest.Admin(), key.ID); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"session", "revoked"} {
		select {
		case err := <-causes[name]:
			if !errors.Is(err, auth.ErrUnauthenticated) {
				t.Errorf("%s: ended by %v", name, err)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("%s: the request outlived its credential", name)
		}
	}
	close(release)
	if err := <-causes["lasting"]; err != nil {
		t.Errorf("a request whose key still stands was ended: %v", err)
	}
	if err := <-causes["wrong"]; !errors.Is(err, auth.ErrUnauthenticated) {
		t.Errorf("a wrong key: %v", err)
	}
}
