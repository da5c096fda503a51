package ui

import (
	"errors"
	"net/http"
	"net/url"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/session"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/ui/view"
)

func (u *pages) setupForm(w http.ResponseWriter, r *http.Request) error {
	return show(w, r, http.StatusOK, view.Setup(u.frame(r, "", "Set up"), view.SetupForm{Prints: u.Prints}))
}

// setup makes the first administrator and signs them in.
func (u *pages) setup(w http.ResponseWriter, r *http.Request) error {
	if err := readForm(r); err != nil {
		return err
	}
	f := view.SetupForm{Code: field(r, "code"), User: field(r, "user"), Prints: u.Prints, Wrong: map[string]string{}}
	password := r.PostFormValue("password")
	again := func(status int) error {
		return show(w, r, status, view.Setup(u.frame(r, "", "Set up"), f))
	}
	if password != r.PostFormValue("repeat") {
		f.Wrong["repeat"] = "The two passwords differ."
		return again(http.StatusUnprocessableEntity)
	}
	s, token, err := u.Sessions.Setup(r.Context(), f.Code, f.User, password)
	if errors.Is(err, auth.ErrThrottled) {
		f.Notice = &view.Notice{Tone: view.Warn, Title: "Too many wrong codes", Text: "Wait a moment, then try again. The attempts are on record."}
		return again(http.StatusTooManyRequests)
	}
	if errors.Is(err, auth.ErrUnauthenticated) || errors.Is(err, auth.ErrDenied) {
		f.Wrong["code"] = "This is not the setup code. The node printed it when it started."
		return again(http.StatusUnprocessableEntity)
	}
	if wrong, n, ok := wrongInput(err); ok {
		f.Wrong, f.Notice = wrong, n
		return again(http.StatusUnprocessableEntity)
	}
	if err != nil {
		return err
	}
	session.SetCookie(w, token, s.Expires)
	return goTo(w, r, "/")
}

func (u *pages) signInForm(w http.ResponseWriter, r *http.Request) error {
	next := local(r.URL.Query().Get("next"))
	if _, err := u.Sessions.Authenticate(r); err == nil {
		return goTo(w, r, next)
	}
	f := view.SignInForm{Next: next}
	if r.URL.Query().Has("bye") {
		f.Notice = &view.Notice{Tone: view.OK, Title: "You are signed out"}
	}
	return show(w, r, http.StatusOK, view.SignIn(u.frame(r, "", "Sign in"), f))
}

func (u *pages) signIn(w http.ResponseWriter, r *http.Request) error {
	if err := readForm(r); err != nil {
		return err
	}
	f := view.SignInForm{User: field(r, "user"), Next: local(r.PostFormValue("next"))}
	s, token, err := u.Sessions.Login(r.Context(), f.User, r.PostFormValue("password"))
	switch {
	case err == nil:
		session.SetCookie(w, token, s.Expires)
		return goTo(w, r, f.Next)
	case errors.Is(err, auth.ErrThrottled):
		f.Notice = &view.Notice{Tone: view.Warn, Title: "Too many attempts", Text: "Wait a moment, then try again."}
		return show(w, r, http.StatusTooManyRequests, view.SignIn(u.frame(r, "", "Sign in"), f))
	case errors.Is(err, auth.ErrUnauthenticated), errors.Is(err, auth.ErrDenied), errors.Is(err, store.ErrInvalid):
		f.Notice = &view.Notice{Tone: view.Bad, Title: "Name or password is wrong"}
		return show(w, r, http.StatusUnprocessableEntity, view.SignIn(u.frame(r, "", "Sign in"), f))
	default:
		return err
	}
}

func (u *pages) signOut(w http.ResponseWriter, r *http.Request) error {
	if err := u.Sessions.Logout(r.Context(), r); err != nil {
		return err
	}
	session.ClearCookie(w)
	return goTo(w, r, "/sign-in?bye")
}

// theme remembers the chosen theme and returns to where the person was.
func (u *pages) theme(w http.ResponseWriter, r *http.Request) error {
	if err := readForm(r); err != nil {
		return err
	}
	chosen := field(r, "theme")
	if chosen != "light" && chosen != "dark" {
		chosen = ""
	}
	setCookie(w, themeCookie, chosen)
	back := "/"
	if from, err := url.Parse(r.Referer()); err == nil && from.Host == r.Host {
		back = local(from.RequestURI())
	}
	return goTo(w, r, back)
}

func (u *pages) account(w http.ResponseWriter, r *http.Request) error {
	a := view.Account{Prints: u.Prints}
	if r.URL.Query().Has("saved") {
		a.Saved = &view.Notice{Tone: view.OK, Title: "Saved"}
	}
	return show(w, r, http.StatusOK, view.AccountPage(u.frame(r, "account", "Account"), a))
}

func (u *pages) accountSave(w http.ResponseWriter, r *http.Request) error {
	if err := readForm(r); err != nil {
		return err
	}
	value := "off"
	if field(r, "keys") == "on" {
		value = ""
	}
	setCookie(w, keysCookie, value)
	return goTo(w, r, "/account?saved")
}
