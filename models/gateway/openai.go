package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/budget"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/models"
	"github.com/cloister-os/cloister/store"
)

// Authenticate says who makes a request.
type Authenticate func(*http.Request) (auth.Principal, error)

// Handler is the OpenAI front: /v1/chat/completions, /v1/embeddings and
// /v1/models.
func (g *Gateway) Handler(authenticate Authenticate) http.Handler {
	mux := http.NewServeMux()
	serve := func(pattern string, f func(http.ResponseWriter, *http.Request, auth.Principal) error) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			p, err := authenticate(r)
			if err == nil {
				err = f(w, r, p)
			}
			if err != nil {
				g.fail(w, r, err)
			}
		})
	}
	serve("POST /v1/chat/completions", g.serveChat)
	serve("POST /v1/embeddings", g.serveEmbeddings)
	serve("GET /v1/models", g.serveModels)
	serve("GET /v1/models/{model}", g.serveModel)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, http.StatusNotFound, apiError{
			Message: "There is no such call here: the calls are POST /v1/chat/completions, POST /v1/embeddings and GET /v1/models.",
			Type:    "invalid_request_error", Code: "unknown_url",
		})
	})
	return mux
}

// apiError is an error as OpenAI's clients read it, with the policies that
// decided beside it.
type apiError struct {
	Message  string   `json:"message"`
	Type     string   `json:"type"`
	Param    *string  `json:"param"`
	Code     string   `json:"code"`
	Policies []string `json:"policies,omitempty"`
	Record   uint64   `json:"record,omitempty"` // of the refusal, in the audit log
}

type errorBody struct {
	Error apiError `json:"error"`
}

// badRequest is a mistake in one parameter of a request.
type badRequest struct{ param, message string }

func (e *badRequest) Error() string { return e.message }

func bad(param, format string, args ...any) error {
	return &badRequest{param, fmt.Sprintf(format, args...)}
}

// explain turns an error into a status and what the client reads.
func explain(err error) (int, apiError) {
	var denied *auth.DeniedError
	var mistake *badRequest
	var tooLarge *http.MaxBytesError
	e := apiError{Message: strings.TrimPrefix(err.Error(), store.ErrInvalid.Error()+": "), Type: "invalid_request_error"}
	switch {
	case errors.As(err, &mistake):
		e.Param, e.Code = &mistake.param, "invalid_value"
		return http.StatusBadRequest, e
	case errors.As(err, &tooLarge):
		e.Message, e.Code = fmt.Sprintf("The request is larger than %d MiB: send less.", maxBody>>20), "request_too_large"
		return http.StatusRequestEntityTooLarge, e
	case errors.Is(err, store.ErrLimit):
		e.Message, e.Type, e.Code = "The budget for this is spent: ask an administrator to raise it, or wait for the next period.", "insufficient_quota", "insufficient_quota"
		return http.StatusTooManyRequests, e
	case errors.As(err, &denied):
		e.Message, e.Type, e.Code, e.Policies, e.Record = denied.Error(), "permission_error", "policy_denied", denied.Policies, denied.Record
		return http.StatusForbidden, e
	case errors.Is(err, auth.ErrUnauthenticated):
		e.Message, e.Code = "Send an API key as \"Authorization: Bearer KEY\"; an administrator creates one with: cloister key create --scope model", "invalid_api_key"
		return http.StatusUnauthorized, e
	case errors.Is(err, auth.ErrThrottled):
		e.Type, e.Code = "rate_limit_error", "rate_limit_exceeded"
		return http.StatusTooManyRequests, e
	case errors.Is(err, models.ErrTerms):
		e.Type, e.Code = "permission_error", "terms_not_accepted"
		return http.StatusForbidden, e
	case errors.Is(err, models.ErrNoModel):
		e.Code = "model_not_found"
		return http.StatusNotFound, e
	case errors.Is(err, models.ErrInvalid), errors.Is(err, store.ErrInvalid):
		e.Code = "invalid_request"
		return http.StatusBadRequest, e
	}
	return explainOurs(err, e)
}

// explainOurs is explain for what is not the caller's doing.
func explainOurs(err error, e apiError) (int, apiError) {
	e.Type = "server_error"
	switch {
	case errors.Is(err, models.ErrBusy), errors.Is(err, store.ErrBusy):
		e.Code = "overloaded"
	case errors.Is(err, models.ErrInterrupted):
		e.Code = "model_interrupted"
	case errors.Is(err, models.ErrUnavailable):
		e.Code = "model_unavailable"
	case errors.Is(err, store.ErrReadOnly):
		e.Code, e.Message = "read_only", "This installation takes no writes at the moment, so nothing can be recorded and nothing is done: look at cloister status."
	case errors.Is(err, budget.ErrUnknownPrice):
		e.Code = "no_price"
	case errors.Is(err, context.DeadlineExceeded):
		e.Code, e.Message = "timeout", fmt.Sprintf("The model did not finish within %v: ask for fewer tokens.", callWithin)
		return http.StatusGatewayTimeout, e
	default:
		e.Code, e.Message = "internal_error", "Something went wrong in this installation; its log says what."
		return http.StatusInternalServerError, e
	}
	return http.StatusServiceUnavailable, e
}

// fail answers with an error, if somebody is still there.
func (g *Gateway) fail(w http.ResponseWriter, r *http.Request, err error) {
	if cause := context.Cause(r.Context()); errors.Is(cause, auth.ErrUnauthenticated) {
		err = cause // the key was revoked while the model worked
	} else if cause != nil || errors.Is(err, errCallerLeft) {
		return
	}
	status, e := explain(err)
	if e.Code == "internal_error" {
		g.config.Logger.Error("a model call failed", "path", r.URL.Path, "error", err)
	}
	writeError(w, status, e)
}

func writeError(w http.ResponseWriter, status int, e apiError) {
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	writeJSON(w, status, errorBody{e})
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	data, err := json.Marshal(body)
	if err != nil {
		status, data = http.StatusInternalServerError, []byte(`{"error":{"message":"the reply cannot be written","type":"server_error","param":null,"code":"internal_error"}}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(data)))
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(data) //nolint:errcheck // the caller may have left
}

// readBody reads a request's JSON. Fields that are unknown are passed over, as
// OpenAI's clients expect.
func readBody(w http.ResponseWriter, r *http.Request, into any) error {
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		var mistake *badRequest
		var wrong *json.UnmarshalTypeError
		switch {
		case errors.As(err, &mistake):
			return mistake
		case errors.As(err, &wrong):
			return bad(wrong.Field, "%q cannot be a %s.", wrong.Field, wrong.Value)
		}
		return bad("", "The request is not JSON: %v.", err)
	}
	return nil
}

// modelObject is a model or a route in a list.
type modelObject struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}

// listed are the models and routes that p may see.
func (g *Gateway) listed(ctx context.Context, p auth.Principal) (list []modelObject, err error) {
	req := guard.Request{Principal: p, Action: auth.ModelList, Resource: auth.TheSystem}
	err = g.config.Guard.Read(ctx, req, func(ctx context.Context, _ *guard.Permit) (guard.Outcome, error) {
		all, err1 := g.config.Registry.Models(ctx)
		routes, err2 := g.config.Registry.Routes(ctx)
		created := map[string]int64{}
		for _, m := range all {
			created[m.Name] = m.Imported
			list = append(list, modelObject{ID: m.Name, Object: "model", Created: m.Imported, OwnedBy: "cloister"})
		}
		for _, route := range routes {
			list = append(list, modelObject{ID: route.Name, Object: "model", Created: created[route.Model], OwnedBy: "cloister-route"})
		}
		return guard.Outcome{Usage: map[string]int64{"rows": int64(len(list))}}, errors.Join(err1, err2)
	})
	return list, err
}

func (g *Gateway) serveModels(w http.ResponseWriter, r *http.Request, p auth.Principal) error {
	list, err := g.listed(r.Context(), p)
	if err != nil {
		return err
	}
	if list == nil {
		list = []modelObject{}
	}
	writeJSON(w, http.StatusOK, struct {
		Object string        `json:"object"`
		Data   []modelObject `json:"data"`
	}{"list", list})
	return nil
}

func (g *Gateway) serveModel(w http.ResponseWriter, r *http.Request, p auth.Principal) error {
	list, err := g.listed(r.Context(), p)
	if err != nil {
		return err
	}
	for _, m := range list {
		if m.ID == r.PathValue("model") {
			writeJSON(w, http.StatusOK, m)
			return nil
		}
	}
	return models.Fail(models.ErrNoModel, "there is no model of that name: GET /v1/models lists them")
}

// now is the time that replies carry.
func now() int64 { return time.Now().Unix() }
