package api

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/storetest"
)

// Whoever wrote through one node reads it through another that lags: the request
// waits until it has arrived, and not for ever.
func TestWhatWasWrittenThroughOneNodeIsReadThroughAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewModel(nil)
		a, b := storetest.NewFollower(m), storetest.NewFollower(m)
		write := func(w http.ResponseWriter, r *http.Request) {
			tx := store.NewTx()
			tx.Put("S/x", []byte("written"))
			if _, err := a.Apply(r.Context(), tx); err != nil {
				t.Error(err)
			}
		}
		read := func(w http.ResponseWriter, r *http.Request) {
			must(t, b.View(r.Context(), store.Local, func(s store.Snapshot) error {
				item, err := s.Get("S/x")
				_, _ = w.Write(item.Value)
				return err
			}))
		}
		one, other := Versions(a, http.HandlerFunc(write)), Versions(b, http.HandlerFunc(read))
		must2(a.Apply(t.Context(), store.NewTx()))
		b.Hold()
		wrote := httptest.NewRecorder()
		one.ServeHTTP(wrote, httptest.NewRequest(http.MethodPost, "https://c/ask", nil))
		version := wrote.Header().Get(VersionHeader)
		cookies := wrote.Result().Cookies()
		if version != strconv.Itoa(int(m.Applied())) || len(cookies) != 1 || cookies[0].Value != version {
			t.Fatalf("the answer says version %q and cookies %v", version, cookies)
		}
		for name, say := range map[string]func(*http.Request){
			"header": func(r *http.Request) { r.Header.Set(VersionHeader, version) },
			"cookie": func(r *http.Request) { r.AddCookie(cookies[0]) },
		} {
			b.Hold()
			b.Cut()
			r := httptest.NewRequest(http.MethodGet, "https://c/api/v1/x", nil)
			say(r)
			if name == "header" {
				r.Header.Set(VersionHeader, strconv.Itoa(int(m.Applied())+1)) // nobody has written it yet
			} else {
				must2(a.Apply(t.Context(), store.NewTx()))
				cookies[0].Value = strconv.Itoa(int(m.Applied()))
				r.Header.Del("Cookie")
				say(r)
			}
			late := httptest.NewRecorder()
			began := time.Now()
			other.ServeHTTP(late, r)
			if late.Code != http.StatusServiceUnavailable || late.Header().Get("Retry-After") == "" || time.Since(began) != reachWait {
				t.Errorf("%s: a node that does not catch up answers %d after %v", name, late.Code, time.Since(began))
			}
			time.AfterFunc(reachWait/2, func() {
				must2(a.Apply(t.Context(), store.NewTx()))
				b.Join()
			})
			soon := httptest.NewRecorder()
			other.ServeHTTP(soon, r)
			if soon.Code != http.StatusOK || soon.Body.String() != "written" {
				t.Errorf("%s: a node that catches up answers %d %q", name, soon.Code, soon.Body)
			}
		}
	})
}

func must2[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestAVersionThatIsNoneIsRefusedAndHealthNeverWaits(t *testing.T) {
	st := storetest.NewModel(nil)
	h := Versions(st, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for path, want := range map[string]int{"/api/v1/status": http.StatusBadRequest, "/healthz": http.StatusOK} {
		r := httptest.NewRequest(http.MethodGet, "https://c"+path, nil)
		r.Header.Set(VersionHeader, "soon")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%s: status %d, want %d", path, w.Code, want)
		}
	}
}
