package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cloister-os/cloister/store"
)

// Read your writes, through whichever node: every answer says which version the
// node had reached, and a request that says one is answered by a node that has
// reached it. Programs use the header; a browser, whose next request may lead to
// another node, gets a cookie with what it wrote.
const (
	VersionHeader = "Cloister-Version"
	versionCookie = "__Host-cloister-version"

	cookieAge = 60 * time.Second // by then every node that can serve has it
	reachWait = 2 * time.Second
)

// Reaching is a store that says how far it is, as store.Store does.
type Reaching interface {
	Applied() store.Version
	View(ctx context.Context, at store.ReadAt, f func(store.Snapshot) error) error
}

// Versions lets requests wait, for a moment, until this node has applied what
// they want to see; then it is 503, and another node may know it.
func Versions(st Reaching, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if vital(r.URL.Path) == health {
			next.ServeHTTP(w, r)
			return
		}
		wanted, err := wantedVersion(r)
		if err != nil {
			writeProblem(w, r, problem(http.StatusBadRequest, VersionHeader+" is not a number.", "Send what an earlier answer said, or nothing."))
			return
		}
		if wanted > st.Applied() && !reach(r.Context(), st, wanted) {
			behind(w, r)
			return
		}
		v := &versioned{ResponseWriter: w, st: st, remember: remembers(r)}
		next.ServeHTTP(v, r)
		v.say() // an answer without a body has its head still to come
	})
}

// wantedVersion is the version that a request says, in its header or cookie; 0 =
// none. A cookie that cannot be is ours no more and counts for nothing.
func wantedVersion(r *http.Request) (store.Version, error) {
	if h := r.Header.Get(VersionHeader); h != "" {
		v, err := strconv.ParseUint(h, 10, 62)
		return store.Version(v), err
	}
	c, err := r.Cookie(versionCookie)
	if err != nil {
		return 0, nil
	}
	v, err := strconv.ParseUint(c.Value, 10, 62)
	if err != nil {
		return 0, nil
	}
	return store.Version(v), nil
}

func reach(ctx context.Context, st Reaching, v store.Version) bool {
	ctx, cancel := context.WithTimeout(ctx, reachWait)
	defer cancel()
	err := st.View(ctx, store.At(v), func(store.Snapshot) error { return nil })
	return err == nil || errors.Is(err, store.ErrCompacted) // it is past, so it has been reached
}

// behind answers for a node that has not applied what the request wants to see.
func behind(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Retry-After", "1")
	const title, detail = "This node is behind.", "It has not applied yet what you have seen elsewhere. Try again in a moment, or through another node."
	if program(r) {
		p := problem(http.StatusServiceUnavailable, title, detail)
		p.Type = typeBehind
		writeProblem(w, r, p)
		return
	}
	h.Set("Refresh", "1")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = w.Write([]byte(title + " " + detail + "\n")) // whoever asked may have gone
}

// program reports whether the request is for programs and not for people.
func program(r *http.Request) bool {
	return strings.HasPrefix(r.URL.Path, "/api/") || strings.HasPrefix(r.URL.Path, "/v1/")
}

// remembers reports whether the request is a browser's that may change something.
func remembers(r *http.Request) bool {
	return r.Method == http.MethodPost && !program(r)
}

// versioned adds the version to the answer's head.
type versioned struct {
	http.ResponseWriter
	st       Reaching
	remember bool
	said     bool
}

func (v *versioned) say() {
	if v.said {
		return
	}
	v.said = true
	at := strconv.FormatUint(uint64(v.st.Applied()), 10)
	v.Header().Set(VersionHeader, at)
	if v.remember {
		http.SetCookie(v.ResponseWriter, &http.Cookie{
			Name: versionCookie, Value: at, Path: "/", MaxAge: int(cookieAge / time.Second), Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
		})
	}
}

// WriteHeader implements http.ResponseWriter.
func (v *versioned) WriteHeader(status int) {
	v.say()
	v.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (v *versioned) Write(b []byte) (int, error) {
	v.say()
	return v.ResponseWriter.Write(b)
}

// Unwrap gives http.ResponseController what lies below.
func (v *versioned) Unwrap() http.ResponseWriter { return v.ResponseWriter }
