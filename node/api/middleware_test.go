package api

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestASlowBodyIsCutAndALongAnswerIsNot(t *testing.T) {
	const wait = 100 * time.Millisecond
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		limitBody(w, r, wait)
		b, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, "slow", http.StatusRequestTimeout)
			return
		}
		select {
		case <-r.Context().Done():
		case <-time.After(4 * wait):
			fmt.Fprintf(w, "%d bytes", len(b))
		}
	}))
	defer server.Close()
	resp, err := http.Post(server.URL, "text/plain", strings.NewReader("quick"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "5 bytes" {
		t.Errorf("a quick body with a long answer: %q, %v", b, err)
	}
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
	slow, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || slow.StatusCode != http.StatusRequestTimeout {
		t.Errorf("a body that does not come: %v, %v", slow, err)
	}
}

func TestAPanicIsAnAnswerAndTellsNothing(t *testing.T) {
	served := 0
	h := Shell(slog.New(slog.DiscardHandler), func(_ string, status int, _ time.Duration) { served = status }, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		panic("secret")
	}))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/x", nil))
	if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "secret") || served != w.Code {
		t.Errorf("status %d (%d), body %s", w.Code, served, w.Body)
	}
	if id := w.Header().Get("X-Request-Id"); id == "" || !strings.Contains(w.Body.String(), id) {
		t.Errorf("request id %q is not in %s", id, w.Body)
	}
}

func TestARequestIDIsTakenOnlyWhenItIsPlain(t *testing.T) {
	h := Shell(slog.New(slog.DiscardHandler), func(string, int, time.Duration) {}, http.NotFoundHandler())
	for given, kept := range map[string]bool{"abcdefgh-1": true, "short": false, "with space and more": false, strings.Repeat("x", 65): false} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("X-Request-Id", given)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if got := w.Header().Get("X-Request-Id"); (got == given) != kept {
			t.Errorf("id %q became %q", given, got)
		}
	}
}
