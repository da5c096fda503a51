package api

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"runtime/debug"
	"time"

	"github.com/cloister-os/cloister/auth"
)

type requestKey struct{}

// requestID is the id of the request that the context belongs to.
func requestID(ctx context.Context) string {
	id, _ := ctx.Value(requestKey{}).(string)
	return id
}

var idPattern = regexp.MustCompile(`^[A-Za-z0-9._-]{8,64}$`)

// Shell wraps everything that a node serves: it gives each request an id,
// sets the headers that are right for every answer, logs method, path, status
// and time (never a query, a header or a body) and tells them to served, and
// turns a panic into 500.
func Shell(log *slog.Logger, served func(path string, status int, took time.Duration), next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get("X-Request-Id")
		if !idPattern.MatchString(id) || auth.HoldsSecret(id) {
			id = rand.Text()
		}
		h := w.Header()
		h.Set("X-Request-Id", id)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Cache-Control", "no-store")
		began := time.Now()
		rec := &recorder{ResponseWriter: w}
		limitBody(rec, r, requestWait)
		r = r.WithContext(context.WithValue(r.Context(), requestKey{}, id))
		defer func() {
			if v := recover(); v != nil {
				if v == http.ErrAbortHandler {
					panic(v)
				}
				log.Error("a request panicked", "request", id, "method", r.Method, "path", r.URL.Path, "stack", string(debug.Stack()))
				if rec.status == 0 {
					writeProblem(rec, r, inside(id))
				}
			}
			took := time.Since(began)
			served(r.URL.Path, rec.status, took)
			log.Debug("request", "request", id, "method", r.Method, "path", r.URL.Path, "status", rec.status, "took", took)
		}()
		next.ServeHTTP(rec, r)
	})
}

// requestWait is how long a request's body may take, where a route does not say
// otherwise.
const requestWait = time.Minute

// limitBody lets the body take so long and no longer. The deadline ends with the
// body: a server's own ReadTimeout would also end event streams over HTTP/1.1.
func limitBody(w http.ResponseWriter, r *http.Request, wait time.Duration) {
	if r.Body == nil || r.Body == http.NoBody {
		return
	}
	control := http.NewResponseController(w)
	if control.SetReadDeadline(time.Now().Add(wait)) != nil {
		return // not every writer can
	}
	r.Body = &timedBody{ReadCloser: r.Body, control: control}
}

// timedBody takes the deadline away when the body has been read.
type timedBody struct {
	io.ReadCloser
	control *http.ResponseController
}

// Read implements io.Reader.
func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		_ = b.control.SetReadDeadline(time.Time{}) // it could be set
	}
	return n, err
}

// recorder remembers the status.
type recorder struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(b)
}

// Unwrap gives http.ResponseController what lies below.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
