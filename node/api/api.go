// Package api is the node's HTTP interface, /api/v1: code-first OpenAPI 3.1,
// errors as RFC 9457, long work as server-sent events.
//
// It promises: whoever is not signed in gets 401 from every route but those
// marked public; each route passes the guard, here or in the service that it
// calls; bodies, lists, streams and their number are bounded; an error says what
// to do and never holds content or a secret.
//
// It may import every room below node, and it alone imports huma.
package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/cloister-os/cloister/auth"
)

// Bounds of the interface.
const (
	maxBody    = 64 << 10 // bytes of a JSON body
	maxStreams = 512      // event streams open at once
	heartbeat  = 15 * time.Second
	bodyWait   = 30 * time.Second // for a whole JSON body
)

// API serves /api/v1.
type API struct {
	cfg     Config
	mux     *http.ServeMux
	huma    huma.API
	uploads *uploads
	streams chan struct{} // one token an open event stream
}

// New returns the handler of /api/v1 and what lies below it.
func New(cfg Config) (*API, error) {
	if cfg.Sessions == nil || cfg.Door == nil {
		return nil, errors.New("api: needs sessions and a door")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Heartbeat <= 0 {
		cfg.Heartbeat = heartbeat
	}
	a := &API{cfg: cfg, mux: http.NewServeMux(), streams: make(chan struct{}, maxStreams)}
	var err error
	if a.uploads, err = newUploads(cfg.Uploads); err != nil {
		return nil, err
	}
	c := huma.DefaultConfig("Cloister", "1")
	c.Info.Description = "Everything that Cloister does. Sign in with POST /api/v1/login or use an API key, and send the token as Authorization: Bearer."
	c.OpenAPIPath, c.DocsPath, c.SchemasPath, c.CreateHooks = "/api/v1/openapi", "", "", nil
	c.Transformers = append(c.Transformers, invalid)
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"bearer": {Type: "http", Scheme: "bearer", Description: "A session's token or an API key"}}
	a.huma = humago.New(a.mux, c)
	a.huma.UseMiddleware(a.authenticate)
	for _, add := range []func(){
		a.sessionRoutes, a.statusRoutes, a.sourceRoutes, a.accessRoutes, a.askRoutes, a.memoryRoutes, a.conversationRoutes, a.citationRoutes, a.modelRoutes, a.auditRoutes,
		a.keyRoutes, a.directoryRoutes, a.policyRoutes, a.costRoutes, a.nodeRoutes, a.sealRoutes, a.certificateRoutes, a.backupRoutes, a.formatRoutes,
	} {
		add()
	}
	a.mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, r, problem(http.StatusNotFound, "There is no such route.", "See /api/v1/openapi.json."))
	})
	return a, nil
}

// ServeHTTP serves a request.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.mux.ServeHTTP(w, r) }

// OpenAPI describes the interface.
func (a *API) OpenAPI() *huma.OpenAPI { return a.huma.OpenAPI() }

type principalKey struct{}

// public marks the operations that need no sign-in.
const public = "public"

// authenticate puts the principal into the context, or answers 401.
func (a *API) authenticate(ctx huma.Context, next func(huma.Context)) {
	if ctx.Operation().Metadata[public] == true {
		next(ctx)
		return
	}
	r, w := humago.Unwrap(ctx)
	p, err := a.cfg.Sessions.Authenticate(r)
	if err != nil {
		writeProblem(w, r, a.problem(r.Context(), err))
		return
	}
	with, err := a.once(ctx.Context(), p, r)
	if err != nil {
		writeProblem(w, r, a.problem(r.Context(), err))
		return
	}
	next(huma.WithContext(ctx, context.WithValue(with, principalKey{}, p)))
}

// operation fills in what all operations share.
func operation(method, path, id, summary string) huma.Operation {
	op := huma.Operation{
		Method: method, Path: path, OperationID: id, Summary: summary, MaxBodyBytes: maxBody, BodyReadTimeout: bodyWait,
		Metadata: map[string]any{}, Security: []map[string][]string{{"bearer": {}}},
		Errors: []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusServiceUnavailable},
	}
	switch method {
	case http.MethodPost:
		op.DefaultStatus = http.StatusOK
	case http.MethodDelete:
		op.DefaultStatus = http.StatusNoContent
	}
	return op
}

// handle registers an operation for whoever is signed in.
func handle[I, O any](a *API, op huma.Operation, f func(context.Context, auth.Principal, *I) (*O, error)) {
	huma.Register(a.huma, op, func(ctx context.Context, in *I) (*O, error) {
		p, ok := ctx.Value(principalKey{}).(auth.Principal)
		if !ok {
			return nil, a.problem(ctx, auth.ErrUnauthenticated)
		}
		out, err := f(ctx, p, in)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		if out == nil {
			out = new(O)
		}
		return out, nil
	})
}

// handlePublic registers an operation for everybody.
func handlePublic[I, O any](a *API, op huma.Operation, f func(context.Context, *I) (*O, error)) {
	op.Metadata[public] = true
	op.Security = []map[string][]string{}
	huma.Register(a.huma, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := f(ctx, in)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		return out, nil
	})
}

// body is a JSON answer.
type body[T any] struct{ Body T }

// none is an answer without a body, or a request without parameters.
type none struct{}
