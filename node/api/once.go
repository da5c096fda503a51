package api

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"

	"github.com/cloister-os/cloister/auth"
)

// OnceHeader carries an idempotency key: a request that changes something and is
// sent again with the same key, through any node, changes it once and gets the
// same answer. For a day.
const OnceHeader = "Idempotency-Key"

// once lets what the request changes happen once for its key. The body is part of
// what is asked for.
func (a *API) once(ctx context.Context, p auth.Principal, r *http.Request) (context.Context, error) {
	key := r.Header.Get(OnceHeader)
	if key == "" || a.cfg.Guard == nil || r.Method == http.MethodGet || r.Method == http.MethodHead || strings.HasPrefix(r.URL.Path, "/api/v1/uploads/") {
		return ctx, nil
	}
	if auth.HoldsSecret(key) {
		return ctx, problem(http.StatusBadRequest, "A secret was given in the wrong place.", "Replace it, for it may have been seen.")
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1)) // what is too large is refused by who reads it
	if err != nil {
		return ctx, problem(http.StatusBadRequest, "The request could not be read.", "")
	}
	r.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body), r.Body))
	return a.cfg.Guard.WithOnce(ctx, p, key, append([]byte(r.Method+" "+r.URL.RequestURI()+"\n"), body...))
}
