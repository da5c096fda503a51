package ui

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/a-h/templ"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/ui/view"
)

// handler is a screen: it answers, or returns the error that is shown instead.
type handler func(w http.ResponseWriter, r *http.Request) error

// MaxFormBytes bounds what a form may send.
const maxFormBytes = 64 << 10

type whoKey struct{}

// who is the principal of a request that passed signedIn.
func who(r *http.Request) auth.Principal {
	p, _ := r.Context().Value(whoKey{}).(auth.Principal)
	return p
}

// page bounds the request and shows the errors.
func (u *pages) page(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxFormBytes)
		if err := u.enter(h)(w, r); err != nil {
			u.fail(w, r, err)
		}
	})
}

// enter leads to setup until it is done, and away from it afterwards.
func (u *pages) enter(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if !u.isSet.Load() {
			needed, err := u.Sessions.SetupNeeded(r.Context())
			if err != nil {
				return err
			}
			u.isSet.Store(!needed)
		}
		at := r.URL.Path
		if done := u.isSet.Load(); at != "/theme" && done == (at == "/setup") {
			to := "/setup"
			if done {
				to = "/"
			}
			http.Redirect(w, r, to, http.StatusSeeOther)
			return nil
		}
		return h(w, r)
	}
}

// signedIn lets people in and sends everybody else to sign in.
func (u *pages) signedIn(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		p, err := u.Sessions.Authenticate(r)
		if err != nil {
			return err
		}
		return h(w, r.WithContext(context.WithValue(r.Context(), whoKey{}, p)))
	}
}

// Names of the cookies that hold a person's taste; neither is a secret.
const (
	themeCookie = "__Host-cloister-theme"
	keysCookie  = "__Host-cloister-keys"
)

// frame is the page around a screen.
func (u *pages) frame(r *http.Request, section, title string, scripts ...string) view.Page {
	p := view.Page{
		Title: title, Section: section, Node: u.Node, Version: u.Version,
		ReadOnly: u.ReadOnly(), Now: u.Now(), Assets: u.assets, Once: rand.Text(),
		Theme:   cookie(r, themeCookie, "light", "dark"),
		KeysOff: cookie(r, keysCookie, "off") == "off",
		Scripts: append([]string{"theme.js", "copy.js"}, scripts...),
	}
	if who := who(r); who.ID != "" {
		p.Scripts = append(p.Scripts, "keys.js", "ago.js")
		p.User = &view.User{ID: who.ID, Name: who.Name}
		if p.User.Name == "" {
			p.User.Name = who.ID
		}
		p.Hidden = u.hidden(r.Context(), who)
		for _, role := range who.Roles {
			p.User.Roles = append(p.User.Roles, string(role))
		}
	}
	return p
}

// hidden lists the sections that policy does not open to somebody.
func (u *pages) hidden(ctx context.Context, p auth.Principal) (out []string) {
	for _, s := range []struct {
		name   string
		action auth.Action
		on     auth.Resource
	}{
		{"models", auth.ModelList, auth.TheSystem}, {"audit", auth.AuditRead, auth.AuditLog},
		{"directories", auth.DirectoryManage, auth.TheSystem}, {"policies", auth.PolicyRead, auth.TheSystem}, {"keys", auth.KeyManage, auth.TheSystem},
		{"nodes", auth.ClusterRead, auth.TheSystem}, {"ask", auth.Ask, auth.TheSystem}, {"access", auth.AccessRead, auth.TheSystem},
		{"memory", auth.MemoryRead, auth.Memory("own", p.ID)},
	} {
		if !u.May(ctx, p, s.action, s.on) {
			out = append(out, s.name)
		}
	}
	if u.noSources(ctx, p) != nil {
		out = append(out, "sources")
	}
	return out
}

// noSources refuses the pages of the sources to whoever neither asks about them
// nor looks after any: an auditor, an operator.
func (u *pages) noSources(ctx context.Context, p auth.Principal) error {
	if u.May(ctx, p, auth.Ask, auth.TheSystem) || u.May(ctx, p, auth.SourceManage, auth.Source("*")) {
		return nil
	}
	return u.needs(ctx, p, auth.Ask, auth.TheSystem)
}

// needs refuses a page on which somebody could do nothing. What is done there
// passes the guard itself.
func (u *pages) needs(ctx context.Context, p auth.Principal, a auth.Action, on auth.Resource) error {
	if u.May(ctx, p, a, on) {
		return nil
	}
	return &auth.DeniedError{Action: a}
}

// cookie is a cookie's value if it is one of those allowed.
func cookie(r *http.Request, name string, allowed ...string) string {
	c, err := r.Cookie(name)
	if err != nil {
		return ""
	}
	for _, a := range allowed {
		if c.Value == a {
			return a
		}
	}
	return ""
}

func setCookie(w http.ResponseWriter, name, value string) {
	c := &http.Cookie{Name: name, Value: value, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode, MaxAge: 365 * 24 * 3600}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

// show renders a screen wholly before the first byte leaves, so that an error
// in it is still an error page.
func show(w http.ResponseWriter, r *http.Request, status int, c templ.Component) error {
	var b bytes.Buffer
	if err := c.Render(r.Context(), &b); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // the client went away: nothing to do
	return nil
}

// goTo answers a form: the browser loads another page.
func goTo(w http.ResponseWriter, r *http.Request, to string) error {
	http.Redirect(w, r, to, http.StatusSeeOther)
	return nil
}

// local is a path on this site, or "/" when the text is anything else.
func local(to string) string {
	at, err := url.Parse(to)
	if err != nil || at.Scheme != "" || at.Host != "" || at.User != nil || at.Opaque != "" ||
		!strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") || strings.ContainsAny(to, "\\\r\n\t") {
		return "/"
	}
	return to
}

// readForm parses the form; a body past its bound is the person's to put right.
func readForm(r *http.Request) error {
	err := r.ParseForm()
	var big *http.MaxBytesError
	if errors.As(err, &big) {
		return &InputError{Text: "This is too long for the form."}
	}
	if err != nil {
		return &InputError{Text: "The form could not be read. Load the page again."}
	}
	return nil
}

// field is a form's value without surrounding space.
func field(r *http.Request, name string) string { return strings.TrimSpace(r.PostFormValue(name)) }
