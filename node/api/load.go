package api

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/threads"
)

// A node that is asked for more than it can do says so at once, while it still
// leads and its health can still be asked for. What is asked for falls into
// classes with bounds of their own: as many as the processors can work on, few
// more that wait a moment, and the rest is told to come again.
type class struct {
	name    string
	slots   chan struct{} // one token for each request that is served
	waiting chan struct{} // and for each that waits
	patient time.Duration
	after   string // Retry-After in seconds
}

func newClass(name string, slots, waiting int, patient time.Duration, after string) *class {
	return &class{name, make(chan struct{}, slots), make(chan struct{}, waiting), patient, after}
}

// enter takes a slot; leave gives it back. It is false when there is none.
func (c *class) enter(done <-chan struct{}) (ok bool) {
	select {
	case c.slots <- struct{}{}:
		return true
	default:
	}
	select {
	case c.waiting <- struct{}{}:
		defer func() { <-c.waiting }()
	default:
		return false
	}
	t := time.NewTimer(c.patient)
	defer t.Stop()
	select {
	case c.slots <- struct{}{}:
		return true
	case <-t.C:
	case <-done:
	}
	return false
}

func (c *class) leave() { <-c.slots }

// urgency is what a path is to a node under load.
type urgency int

const (
	ordinary urgency = iota
	health           // never waits for anything
	entry            // has slots of its own: who signs in, and how the node is
	work             // may take long: questions and completions; the rooms bound them too
	bulk             // uploads, imports, exports, backups
	stream           // bounded where it is served
)

// Load sheds what is too much.
type Load struct{ classes map[urgency]*class }

// NewLoad returns bounds for this machine: a request at work takes a processor
// now and then, and what the store's own work waits for one grows with their
// number.
func NewLoad() *Load {
	n := max(threads.Processors(), 2)
	return &Load{map[urgency]*class{
		ordinary: newClass("requests", 32*n, 256*n, time.Second, "1"),
		entry:    newClass("sign-ins", 64, 256, 10*time.Second, "2"),
		work:     newClass("questions", 512, 256, time.Second, "2"),
		bulk:     newClass("uploads and exports", 2*n, 4*n, 5*time.Second, "5"),
	}}
}

// Shed serves what there is room for and answers 503 with Retry-After to the rest.
func (l *Load) Shed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := l.classes[urgencyOf(r)]
		if c == nil {
			next.ServeHTTP(w, r)
			return
		}
		if err := arrive(r); err != nil {
			return // whoever sent it has gone, or took too long
		}
		if !c.enter(r.Context().Done()) {
			c.refuse(w, r)
			return
		}
		defer c.leave()
		next.ServeHTTP(w, r)
	})
}

// arrive reads a short body before the request takes a slot, so that nobody who
// sends slowly keeps one. A long one is read where it is served, by which time it
// is known who sends it.
func arrive(r *http.Request) error {
	if r.ContentLength <= 0 || r.ContentLength > maxBody {
		return nil
	}
	b, err := io.ReadAll(io.LimitReader(r.Body, r.ContentLength+1)) // to its end, which takes its deadline away
	if err != nil {
		return err
	}
	r.Body = io.NopCloser(bytes.NewReader(b))
	return nil
}

func (c *class) refuse(w http.ResponseWriter, r *http.Request) {
	refuse(w, r, c.after, fmt.Errorf("%w: this node serves %d %s at once", store.ErrBusy, cap(c.slots), c.name))
}

// Full answers whoever comes when every connection that the node holds is at work,
// unless what they come for is Vital.
func Full() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		refuse(w, r, "5", fmt.Errorf("%w: every connection of this node is at work", store.ErrBusy))
	})
}

func refuse(w http.ResponseWriter, r *http.Request, after string, err error) {
	w.Header().Set("Retry-After", after)
	if program(r) {
		p := problem(http.StatusServiceUnavailable, "Too busy.", sentence(err))
		p.Type = typeBusy
		writeProblem(w, r, p)
		return
	}
	http.Error(w, "Too busy just now. Nothing was changed; try again in a moment.", http.StatusServiceUnavailable)
}

// Vital reports whether a path is answered however full the node is: its health, and
// the bringing of shares to a sealed one.
func Vital(path string) bool {
	return vital(path) == health || path == "/unseal" || path == "/api/v1/seal" || path == "/api/v1/seal/unseal"
}

// vital says of the paths by which a node is watched and entered what they are.
func vital(path string) urgency {
	switch path {
	case "/healthz", "/readyz":
		return health
	case "/metrics", "/api/v1/status", "/api/v1/login", "/api/v1/logout", "/sign-in", "/sign-out":
		return entry
	}
	if strings.HasPrefix(path, "/api/v1/nodes") {
		return entry
	}
	return ordinary
}

func urgencyOf(r *http.Request) urgency {
	path, post := r.URL.Path, r.Method == http.MethodPost
	if u := vital(path); u != ordinary {
		return u
	}
	switch {
	case strings.HasSuffix(path, "/events"), strings.HasSuffix(path, "/progress"):
		return stream
	case post && (path == "/api/v1/ask" || path == "/ask"), post && strings.HasPrefix(path, "/v1/"):
		return work
	case r.Method == http.MethodPut && strings.HasPrefix(path, "/api/v1/uploads/"),
		post && (path == "/api/v1/models" || path == "/models/import" || strings.HasSuffix(path, "/audit/export") || strings.HasPrefix(path, "/api/v1/backups")):
		return bulk
	}
	return ordinary
}
