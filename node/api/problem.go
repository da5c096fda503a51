package api

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/cloister-os/cloister/agents/run"
	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/directory"
	"github.com/cloister-os/cloister/auth/people"
	"github.com/cloister-os/cloister/auth/session"
	"github.com/cloister-os/cloister/graph/connect"
	"github.com/cloister-os/cloister/models"
	"github.com/cloister-os/cloister/node/api/wire"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/backup"
)

// kind is how one kind of error is answered.
type kind struct {
	is     error
	status int
	title  string
	show   bool
	retry  string // seconds, for Retry-After
}

// kinds maps the kinds of error to a status and a title, first match wins. It
// is the only place that does. A kind with show may tell its text to whoever
// asked; the others say only what to do.
var kinds = []kind{
	{session.ErrMisplacedKey, http.StatusBadRequest, "A secret was given in the wrong place.", true, ""},
	{session.ErrKeySpec, http.StatusUnprocessableEntity, "The key cannot be made.", true, ""},
	{session.ErrPassword, http.StatusUnprocessableEntity, "Choose another password.", true, ""},
	{session.ErrName, http.StatusUnprocessableEntity, "That is not a user name.", true, ""},
	{session.ErrSetupDone, http.StatusConflict, "Setup has been done.", true, ""},
	{session.ErrSetupCode, http.StatusForbidden, "The setup code is wrong.", true, ""},
	{people.ErrInvalid, http.StatusUnprocessableEntity, "That cannot work.", true, ""},
	{people.ErrExists, http.StatusConflict, "There is a directory of that name already.", true, ""},
	{people.ErrLockOut, http.StatusConflict, "Nobody would be left who administers.", true, ""},
	{people.ErrUntested, http.StatusUnprocessableEntity, "The connection to the directory does not work yet.", true, ""},
	{auth.ErrUnauthenticated, http.StatusUnauthorized, "Sign in first.", true, ""},
	{auth.ErrThrottled, http.StatusTooManyRequests, "Too many attempts.", true, "5"},
	{auth.ErrDenied, http.StatusForbidden, "Not permitted.", true, ""},
	{people.ErrNoRole, http.StatusForbidden, "You have no role here.", true, ""},
	{directory.ErrNoAnswer, http.StatusServiceUnavailable, "The directory does not answer.", true, "5"},
	{directory.ErrGone, http.StatusNotFound, "The directory has no such entry.", true, ""},
	{directory.ErrAmbiguous, http.StatusConflict, "Several entries of the directory match.", true, ""},
	{directory.ErrTooMany, http.StatusUnprocessableEntity, "Too many groups.", true, ""},
	{directory.ErrConfig, http.StatusUnprocessableEntity, "The directory's settings cannot work.", true, ""},
	{run.ErrNotFound, http.StatusNotFound, "There is no such run.", true, ""},
	{run.ErrUnknown, http.StatusNotFound, "There is no such agent.", true, ""},
	{run.ErrTurn, http.StatusConflict, "One question at a time.", true, ""},
	{run.ErrFull, http.StatusConflict, "The conversation is full.", true, ""},
	{run.ErrMany, http.StatusConflict, "Too many conversations.", true, ""},
	{run.ErrEnded, http.StatusConflict, "The run has already ended.", true, ""},
	{run.ErrBusy, http.StatusServiceUnavailable, "Too busy.", true, "1"},
	{run.ErrStopping, http.StatusServiceUnavailable, "The node is stopping.", true, "5"},
	{models.ErrNoModel, http.StatusNotFound, "There is no such model.", true, ""},
	{models.ErrUnavailable, http.StatusServiceUnavailable, "The model engine is not available.", true, "5"},
	{models.ErrBusy, http.StatusServiceUnavailable, "The model engine is busy.", true, "1"},
	{models.ErrInvalid, http.StatusUnprocessableEntity, "The model cannot take this.", true, ""},
	{models.ErrNoSpace, http.StatusInsufficientStorage, "Not enough free disk space.", true, ""},
	{models.ErrInterrupted, http.StatusBadGateway, "The model stopped in the middle of its answer.", true, ""},
	{connect.ErrExists, http.StatusConflict, "There is a source of that name already.", true, ""},
	{connect.ErrRemoved, http.StatusConflict, "The source is removed or being removed.", true, ""},
	{models.ErrTerms, http.StatusConflict, "Nobody has accepted the model's terms yet.", true, ""},
	{backup.ErrMissing, http.StatusNotFound, "A backup is missing.", true, ""},
	{backup.ErrDamaged, http.StatusUnprocessableEntity, "The backup is damaged.", true, ""},
	{backup.ErrForeign, http.StatusUnprocessableEntity, "The backup is not of this cluster.", true, ""},
	{backup.ErrKey, http.StatusUnprocessableEntity, "The backup cannot be opened.", true, ""},
	{backup.ErrNoSpace, http.StatusInsufficientStorage, "Not enough free disk space.", true, ""},
	{backup.ErrBusy, http.StatusConflict, "A backup is being made.", true, ""},
	{connect.ErrAway, http.StatusBadGateway, "The node that holds the source is away.", true, ""},
	{store.ErrReadOnly, http.StatusServiceUnavailable, "Nothing can be written now.", true, "30"},
	{store.ErrBusy, http.StatusServiceUnavailable, "Too busy.", true, "1"},
	{store.ErrLimit, http.StatusTooManyRequests, "The budget is spent.", false, "60"},
	{store.ErrConflict, http.StatusConflict, "It was changed by someone else in the meantime.", false, ""},
	{store.ErrNotFound, http.StatusNotFound, "There is no such thing.", true, ""},
	{store.ErrCompacted, http.StatusGone, "That version is no longer kept.", true, ""},
	{store.ErrTooLarge, http.StatusRequestEntityTooLarge, "Too large.", true, ""},
	{store.ErrInvalid, http.StatusUnprocessableEntity, "Something in the request is not right.", true, ""},
	{store.ErrUnknown, http.StatusServiceUnavailable, "Nobody knows yet whether it happened. Send it again with the same Idempotency-Key, or look first.", false, "1"},
	{store.ErrClosed, http.StatusServiceUnavailable, "The node is stopping.", false, "5"},
	{context.DeadlineExceeded, http.StatusGatewayTimeout, "It took too long.", false, "1"},
}

// problem maps an error to what the caller reads. What is no kind of ours is
// logged whole and told only as an internal error with the request's id.
func (a *API) problem(ctx context.Context, err error) error {
	var known *wire.Problem
	if errors.As(err, &known) {
		return known
	}
	if cause := context.Cause(ctx); errors.Is(cause, auth.ErrUnauthenticated) || errors.Is(cause, store.ErrBusy) {
		err = cause // the credential ended while the request was served, or the node was cut off
	}
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return problem(499, "The client went away.", "")
	}
	if k := kindOf(err); k != nil {
		p := problem(k.status, k.title, "")
		if k.show {
			p.Detail = sentence(err)
		}
		p.Type, p.Instance = kindURI(err), requestID(ctx)
		var denied *auth.DeniedError
		if errors.As(err, &denied) {
			p.Policy, p.Record = first(denied.Policies, "default-deny"), &denied.Record
		}
		after := k.retry
		var slow *session.ThrottledError
		if errors.As(err, &slow) {
			after = strconv.Itoa(max(1, int(math.Ceil(slow.RetryAfter.Seconds()))))
		}
		if after != "" {
			return &retryable{p, after}
		}
		return p
	}
	a.cfg.Logger.ErrorContext(ctx, "request failed", "request", requestID(ctx), "err", err)
	return inside(requestID(ctx))
}

// The types of problem that programs tell apart, beside their status.
const (
	typeBusy     = "urn:cloister:busy"      // nothing happened: try again, through another node if there is one
	typeBehind   = "urn:cloister:behind"    // nothing happened: this node has not caught up with the request
	typeReadOnly = "urn:cloister:read-only" // nothing happened: the disk is full, or nearly
	typeUnknown  = "urn:cloister:unknown"   // it may have happened: send it again only with its idempotency key
)

func kindURI(err error) string {
	switch {
	case errors.Is(err, store.ErrReadOnly):
		return typeReadOnly
	case errors.Is(err, store.ErrUnknown):
		return typeUnknown
	case errors.Is(err, store.ErrBusy), errors.Is(err, run.ErrBusy), errors.Is(err, run.ErrStopping), errors.Is(err, models.ErrBusy):
		return typeBusy
	}
	return "about:blank"
}

// kindOf is the first kind that the error is of, or nil.
func kindOf(err error) *kind {
	for i := range kinds {
		if errors.Is(err, kinds[i].is) {
			return &kinds[i]
		}
	}
	return nil
}

// inside is the answer to a failure of ours.
func inside(id string) *wire.Problem {
	p := problem(http.StatusInternalServerError, "Something went wrong inside.", "Something went wrong inside: look for request "+id+" in the node's log.")
	p.Instance = id
	return p
}

// retryable is a problem that time heals.
type retryable struct {
	*wire.Problem
	after string
}

// GetHeaders adds Retry-After.
func (r *retryable) GetHeaders() http.Header { return http.Header{"Retry-After": {r.after}} }

func (r *retryable) Unwrap() error { return r.Problem }

// MarshalJSON writes the problem alone.
func (r *retryable) MarshalJSON() ([]byte, error) { return json.Marshal(r.Problem) }

func problem(status int, title, detail string) *wire.Problem {
	return &wire.Problem{Type: "about:blank", Title: title, Status: status, Detail: detail}
}

// writeProblem answers with a problem outside huma.
func writeProblem(w http.ResponseWriter, _ *http.Request, err error) {
	var p *wire.Problem
	if !errors.As(err, &p) {
		p = problem(http.StatusInternalServerError, "Something went wrong inside.", "")
	}
	var r *retryable
	if errors.As(err, &r) {
		w.Header().Set("Retry-After", r.after)
	}
	if p.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="cloister"`)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the client may have gone
}

// Unready answers for a node that is not up yet.
func Unready(w http.ResponseWriter, sentence string) {
	writeProblem(w, nil, &retryable{problem(http.StatusServiceUnavailable, "The node is not ready yet.", sentence), "2"})
}

// sentence is an error's text as one line that begins with a capital and ends
// with a full stop.
func sentence(err error) string {
	s, _, _ := strings.Cut(auth.Redact(err.Error()), "\n")
	for _, kind := range []error{store.ErrInvalid, store.ErrNotFound, connect.ErrAway} { // the status says that
		s = strings.TrimSuffix(s, ": "+kind.Error())
	}
	if s == "" {
		return ""
	}
	s = strings.ToUpper(s[:1]) + s[1:]
	if !strings.HasSuffix(s, ".") {
		s += "."
	}
	return s
}

func first(list []string, other string) string {
	if len(list) == 0 {
		return other
	}
	return list[0]
}
