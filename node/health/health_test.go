package health

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestReadyIsNoWhenAPartIsNot(t *testing.T) {
	broken := false
	h := Ready(Check{"store", func(context.Context) error { return nil }}, Check{"index", func(context.Context) error {
		if broken {
			return errors.New("a secret reason")
		}
		return nil
	}})
	for _, want := range []int{http.StatusOK, http.StatusServiceUnavailable} {
		w := httptest.NewRecorder()
		h(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
		if w.Code != want {
			t.Errorf("status %d, want %d", w.Code, want)
		}
		if strings.Contains(w.Body.String(), "secret") {
			t.Error("the reason was told")
		}
		broken = true
	}
}

func TestNumbersAreBoundedAndWellFormed(t *testing.T) {
	var c Requests
	for _, path := range []string{"/api/v1/runs/abc", "/api/v1/runs/def", "/", "/sources/x", "/v1/models", "/api/v1/keys"} {
		c.Count(path, 200, time.Second)
	}
	var b strings.Builder
	if err := c.Write(&b, Metric{"applied", "Newest version.", "gauge", 7}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"cloister_applied 7\n", `cloister_requests_total{area="/api/v1/runs",status="2xx"} 2`, `cloister_requests_total{area="pages",status="2xx"} 2`,
		`cloister_request_seconds_total{area="/v1",status="2xx"} 1`,
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}
