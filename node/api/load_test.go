package api

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A flood of one class takes its own slots: no more are served at once than it
// has, the rest hears when to come again, and the other classes, sign-in and
// health above all, do not notice.
func TestAFloodTakesNothingFromTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLoad()
		goOn := make(chan struct{})
		var at, most, served, refused atomic.Int64
		h := l.Shed(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Flood") != "" {
				most.Store(max(most.Load(), at.Add(1)))
				<-goOn
				at.Add(-1)
				served.Add(1)
			}
		}))
		const flood = 5000
		var sent sync.WaitGroup
		for range flood {
			sent.Go(func() {
				r := httptest.NewRequest(http.MethodGet, "https://c/api/v1/runs", nil)
				r.Header.Set("Flood", "yes")
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				if w.Code == http.StatusServiceUnavailable && w.Header().Get("Retry-After") != "" {
					refused.Add(1)
				}
			})
		}
		synctest.Wait()
		for method, paths := range map[string][]string{
			http.MethodGet:  {"/healthz", "/readyz", "/api/v1/status", "/metrics", "/api/v1/runs/x/events"},
			http.MethodPost: {"/api/v1/login", "/sign-in", "/api/v1/ask", "/v1/chat/completions", "/api/v1/models"},
		} {
			for _, path := range paths {
				w := httptest.NewRecorder()
				began := time.Now()
				h.ServeHTTP(w, httptest.NewRequest(method, "https://c"+path, nil))
				if w.Code != http.StatusOK || time.Since(began) > 0 {
					t.Errorf("during the flood %s %s is answered with %d after %v", method, path, w.Code, time.Since(began))
				}
			}
		}
		time.Sleep(2 * time.Second) // who waited gave up
		close(goOn)
		sent.Wait()
		slots := int64(cap(l.classes[ordinary].slots))
		if most.Load() != slots || served.Load() != slots || refused.Load() != flood-slots {
			t.Errorf("%d were served, %d at once, and %d refused, with %d slots", served.Load(), most.Load(), refused.Load(), slots)
		}
	})
}

// Who sends a body slowly keeps no slot while it arrives.
func TestASlowBodyTakesNoSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLoad()
		var read atomic.Int64
		h := l.Shed(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			b, err := io.ReadAll(r.Body)
			must(t, err)
			read.Add(int64(len(b)))
		}))
		goOn := make(chan struct{})
		var sent sync.WaitGroup
		for range 1000 {
			sent.Go(func() {
				r := httptest.NewRequest(http.MethodPost, "https://c/api/v1/login", &slowBody{goOn: goOn})
				r.ContentLength = 2
				h.ServeHTTP(httptest.NewRecorder(), r)
			})
		}
		synctest.Wait()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "https://c/api/v1/login", strings.NewReader("{}")))
		if w.Code != http.StatusOK {
			t.Errorf("beside slow senders a sign-in is answered with %d", w.Code)
		}
		close(goOn)
		sent.Wait()
		if got := read.Load(); got%2 != 0 || got < 2*int64(cap(l.classes[entry].slots)) { // all came at once in the end
			t.Errorf("%d bytes arrived", got)
		}
	})
}

// slowBody is two bytes, the second of which is long in coming.
type slowBody struct {
	goOn chan struct{}
	n    int
}

func (s *slowBody) Read(b []byte) (int, error) {
	switch s.n++; s.n {
	case 1:
		b[0] = '{'
		return 1, nil
	case 2:
		<-s.goOn
		b[0] = '}'
		return 1, nil
	}
	return 0, io.EOF
}
