package client

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"encoding/pem"
)

func node(t *testing.T, h http.HandlerFunc) Profile {
	t.Helper()
	s := httptest.NewTLSServer(h)
	t.Cleanup(s.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	return Profile{URL: s.URL, CA: string(ca), Token: "t"}
}

func TestAProblemBecomesItsSentence(t *testing.T) {
	p := node(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer t" {
			t.Errorf("authorization %q", r.Header.Get("Authorization"))
		}
		w.WriteHeader(http.StatusForbidden)
		io.WriteString(w, `{"title":"Not permitted.","status":403,"detail":"Ask is not permitted (policy x).","policy":"x"}`)
	})
	c, err := New(p)
	if err != nil {
		t.Fatal(err)
	}
	err = c.Do(t.Context(), http.MethodGet, "/api/v1/status", nil, nil)
	if err == nil || err.Error() != "Ask is not permitted (policy x)." {
		t.Errorf("error %v", err)
	}
}

func TestEventsAreReadOneByOne(t *testing.T) {
	p := node(t, func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, ":\n\nid: 1\nevent: a\ndata: {\"x\":1}\n\n:\n\nevent: b\ndata: 2\n\nevent: error\ndata: {\"title\":\"Too busy.\",\"status\":503}\n\n")
	})
	c, err := New(p)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	err = c.Stream(t.Context(), http.MethodPost, "/x", nil, func(kind string, data []byte) error {
		got = append(got, kind+"="+string(data))
		return nil
	})
	if strings.Join(got, " ") != `a={"x":1} b=2` || err == nil || err.Error() != "Too busy." {
		t.Errorf("events %v, error %v", got, err)
	}
}

func TestOnlyTheProfilesAuthorityIsTrusted(t *testing.T) {
	p := node(t, func(http.ResponseWriter, *http.Request) { t.Error("a request came through") })
	other := node(t, func(http.ResponseWriter, *http.Request) {})
	p.CA = ""
	c, err := New(p)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Do(t.Context(), http.MethodGet, "/", nil, nil); err == nil || !strings.Contains(err.Error(), "--ca") {
		t.Errorf("error %v", err)
	}
	p.URL = strings.Replace(other.URL, "https", "http", 1)
	if _, err := New(p); err == nil {
		t.Error("a plain address was accepted")
	}
}

func TestTheProfileIsItsOwnersAlone(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", dir)
	for _, v := range []string{"CLOISTER_URL", "CLOISTER_CA", "CLOISTER_TOKEN"} {
		t.Setenv(v, "")
	}
	if _, err := Load(); !errors.Is(err, ErrNoProfile) {
		t.Errorf("without a profile: %v", err)
	}
	want := Profile{URL: "https://a:1", CA: "pem", User: "ada", Token: "secret"}
	if err := want.Save(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "cloister", "profile.json")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if got, err := Load(); err != nil || got != want {
		t.Errorf("loaded %+v, %v", got, err)
	}
	t.Setenv("CLOISTER_URL", "https://b:2")
	if got, err := Load(); err != nil || got.Token != "" || got.URL != "https://b:2" {
		t.Errorf("the token would go to another address: %+v, %v", got, err)
	}
	t.Setenv("CLOISTER_URL", "")
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a profile that others may read: %v", err)
	}
}
