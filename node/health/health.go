// Package health answers /healthz (the process lives), /readyz (it can work) and
// /metrics (numbers for Prometheus).
//
// It promises: the first two answer without a sign-in, at once, and tell nothing
// but yes or no and which part is not ready; the numbers hold no names of
// people, sources or questions. It may import nothing of Cloister.
package health

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"time"
)

// Check says why a part is not ready, or nil.
type Check struct {
	Name  string
	Ready func(ctx context.Context) error
}

const checkWithin = 2 * time.Second

// Live answers /healthz.
func Live(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]any{"alive": true})
}

// Ready answers /readyz: 200 when every check passes, otherwise 503.
func Ready(checks ...Check) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), checkWithin)
		defer cancel()
		parts, status := map[string]string{}, http.StatusOK
		for _, c := range checks {
			parts[c.Name] = "ready"
			if err := c.Ready(ctx); err != nil {
				parts[c.Name], status = "not ready", http.StatusServiceUnavailable
			}
		}
		answer(w, status, map[string]any{"ready": status == http.StatusOK, "parts": parts})
	}
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // whoever asked may have gone
}

// Metric is one number.
type Metric struct {
	Name  string // without the prefix cloister_
	Help  string
	Type  string // "gauge" or "counter"
	Value float64
}

// Requests counts what a node served. The zero value is ready.
type Requests struct {
	mu    sync.Mutex // guards all below
	count map[string]uint64
	took  map[string]time.Duration
}

// Count adds a request: its route's first two parts and its status class are
// what is told apart, so that the number of series is bounded.
func (c *Requests) Count(path string, status int, took time.Duration) {
	key := fmt.Sprintf(`area=%q,status="%dxx"`, area(path), status/100)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count == nil {
		c.count, c.took = map[string]uint64{}, map[string]time.Duration{}
	}
	c.count[key]++
	c.took[key] += took
}

func area(path string) string {
	for _, a := range []string{"/api/v1/ask", "/api/v1/runs", "/api/v1/sources", "/api/v1/models", "/api/v1/audit", "/api/v1", "/v1"} {
		if path == a || strings.HasPrefix(path, a+"/") {
			return a
		}
	}
	return "pages"
}

// Write writes the numbers as Prometheus reads them (text format 0.0.4).
func (c *Requests) Write(w io.Writer, own ...Metric) error {
	var b strings.Builder
	for _, m := range append(own, process()...) {
		fmt.Fprintf(&b, "# HELP cloister_%s %s\n# TYPE cloister_%s %s\ncloister_%s %g\n", m.Name, m.Help, m.Name, m.Type, m.Name, m.Value)
	}
	c.mu.Lock()
	keys := make([]string, 0, len(c.count))
	for k := range c.count {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	b.WriteString("# HELP cloister_requests_total Requests served.\n# TYPE cloister_requests_total counter\n")
	for _, k := range keys {
		fmt.Fprintf(&b, "cloister_requests_total{%s} %d\n", k, c.count[k])
	}
	b.WriteString("# HELP cloister_request_seconds_total Time spent on requests.\n# TYPE cloister_request_seconds_total counter\n")
	for _, k := range keys {
		fmt.Fprintf(&b, "cloister_request_seconds_total{%s} %g\n", k, c.took[k].Seconds())
	}
	c.mu.Unlock()
	_, err := io.WriteString(w, b.String())
	return err
}

// process reads what the runtime knows.
func process() []Metric {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/sched/goroutines:goroutines"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(samples)
	return []Metric{
		{"memory_bytes", "Memory that the Go runtime holds.", "gauge", float64(samples[0].Value.Uint64())},
		{"goroutines", "Goroutines.", "gauge", float64(samples[1].Value.Uint64())},
		{"heap_live_bytes", "Heap that was live after the last collection.", "gauge", float64(samples[2].Value.Uint64())},
	}
}
