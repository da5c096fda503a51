package ui

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/graph/connect"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/ui/view"
)

// fail shows an error as a page that says what happened and what to do.
func (u *pages) fail(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
		return
	}
	if errors.Is(err, auth.ErrUnauthenticated) {
		to := "/sign-in"
		if r.Method == http.MethodGet && r.URL.Path != "/" {
			to += "?next=" + url.QueryEscape(r.URL.RequestURI())
		}
		http.Redirect(w, r, to, http.StatusSeeOther)
		return
	}
	o := u.explain(r, err)
	if o.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	p := u.frame(r, "", o.Title)
	page := view.OopsGate(p, o)
	if person, authErr := u.Sessions.Authenticate(r); authErr == nil {
		r = r.WithContext(context.WithValue(r.Context(), whoKey{}, person))
		page = view.OopsPage(u.frame(r, "", o.Title), o)
	}
	if err := show(w, r, o.Status, page); err != nil {
		u.Logger.ErrorContext(r.Context(), "error page", "error", err)
		http.Error(w, o.Title, o.Status)
	}
}

var homeward = []view.Link{{Text: "Back to home", URL: "/"}}

// explain is the error in words for people.
func (u *pages) explain(r *http.Request, err error) view.Oops {
	var denied *auth.DeniedError
	var input *InputError
	switch {
	case errors.As(err, &denied):
		o := view.Oops{
			Tone: view.Bad, Icon: "lock", Status: http.StatusForbidden, Title: "Not permitted", Actions: homeward,
			Text:  "A policy refuses this. If you need it, show these facts to an administrator; the refusal is on the audit record.",
			Facts: []view.Fact{{Name: "Action", Text: string(denied.Action)}, {Name: "Policy", Text: strings.Join(denied.Policies, ", ")}},
		}
		if len(denied.Policies) == 0 {
			o.Facts[1].Text = "default-deny"
		}
		if denied.Record > 0 {
			o.Facts = append(o.Facts, view.Fact{Name: "Record", Text: view.Count(denied.Record)})
		}
		return o
	case errors.Is(err, auth.ErrDenied):
		return view.Oops{Tone: view.Bad, Icon: "lock", Status: http.StatusForbidden, Title: "Not permitted", Text: "A policy refuses this.", Actions: homeward}
	case errors.Is(err, store.ErrNotFound):
		return view.Oops{
			Tone: view.Calm, Icon: "unknown", Status: http.StatusNotFound, Title: "There is nothing here", Actions: homeward,
			Text: "The address is wrong, or what was here is gone, or you may not see it.",
		}
	case errors.Is(err, store.ErrCompacted):
		return view.Oops{
			Tone: view.Calm, Icon: "clock", Status: http.StatusGone, Title: "That version is no longer kept", Actions: homeward,
			Text: "It is older than the time for which this installation keeps the past.",
		}
	case errors.Is(err, store.ErrReadOnly):
		return view.Oops{
			Tone: view.Warn, Icon: "lock", Status: http.StatusServiceUnavailable, Title: "No changes at the moment", Actions: homeward,
			Text: "The node writes nothing until its disk has room again. Nothing was lost; free some space and try again.",
		}
	case errors.Is(err, connect.ErrAway):
		return view.Oops{
			Tone: view.Warn, Icon: "clock", Status: http.StatusBadGateway, Title: "The node that holds this source is away", Actions: homeward,
			Text: Sentence(err),
		}
	case errors.Is(err, store.ErrUnknown):
		return view.Oops{
			Tone: view.Warn, Icon: "clock", Status: http.StatusServiceUnavailable, Title: "Nobody knows yet whether it happened", Actions: homeward,
			Text: "The nodes were electing a leader. Look whether it was done before you do it again.",
		}
	case errors.Is(err, store.ErrClosed):
		return view.Oops{
			Tone: view.Warn, Icon: "clock", Status: http.StatusServiceUnavailable, Title: "This node is stopping", Actions: homeward,
			Text: "Nothing was changed. Try again in a moment: another node may answer.",
		}
	case errors.Is(err, store.ErrBusy), errors.Is(err, auth.ErrThrottled):
		return view.Oops{
			Tone: view.Warn, Icon: "clock", Status: http.StatusServiceUnavailable, Title: "Too busy just now", Actions: homeward,
			Text: "Nothing was changed. Try again in a moment.",
		}
	case errors.As(err, &input):
		return view.Oops{Tone: view.Warn, Icon: "warn", Status: http.StatusUnprocessableEntity, Title: "That does not work", Text: input.Text, Actions: homeward}
	default:
		return u.broken(r, err)
	}
}

// broken is an error that is ours: the operator gets the cause, the person a
// word to find it by.
func (u *pages) broken(r *http.Request, err error) view.Oops {
	word := rand.Text()[:10]
	u.Logger.ErrorContext(r.Context(), "page failed", "page", r.Pattern, "incident", word, "error", auth.Redact(err.Error()))
	return view.Oops{
		Tone: view.Bad, Icon: "bad", Status: http.StatusInternalServerError, Title: "Something broke on our side", Actions: homeward,
		Text:  "The node's log says what, under this word. Give it to whoever runs the node.",
		Facts: []view.Fact{{Name: "Incident", Text: word}},
	}
}

// wrongInput turns an error that the person can put right into field messages
// and a notice; ok is false for every other error.
func wrongInput(err error) (wrong map[string]string, n *view.Notice, ok bool) {
	var input *InputError
	if errors.As(err, &input) {
		if input.Field != "" {
			return map[string]string{input.Field: input.Text}, nil, true
		}
		return nil, &view.Notice{Tone: view.Bad, Title: input.Text}, true
	}
	for _, kind := range []error{store.ErrInvalid, store.ErrConflict, store.ErrLimit, store.ErrTooLarge} {
		if errors.Is(err, kind) {
			return nil, &view.Notice{Tone: view.Bad, Title: Sentence(err)}, true
		}
	}
	return nil, nil, false
}

// Sentence is an error's text for people: one line, no keys, a capital and a
// full stop.
func Sentence(err error) string {
	s := strings.TrimSpace(auth.Redact(err.Error()))
	for _, kind := range []error{store.ErrInvalid, store.ErrConflict, connect.ErrAway} {
		s = strings.TrimSuffix(s, ": "+kind.Error())
	}
	if s == "" {
		return "That does not work."
	}
	s = strings.ToUpper(s[:1]) + s[1:]
	if !strings.HasSuffix(s, ".") {
		s += "."
	}
	return s
}

func (u *pages) nowhere(http.ResponseWriter, *http.Request) error { return store.ErrNotFound }
