package session

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/cloister-os/cloister/auth"
)

// lookEvery is how soon a request ends after its credential has: a stream that
// stays open for hours must not outlive the key that opened it.
const lookEvery = time.Second

type holdKey struct{}

// hold ends a request whose credential is good no longer. Middleware puts one
// into each request's context; Authenticate arms it.
type hold struct {
	end context.CancelCauseFunc

	mu    sync.Mutex  // guards what follows
	timer *time.Timer // nil until armed
	over  bool
}

// held returns the request with a hold on it. release must be called when the
// request has been served.
func held(r *http.Request) (_ *http.Request, release func()) {
	ctx, end := context.WithCancelCause(r.Context())
	h := &hold{end: end}
	return r.WithContext(context.WithValue(ctx, holdKey{}, h)), h.release
}

func (h *hold) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.over = true
	if h.timer != nil {
		h.timer.Stop()
	}
	h.end(nil)
}

// arm has the credential looked at again and again, from its first success on.
func (h *hold) arm(look func(context.Context) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over || h.timer != nil {
		return
	}
	h.timer = time.AfterFunc(lookEvery, func() {
		ctx, cancel := context.WithTimeout(context.Background(), lookEvery)
		defer cancel()
		err := look(ctx)
		h.mu.Lock()
		defer h.mu.Unlock()
		switch {
		case h.over:
		case errors.Is(err, auth.ErrUnauthenticated):
			h.over = true
			h.end(err) // the request's context says why with context.Cause
		default: // a store that cannot be asked says nothing about the key
			h.timer.Reset(lookEvery)
		}
	})
}

// keep arms the request's hold, if it has one, with its credential.
func (s *Service) keep(r *http.Request, token string) {
	if h, ok := r.Context().Value(holdKey{}).(*hold); ok {
		h.arm(func(ctx context.Context) error {
			if !isSession(token) {
				_, err := s.byKey(ctx, token)
				return err
			}
			_, _, _, err := s.lookUp(ctx, token)
			return err
		})
	}
}
