package session

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard/guardtest"
)

func TestTheCookieIsOneThatBrowsersGuard(t *testing.T) {
	w := httptest.NewRecorder()
	SetCookie(w, "cs_X", time.Now().Add(time.Hour))
	c := w.Result().Cookies()[0]
	if c.Name != "__Host-cloister" || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" {
		t.Errorf("%+v", c)
	}
}

func TestAuthenticateTakesTheCookie(t *testing.T) {
	p := newPlace(t)
	_, token := p.setUp(t)
	r := httptest.NewRequest("GET", "https://cloister/", nil)
	r.AddCookie(&http.Cookie{Name: CookieName, Value: token})
	if who, err := p.Authenticate(r); err != nil || who.Name != "ada" {
		t.Errorf("%+v %v", who, err)
	}
	// A bad Authorization header is never made up for by a good cookie.
	r.Header.Set("Authorization", "Bearer nonsense")
	if _, err := p.Authenticate(r); !errors.Is(err, auth.ErrUnauthenticated) {
		t.Errorf("%v", err)
	}
	r.Header.Del("Authorization")
	r.AddCookie(&http.Cookie{Name: CookieName, Value: "cs_PLANTEDPLANTEDPLANTED"})
	if _, err := p.Authenticate(r); !errors.Is(err, auth.ErrUnauthenticated) {
		t.Errorf("two cookies: %v", err)
	}
	if _, err := p.Authenticate(httptest.NewRequest("GET", "https://cloister/", nil)); !errors.Is(err, auth.ErrUnauthenticated) {
		t.Errorf("nobody: %v", err)
	}
}

func TestRequestsThatOtherSitesMakeBrowsersSendAreRefused(t *testing.T) {
	p := newPlace(t)
	h := p.Middleware(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	const refused, passed = http.StatusForbidden, http.StatusNoContent
	for _, c := range []struct {
		name, method, site, origin string // of GET: the mode
		cookie                     bool
		want                       int
	}{
		{"own page", "POST", "same-origin", "https://cloister:8443", true, passed},
		{"own page, no Origin", "POST", "same-origin", "", true, passed},
		{"own page, old browser", "POST", "", "https://cloister:8443", true, passed},
		{"typed", "POST", "none", "", true, passed},
		{"shell", "POST", "", "", false, passed},
		{"other site", "POST", "cross-site", "https://evil.example", true, refused},
		{"other site without a cookie", "POST", "cross-site", "https://evil.example", false, refused},
		{"sibling", "DELETE", "same-site", "https://evil.cloister:8443", true, refused},
		{"other port", "POST", "", "https://cloister:9999", true, refused},
		{"downgraded", "POST", "", "http://cloister:8443", true, refused},
		{"prefix", "PUT", "", "https://cloister:8443.evil.example", true, refused},
		{"user info", "PUT", "", "https://cloister:8443@evil.example", true, refused},
		{"opaque", "POST", "", "null", true, refused},
		{"lying Sec-Fetch-Site", "POST", "same-origin", "https://evil.example", true, refused},
		{"says nothing", "POST", "", "", true, refused},
		{"a link that is followed", "GET", "cross-site", "navigate", true, passed},
		{"fetched by another site", "GET", "cross-site", "no-cors", true, refused},
		{"fetched by another port", "GET", "same-site", "cors", true, refused},
		{"fetched without a cookie", "GET", "cross-site", "no-cors", false, passed},
		{"fetched by the page itself", "GET", "same-origin", "cors", true, passed},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest(c.method, "https://cloister:8443/api/v1/keys", nil)
			r.TLS = &tls.ConnectionState{}
			if c.site != "" {
				r.Header.Set("Sec-Fetch-Site", c.site)
			}
			if c.method == "GET" {
				r.Header.Set("Sec-Fetch-Mode", c.origin)
			} else if c.origin != "" {
				r.Header.Set("Origin", c.origin)
			}
			if c.cookie {
				r.AddCookie(&http.Cookie{Name: CookieName, Value: "cs_X"})
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != c.want {
				t.Errorf("%d, want %d", w.Code, c.want)
			}
			if w.Code == refused && w.Header().Get("Content-Type") != "application/problem+json" {
				t.Error("a refusal is not a problem document")
			}
		})
	}
}

func TestAKeyInTheWrongPlaceIsSaidAndNeverLogged(t *testing.T) {
	p := newPlace(t)
	var logged bytes.Buffer
	p.logger = slog.New(slog.NewTextHandler(&logged, nil))
	_, key, err := p.CreateKey(t.Context(), guardtest.Admin(), KeySpec{Name: "k", Scopes: []string{"ask"}})
	if err != nil {
		t.Fatal(err)
	}
	var errs []error
	note := func(err error) { errs = append(errs, err) }
	code, err := p.NewSetupCode(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = p.Setup(t.Context(), key, "ada", goodPassword)
	note(err)
	_, _, err = p.Setup(t.Context(), code, "ada", key)
	note(err)
	_, _, err = p.Setup(t.Context(), code, key, goodPassword)
	note(err)
	_, _, err = p.Login(t.Context(), key, "x")
	note(err)
	_, _, err = p.Login(t.Context(), "ada", key)
	note(err)
	note(p.RevokeKey(t.Context(), guardtest.Admin(), key))
	basic := httptest.NewRequest("GET", "https://cloister/", nil)
	basic.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("key:"+key)))
	header := httptest.NewRequest("GET", "https://cloister/", nil)
	header.Header.Set("X-Api-Key", key)
	cookie := httptest.NewRequest("GET", "https://cloister/", nil)
	cookie.AddCookie(&http.Cookie{Name: CookieName, Value: key})
	for _, r := range []*http.Request{basic, header, cookie} {
		_, err := p.Authenticate(r)
		if !errors.Is(err, auth.ErrUnauthenticated) {
			t.Errorf("%v", err)
		}
		note(err)
	}
	for i, err := range errs {
		if !errors.Is(err, ErrMisplacedKey) || strings.Contains(err.Error(), key) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%d: %v", i, err)
		}
	}
	for _, target := range []string{"/?key=" + key, "/?a=1&key=" + strings.ReplaceAll(key, "_", "%5F"), "/files/" + key} {
		var seen string
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			p.Middleware(http.NotFoundHandler()).ServeHTTP(w, r)
			seen = r.URL.String() + r.RequestURI // what a log outside of it would show
		})
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", target, nil))
		if w.Code != http.StatusBadRequest || strings.Contains(w.Body.String()+seen, key[20:]) {
			t.Errorf("%.10s…: %d %s %s", target, w.Code, w.Body, seen)
		}
	}
	if strings.Contains(logged.String(), key[20:]) {
		t.Errorf("logged: %s", &logged)
	}
	for _, r := range p.house.Records(t) {
		if leaf, err := r.Leaf(); err != nil || bytes.Contains(leaf, []byte(key[20:])) {
			t.Errorf("on record: %s %v", leaf, err)
		}
	}
}

func TestAnAddressIsANetwork(t *testing.T) {
	for in, want := range map[string]string{
		"10.1.2.3:55": "10.1.2.3/32", "[::ffff:10.1.2.3]:55": "10.1.2.3/32", "[2001:db8:1:2:3:4:5:6]:1": "2001:db8:1:2::/64", "[fe80::1%eth0]:1": "fe80::/64", "@": "@",
	} {
		if got := address(WithAddress(t.Context(), in)); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}
