package session

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/store"
)

// lookEvery is how soon a request ends after its credential has: a stream that
// stays open for hours must not outlive the key that opened it. blindFor is how
// long it may go on while nobody can say whether the credential is good: a node
// that is cut off from the others has nothing to tell, and whoever listens finds
// another one.
const (
	lookEvery = time.Second
	blindFor  = 10 * time.Second
)

var errBlind = fmt.Errorf("this node does not reach the others: connect again, through another node if need be: %w", store.ErrBusy)

type holdKey struct{}

// hold ends a request whose credential is good no longer. Middleware puts one
// into each request's context; Authenticate arms it.
type hold struct {
	end context.CancelCauseFunc

	mu    sync.Mutex  // guards what follows
	timer *time.Timer // nil until armed
	over  bool
	seen  time.Time // when the credential was last known to be good
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
	h.seen = time.Now()
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
		case err != nil && time.Since(h.seen) > blindFor:
			h.over = true
			h.end(errBlind)
		default: // a store that cannot be asked says nothing about the key
			if err == nil {
				h.seen = time.Now()
			}
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
