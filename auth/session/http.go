package session

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/people"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/schema"
)

// CookieName is the session's cookie. Browsers take a __Host- cookie only over
// TLS, for the whole host, and from no other host of the domain.
const CookieName = "__Host-cloister"

// errCrossSite is a request that another site made a browser send.
var errCrossSite = errors.New("this request came from another site: open Cloister itself and try again")

// SetCookie puts the session's token into the browser.
func SetCookie(w http.ResponseWriter, token string, expires time.Time) {
	http.SetCookie(w, &http.Cookie{Name: CookieName, Value: token, Path: "/", Expires: expires, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode})
}

// ClearCookie removes it.
func ClearCookie(w http.ResponseWriter) {
	http.SetCookie(w, &http.Cookie{Name: CookieName, Path: "/", MaxAge: -1, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode})
}

// errNobody is a request without a credential, or with one that is not good.
var errNobody = fmt.Errorf("%w: sign in, or send an API key as \"Authorization: Bearer …\"", auth.ErrUnauthenticated)

// credential returns the secret that the request carries: after "Authorization:
// Bearer", else in the cookie. A secret elsewhere is ErrMisplacedKey.
func credential(r *http.Request) (string, error) {
	if header := r.Header.Values("Authorization"); len(header) > 0 {
		scheme, token, _ := strings.Cut(header[0], " ")
		if len(header) == 1 && strings.EqualFold(scheme, "Bearer") {
			return strings.TrimSpace(token), nil
		}
		basic, _ := base64.StdEncoding.DecodeString(token)
		if auth.HoldsSecret(header[0]) || auth.HoldsSecret(string(basic)) {
			return "", misplaced()
		}
		return "", errNobody
	}
	for name, values := range r.Header {
		if name != "Cookie" && auth.HoldsSecret(strings.Join(values, "\n")) {
			return "", misplaced()
		}
	}
	switch cookies := r.CookiesNamed(CookieName); len(cookies) {
	case 0:
		return "", errNobody
	case 1:
		if isSession(cookies[0].Value) {
			return cookies[0].Value, nil
		}
		if auth.HoldsSecret(cookies[0].Value) {
			return "", misplaced()
		}
	}
	return "", errNobody
}

func misplaced() error { return fmt.Errorf("%w: %w", auth.ErrUnauthenticated, ErrMisplacedKey) }

func isSession(token string) bool { return strings.HasPrefix(token, sessionPrefix) }

// Authenticate says who makes the request: by "Authorization: Bearer" (API key
// or session token), else by the session cookie. The error matches
// auth.ErrUnauthenticated, unless the store could not be asked.
func (s *Service) Authenticate(r *http.Request) (auth.Principal, error) {
	token, err := credential(r)
	if err != nil {
		return auth.Principal{}, err
	}
	var p auth.Principal
	if isSession(token) {
		p, err = s.bySession(r.Context(), token)
	} else {
		p, err = s.byKey(r.Context(), token)
	}
	if err == nil {
		s.keep(r, token)
	}
	return p, err
}

func (s *Service) bySession(ctx context.Context, token string) (auth.Principal, error) {
	item, row, user, err := s.lookUp(ctx, token)
	if err != nil {
		return auth.Principal{}, err
	}
	s.touch(ctx, item, row, s.now())
	p := user.Principal()
	p.Session = hashPart(token)
	return p, nil
}

// lookUp finds the session of a token, if it is good.
func (s *Service) lookUp(ctx context.Context, token string) (item store.Item, row sessionRow, user User, err error) {
	key := sessions.Key(hashPart(token))
	found := false
	if err := s.recent(ctx); err != nil {
		return item, row, user, fmt.Errorf("look up the session: %w", err)
	}
	err = s.store.View(ctx, store.Local, func(snap store.Snapshot) (err error) {
		if item, found, err = get(snap.Get, key, &row); err != nil || !found {
			return err
		}
		if found = s.now().Before(s.expires(row)); found {
			user, found, err = s.user(snap, row.User, row.Of)
		}
		return err
	})
	if errors.Is(err, auth.ErrUnauthenticated) {
		return item, row, user, err
	}
	if err != nil {
		return item, row, user, fmt.Errorf("look up the session: %w", err)
	}
	if !found {
		return item, row, user, fmt.Errorf("%w: the session has ended, sign in again", auth.ErrUnauthenticated)
	}
	return item, row, user, nil
}

// user is somebody as they are now; of is what their session names of their
// directory, "" without a session.
func (s *Service) user(snap store.Snapshot, id, of string) (User, bool, error) {
	if _, _, ok := people.Parts(id); ok {
		if s.people == nil {
			return User{}, false, nil
		}
		m, err := s.people.Now(snap, id, of)
		return User{ID: id, Name: m.Name, Roles: m.Roles, Groups: m.Groups}, err == nil, err
	}
	var row userRow
	_, found, err := get(snap.Get, users.Key(id), &row)
	return User{ID: id, Name: row.Name, Roles: row.Roles}, found, err
}

// touch notes that the session is in use, now and then and without waiting. A
// session that was closed in the meantime stays closed.
func (s *Service) touch(ctx context.Context, item store.Item, row sessionRow, now time.Time) {
	if now.Sub(time.Unix(row.Seen, 0)) < s.idle/20 {
		return
	}
	row.Seen = now.Unix()
	tx := store.NewTx()
	tx.Check(item.Key, item.Version)
	tx.Put(item.Key, schema.MustRewrite(item.Value, row))
	s.store.Submit(context.WithoutCancel(ctx), tx, store.Bulk)
}

// Middleware refuses what a browser sends for another site, and requests with a
// secret in the URL, which it removes so that nothing after it can log it. It
// also notes where the request comes from, for Login and Setup, and ends a request
// soon after the credential that Authenticate accepted for it has ended. It
// belongs outside of whatever logs requests.
func (s *Service) Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if secretInURL(r.URL) {
			r.URL.RawQuery, r.URL.Path, r.URL.RawPath, r.RequestURI = "", "/", "", "/"
			s.refuse(w, r, http.StatusBadRequest, ErrMisplacedKey)
			return
		}
		if err := sameSite(r); err != nil {
			s.refuse(w, r, http.StatusForbidden, err)
			return
		}
		r, release := held(r.WithContext(WithAddress(r.Context(), r.RemoteAddr)))
		defer release()
		next.ServeHTTP(w, r)
	})
}

func secretInURL(u *url.URL) bool {
	query, err := url.QueryUnescape(u.RawQuery)
	if err != nil {
		query = u.RawQuery
	}
	return auth.HoldsSecret(u.Path) || auth.HoldsSecret(query) || auth.HoldsSecret(u.RawQuery)
}

// sameSite refuses an unsafe request that a browser says comes from elsewhere,
// and a safe one that is no link which somebody followed. An unsafe one
// with a session cookie must say where it comes from; one without, from a shell or
// a program, carries nothing that another site could misuse.
func sameSite(r *http.Request) error {
	site, origin := r.Header.Get("Sec-Fetch-Site"), r.Header.Get("Origin")
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		// Whoever follows a link comes from elsewhere and is welcome. What another
		// origin of the same site (another port of this host, say) fetches with
		// somebody's cookie is not: it goes on record in their name.
		if foreign := site == "cross-site" || site == "same-site"; foreign && r.Header.Get("Sec-Fetch-Mode") != "navigate" && len(r.CookiesNamed(CookieName)) > 0 {
			return errCrossSite
		}
		return nil
	}
	if site != "" && site != "same-origin" && site != "none" {
		return errCrossSite
	}
	if origin != "" && !ownOrigin(r, origin) {
		return errCrossSite
	}
	if site == "" && origin == "" && len(r.CookiesNamed(CookieName)) > 0 {
		return errCrossSite
	}
	return nil
}

func ownOrigin(r *http.Request, origin string) bool {
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" {
		return false
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return u.Scheme == scheme && strings.EqualFold(withPort(u.Host, scheme), withPort(r.Host, scheme))
}

// withPort writes out the port that a scheme implies.
func withPort(host, scheme string) string {
	if u, err := url.Parse(scheme + "://" + host); err == nil && u.Port() == "" {
		if scheme == "https" {
			return host + ":443"
		}
		return host + ":80"
	}
	return host
}

// problem writes an RFC 9457 problem.
func problem(w http.ResponseWriter, _ *http.Request, status int, err error) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"type": "about:blank", "title": http.StatusText(status), "status": status, "detail": err.Error()})
}
