package ui

import (
	"errors"
	"net/http"
	"net/url"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/directory"
	"github.com/cloister-os/cloister/auth/people"
	"github.com/cloister-os/cloister/auth/session"
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
	if errors.Is(err, session.ErrSetupDone) {
		u.isSet.Store(true)
		return goTo(w, r, "/sign-in")
	}
	if field, text := setupWrong(err); field != "" {
		if errors.Is(err, session.ErrMisplacedKey) {
			f.Code, f.User = "", "" // not even back to the page
		}
		f.Wrong[field] = text
		return again(http.StatusUnprocessableEntity)
	}
	if wrong, n, ok := wrongInput(err); ok {
		f.Wrong, f.Notice = wrong, n
		return again(http.StatusUnprocessableEntity)
	}
	if err != nil {
		return err
	}
	if u.SetUp != nil {
		u.SetUp()
	}
	session.SetCookie(w, token, s.Expires)
	return goTo(w, r, "/")
}

// setupWrong says which field of the setup form is wrong, and how.
func setupWrong(err error) (field, text string) {
	switch {
	case errors.Is(err, session.ErrSetupCode):
		return "code", "This is not the setup code. The node printed it when it started."
	case errors.Is(err, session.ErrName):
		return "user", "Choose a name of 1 to 128 visible characters."
	case errors.Is(err, session.ErrPassword):
		return "password", Sentence(err)
	case errors.Is(err, session.ErrMisplacedKey):
		return "code", "This looks like an API key. Type the setup code that the node printed."
	}
	return "", ""
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
	case errors.Is(err, session.ErrMisplacedKey):
		f.User = "" // not even back to the page
		f.Notice = &view.Notice{Tone: view.Bad, Title: "That was an API key", Text: "People sign in with a name and a password. Replace the key, for it may have been seen."}
		return show(w, r, http.StatusUnprocessableEntity, view.SignIn(u.frame(r, "", "Sign in"), f))
	case errors.Is(err, people.ErrNoRole): // the password was right
		f.Notice = &view.Notice{Tone: view.Warn, Title: "You have no role here yet", Text: Sentence(err)}
		return show(w, r, http.StatusForbidden, view.SignIn(u.frame(r, "", "Sign in"), f))
	case errors.Is(err, directory.ErrNoAnswer):
		f.Notice = &view.Notice{Tone: view.Warn, Title: "The directory does not answer", Text: "Try again in a moment, or sign in with a local account."}
		return show(w, r, http.StatusServiceUnavailable, view.SignIn(u.frame(r, "", "Sign in"), f))
	case errors.Is(err, auth.ErrUnauthenticated), errors.Is(err, session.ErrName):
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
