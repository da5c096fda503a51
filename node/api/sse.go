package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/store"
)

// message is one server-sent event.
type message struct {
	id   uint64 // 0 = none
	kind string
	data any // encoded as JSON
}

// stream answers with server-sent events, with a comment as heartbeat while
// nothing happens. An error after the first byte is an event "error" with the
// problem. The first element is waited for before the headers are sent, so that
// a refusal is a plain answer.
func (a *API) stream(ctx context.Context, events iter.Seq2[message, error]) (*huma.StreamResponse, error) {
	select {
	case a.streams <- struct{}{}:
	default:
		return nil, fmt.Errorf("%d event streams are open: %w", maxStreams, store.ErrBusy)
	}
	next, stop := iter.Pull2(events)
	m, err, ok := next()
	if err != nil {
		stop()
		<-a.streams
		return nil, err
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		defer func() { <-a.streams }()
		defer stop()
		_, w := humago.Unwrap(hc)
		out := &eventWriter{w: w, control: http.NewResponseController(w)}
		defer out.beat(a.cfg.Heartbeat)()
		out.begin()
		for ok && err == nil && out.send(m) {
			m, err, ok = next()
		}
		cause := context.Cause(ctx)
		if ended := errors.Is(cause, auth.ErrUnauthenticated) || errors.Is(cause, store.ErrBusy); ended || err != nil && cause == nil {
			out.send(message{kind: "error", data: a.problem(ctx, errors.Join(err, cause))})
		}
	}}, nil
}

// eventWriter writes events and heartbeats, one at a time.
type eventWriter struct {
	mu      sync.Mutex
	w       http.ResponseWriter
	control *http.ResponseController
	failed  bool
}

const eventWait = 30 * time.Second // a client that takes nothing for so long is gone

func (e *eventWriter) begin() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.w.Header().Set("Content-Type", "text/event-stream")
	e.w.Header().Set("X-Accel-Buffering", "no")
	e.w.WriteHeader(http.StatusOK)
	e.flush()
}

func (e *eventWriter) send(m message) bool {
	data, err := json.Marshal(m.data)
	if err != nil {
		return false
	}
	text := "event: " + m.kind + "\ndata: " + string(data) + "\n\n"
	if m.id > 0 {
		text = "id: " + strconv.FormatUint(m.id, 10) + "\n" + text
	}
	return e.write(text)
}

func (e *eventWriter) write(text string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.failed {
		return false
	}
	_ = e.control.SetWriteDeadline(time.Now().Add(eventWait)) // not every writer can
	if _, err := e.w.Write([]byte(text)); err != nil {
		e.failed = true
		return false
	}
	e.flush()
	return !e.failed
}

func (e *eventWriter) flush() {
	if err := e.control.Flush(); err != nil {
		e.failed = true
	}
}

// beat writes a comment now and then until the function it returns is called.
func (e *eventWriter) beat(every time.Duration) (stop func()) {
	done := make(chan struct{})
	var ended sync.WaitGroup
	ended.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				e.write(":\n\n")
			}
		}
	})
	return func() { close(done); ended.Wait() }
}
