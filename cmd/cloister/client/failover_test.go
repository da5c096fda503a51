package client

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// several is a profile for several nodes of one installation, each with a handler
// of its own; they share a certificate, as httptest's servers do.
func several(t *testing.T, handlers ...http.HandlerFunc) (Profile, []*httptest.Server) {
	t.Helper()
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	var p Profile
	var servers []*httptest.Server
	var urls []string
	for _, h := range handlers {
		s := httptest.NewTLSServer(h)
		t.Cleanup(s.Close)
		servers, urls = append(servers, s), append(urls, s.URL)
		p = node(t, h) // for its authority
	}
	p.URL = strings.Join(urls, ",")
	return p, servers
}

func dial(t *testing.T, p Profile) *Client {
	t.Helper()
	c, err := New(p)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// once is a node that remembers idempotency keys, shared by several fronts.
type once struct {
	mu   sync.Mutex
	keys map[string]int
}

func (o *once) apply(r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.keys[r.URL.Path+" "+r.Header.Get("Idempotency-Key")]++
}

func busy(kind string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "0")
		if kind != "" {
			w.Header().Set("Retry-After", "1")
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		if kind != "" {
			fmt.Fprintf(w, `{"type":%q,"title":"Not now.","status":503}`, kind)
		}
	}
}

func TestAnotherNodeAnswersForOneThatIsDown(t *testing.T) {
	ok := func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{}`) }
	p, servers := several(t, ok, busy("urn:cloister:busy"), ok)
	servers[0].Close()
	c := dial(t, p)
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		// A model's import is no request to repeat, and it was not carried out.
		if err := c.Do(t.Context(), method, "/api/v1/models", nil, nil); err != nil {
			t.Errorf("%s: %v", method, err)
		}
	}
}

// A node dies after it carried a request out and before it answered. What is
// known by its key is sent again with the same key; what is not is not.
func TestWhatMayHaveHappenedIsRepeatedOnlyWithItsKey(t *testing.T) {
	o := &once{keys: map[string]int{}}
	dies := func(_ http.ResponseWriter, r *http.Request) { o.apply(r); panic(http.ErrAbortHandler) }
	lives := func(w http.ResponseWriter, r *http.Request) { o.apply(r); io.WriteString(w, `{}`) }
	gone := func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, `{"title":"There is no such thing.","status":404}`)
	}
	for _, r := range []struct {
		method, path string
		again        bool
	}{
		{http.MethodPost, "/api/v1/ask", true},
		{http.MethodPost, "/api/v1/keys", true},
		{http.MethodPost, "/api/v1/sources", true},
		{http.MethodPut, "/api/v1/policies/x", true},
		{http.MethodPost, "/api/v1/setup", false},
		{http.MethodPost, "/api/v1/models", false},
		{http.MethodPost, "/api/v1/nodes/invite", false},
	} {
		p, _ := several(t, dies, lives)
		clear(o.keys)
		err := dial(t, p).Do(t.Context(), r.method, r.path, nil, nil)
		if (err == nil) != r.again {
			t.Errorf("%s %s: %v", r.method, r.path, err)
		}
		want := 1
		if r.again {
			want = 2
		}
		if len(o.keys) != 1 || o.keys[only(o.keys)] != want || strings.HasSuffix(only(o.keys), " ") == r.again {
			t.Errorf("%s %s: arrived as %v, want one key %d times", r.method, r.path, o.keys, want)
		}
	}
	p, _ := several(t, dies, gone)
	if err := dial(t, p).Do(t.Context(), http.MethodDelete, "/api/v1/keys/x", nil, nil); err != nil {
		t.Errorf("a deletion that had been carried out: %v", err)
	}
	p, _ = several(t, busy("urn:cloister:unknown"), lives)
	clear(o.keys)
	if err := dial(t, p).Do(t.Context(), http.MethodPost, "/api/v1/setup", nil, nil); err == nil || len(o.keys) != 0 {
		t.Errorf("an unknown outcome without a key: %v, then %v", err, o.keys)
	}
	if err := dial(t, p).Do(t.Context(), http.MethodPost, "/api/v1/keys", nil, nil); err != nil || len(o.keys) != 1 {
		t.Errorf("an unknown outcome with a key: %v, then %v", err, o.keys)
	}
}

func only(m map[string]int) (key string) {
	for key = range m {
	}
	return key
}

func TestARefusalIsNotTriedElsewhere(t *testing.T) {
	p, _ := several(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
		io.WriteString(w, `{"title":"Too many attempts.","status":429}`)
	}, func(http.ResponseWriter, *http.Request) { t.Error("it was tried elsewhere") })
	if err := dial(t, p).Do(t.Context(), http.MethodPost, "/api/v1/login", nil, nil); err == nil || err.Error() != "Too many attempts." {
		t.Errorf("error %v", err)
	}
}

// A stream breaks in the middle: it goes on through another node, and no event
// comes twice.
func TestABrokenStreamGoesOnThroughAnotherNode(t *testing.T) {
	var keys sync.Map
	front := func(upTo int, whole bool) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			keys.Store(r.Header.Get("Idempotency-Key"), true)
			from := 0
			fmt.Sscan(r.Header.Get("Last-Event-ID"), &from)
			for n := from + 1; n <= upTo; n++ {
				fmt.Fprintf(w, "id: %d\nevent: e\ndata: %d\n\n", n, n)
			}
			http.NewResponseController(w).Flush()
			if !whole {
				panic(http.ErrAbortHandler)
			}
		}
	}
	p, servers := several(t, front(2, false), front(5, false), front(7, true))
	_ = servers
	var got []string
	err := dial(t, p).Stream(t.Context(), http.MethodPost, "/api/v1/ask", struct{}{}, func(_ string, data []byte) error {
		got = append(got, string(data))
		return nil
	})
	n := 0
	keys.Range(func(any, any) bool { n++; return true })
	if err != nil || strings.Join(got, " ") != "1 2 3 4 5 6 7" || n != 1 {
		t.Errorf("events %v under %d keys, %v", got, n, err)
	}
}

// What one run of the program wrote, the next one sees, through whichever node.
func TestTheNextRunKnowsWhatThisOneWrote(t *testing.T) {
	var wanted []string
	p, _ := several(t, func(w http.ResponseWriter, r *http.Request) {
		wanted = append(wanted, r.Header.Get(versionHeader))
		w.Header().Set(versionHeader, "41")
		io.WriteString(w, `{}`)
	})
	if err := dial(t, p).Do(t.Context(), http.MethodPost, "/api/v1/keys", nil, nil); err != nil {
		t.Fatal(err)
	}
	c := dial(t, p)
	if err := c.Do(t.Context(), http.MethodGet, "/api/v1/keys", nil, nil); err != nil {
		t.Fatal(err)
	}
	other := p
	other.URL = strings.Replace(p.URL, "127.0.0.1", "localhost", 1)
	if m := recall(other); m.seen != 0 {
		t.Errorf("another installation is told version %d", m.seen)
	}
	c.memory.At = time.Now().Add(-2 * memoryAge)
	if strings.Join(wanted, ",") != ",41" {
		t.Errorf("the requests said versions %q", wanted)
	}
}

func TestTheTokenGoesOnlyToTheProfilesServers(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	for _, v := range []string{"CLOISTER_URL", "CLOISTER_CA", "CLOISTER_TOKEN", "CLOISTER_SERVER"} {
		t.Setenv(v, "")
	}
	if err := (Profile{URL: "https://a:1, https://b:2/", CA: "pem", User: "ada", Token: "secret"}).Save(); err != nil {
		t.Fatal(err)
	}
	for list, want := range map[string]string{"": "secret", "https://b:2": "secret", "https://b:2,https://a:1": "secret", "https://b:2,https://c:3": "", "https://c:3": ""} {
		t.Setenv("CLOISTER_SERVER", list)
		if p, err := Load(); err != nil || p.Token != want {
			t.Errorf("%q: token %q, %v", list, p.Token, err)
		}
	}
}
