package api

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/cloister-os/cloister/node/api/wire"
)

// keyed sends a request with an idempotency key.
func (h *house) keyed(t *testing.T, key, method, path string, in any) (int, []byte) {
	t.Helper()
	b, err := json.Marshal(in)
	must(t, err)
	req, err := http.NewRequestWithContext(t.Context(), method, h.url+path, bytes.NewReader(b))
	must(t, err)
	req.Header.Set("Authorization", "Bearer "+h.token)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(OnceHeader, key)
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	defer resp.Body.Close()
	b, err = io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, b
}

// What changes something and is sent again with its key changes it once, and is
// answered as it was the first time.
func TestARequestSentAgainWithItsKeyHappensOnce(t *testing.T) {
	h := open(t)
	const text = `@id("mine") forbid (principal == User::"nobody", action == Action::"ask", resource);`
	for _, r := range []struct {
		name, method, path string
		in                 any
		status             int
	}{
		{"a key", http.MethodPost, "/api/v1/keys", wire.NewKey{Name: "k", Scopes: []string{"ask"}}, http.StatusCreated},
		{"a source", http.MethodPost, "/api/v1/sources", wire.NewSource{Name: "docs", Kind: "files", Path: "/docs"}, http.StatusCreated},
		{"a policy", http.MethodPut, "/api/v1/policies/mine", wire.NewPolicy{Text: text}, http.StatusOK},
		{"a policy's end", http.MethodDelete, "/api/v1/policies/mine", nil, http.StatusNoContent},
		{"a question", http.MethodPost, "/api/v1/ask", wire.Question{Question: "who?"}, http.StatusOK},
	} {
		status, first := h.keyed(t, "once "+r.name, r.method, r.path, r.in)
		if status != r.status {
			t.Fatalf("%s: %d %s", r.name, status, first)
		}
		status, again := h.keyed(t, "once "+r.name, r.method, r.path, r.in)
		if status != r.status || !bytes.Equal(first, again) {
			t.Errorf("%s sent again: %d\n%s\nand not\n%s", r.name, status, again, first)
		}
	}
	var keys []wire.Key
	h.do(t, h.token, http.MethodGet, "/api/v1/keys", nil, http.StatusOK, &keys)
	if len(keys) != 1 {
		t.Errorf("there are %d keys", len(keys))
	}
	if status, b := h.keyed(t, "once a key", http.MethodPost, "/api/v1/keys", wire.NewKey{Name: "other", Scopes: []string{"ask"}}); status != http.StatusUnprocessableEntity || !strings.Contains(string(b), "idempotency key") {
		t.Errorf("another request with the same key: %d %s", status, b)
	}
	if status, b := h.keyed(t, "another", http.MethodPost, "/api/v1/sources", wire.NewSource{Name: "docs", Kind: "files", Path: "/docs"}); status != http.StatusConflict {
		t.Errorf("the same source with another key: %d %s", status, b)
	}
}

// A question whose stream broke is asked again with its key, and told from where
// it broke.
func TestAQuestionsEventsGoOnWhereTheyBroke(t *testing.T) {
	h := open(t)
	ask := func(last string) string {
		b, err := json.Marshal(wire.Question{Question: "who?"})
		must(t, err)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.url+"/api/v1/ask", bytes.NewReader(b))
		must(t, err)
		for name, value := range map[string]string{
			"Authorization": "Bearer " + h.token, "Content-Type": "application/json", "Accept": "text/event-stream", OnceHeader: "q", "Last-Event-ID": last,
		} {
			if value != "" {
				req.Header.Set(name, value)
			}
		}
		resp, err := http.DefaultClient.Do(req)
		must(t, err)
		defer resp.Body.Close()
		b, err = io.ReadAll(resp.Body)
		must(t, err)
		return string(b)
	}
	whole := ask("")
	i := strings.Index(whole, "id: 2\n")
	if i < 0 || strings.Count(whole, "event: final") != 1 {
		t.Fatalf("the stream is\n%s", whole)
	}
	if rest := ask("1"); rest != whole[i:] {
		t.Errorf("after event 1 comes\n%s\nand not\n%s", rest, whole[i:])
	}
}
