package child

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestAnOldProcessorIsNamed(t *testing.T) {
	const (
		ecx1  = 1<<28 | 1<<12 | 1<<29 | 1<<22
		ebx7  = 1<<5 | 1<<3 | 1<<8
		ecx81 = 1 << 5
		xcr0  = 7
	)
	cases := []struct {
		ecx1, ebx7, ecx81, xcr0 uint32
		lacks                   string
	}{
		{ecx1, ebx7, ecx81, xcr0, ""},
		{^uint32(0), ^uint32(0), ^uint32(0), ^uint32(0), ""},
		{0, 0, 0, 0, "AVX2"},
		{ecx1, ebx7 &^ (1 << 5), ecx81, xcr0, "AVX2"},
		{ecx1, ebx7 &^ (1 << 8), ecx81, xcr0, "BMI2"},
		{ecx1 &^ (1 << 12), ebx7, ecx81, xcr0, "FMA"},
		{ecx1 &^ (1 << 29), ebx7, ecx81, xcr0, "F16C"},
		{ecx1, ebx7, 0, xcr0, "LZCNT"},
		{ecx1, ebx7, ecx81, 3, "AVX support of the kernel"},
	}
	for _, c := range cases {
		if got := lacks(c.ecx1, c.ebx7, c.ecx81, c.xcr0); got != c.lacks {
			t.Errorf("%+v lacks %q", c, got)
		}
	}
}

func TestOnlyWhatTheEngineSendsPasses(t *testing.T) {
	passed := 0
	h := front(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		passed++
		if r.Host != "localhost" {
			t.Errorf("host %q", r.Host)
		}
	}))
	ask := func(method, path string) int {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
		return w.Code
	}
	for _, blocked := range [][2]string{
		{"POST", "/api/pull"}, {"POST", "/api/push"}, {"POST", "/api/copy"}, {"POST", "/api/me"}, {"POST", "/api/signout"},
		{"POST", "/v1/chat/completions"}, {"GET", "/debug/pprof/heap"}, {"GET", "/"}, {"POST", "/api/tags"},
		{"POST", "/api/chat/"}, {"POST", "/api/../api/pull"}, {"POST", "/api/%70ull"}, {"POST", "/api/experimental/aliases"},
	} {
		if code := ask(blocked[0], blocked[1]); code != http.StatusForbidden {
			t.Errorf("%s %s: %d", blocked[0], blocked[1], code)
		}
	}
	if passed != 0 {
		t.Errorf("%d requests passed", passed)
	}
	if ask("POST", "/api/chat"); passed != 1 {
		t.Error("a completion does not pass")
	}
}
