package openai_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/budget"
	"github.com/cloister-os/cloister/auth/guard/guardtest"
	"github.com/cloister-os/cloister/models/engine"
	"github.com/cloister-os/cloister/models/engine/child"
	"github.com/cloister-os/cloister/models/engine/enginetest"
	"github.com/cloister-os/cloister/models/gateway"
	"github.com/cloister-os/cloister/models/pack"
	"github.com/cloister-os/cloister/models/registry"
)

// TestMain is also the engine's child and its runners.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "engine":
			os.Exit(child.Main())
		case "runner":
			os.Exit(child.Runner(os.Args[1:]))
		}
	}
	os.Exit(m.Run())
}

// house is the model room with a real guard, a real engine and a server.
type house struct {
	*guardtest.House
	engine  *engine.Engine
	packs   *pack.Service
	gateway *gateway.Gateway
	server  *httptest.Server
	dir     string
}

// keys are the API keys that the server knows.
var keys = map[string]auth.Principal{
	"model-key": guardtest.Key([]string{auth.ScopeModel}),
	"ask-key":   guardtest.KeyFor("a"),
}

func open(t *testing.T) *house {
	t.Helper()
	dir := t.TempDir()
	quiet := slog.New(slog.DiscardHandler)
	guarded := guardtest.Open(t, nil)
	e, err := engine.Start(t.Context(), engine.Config{Dir: filepath.Join(dir, "engine"), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	prices, err := budget.NewPrices(t.Context(), guarded.Store, quiet)
	if err != nil {
		t.Fatal(err)
	}
	g, err := gateway.New(gateway.Config{Guard: guarded.Guard, Engine: e, Registry: registry.New(guarded.Store), Prices: prices, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	packs, err := pack.New(pack.Config{Store: guarded.Store, Guard: guarded.Guard, Engine: e, Temp: filepath.Join(dir, "tmp"), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(g.Handler(authenticate))
	t.Cleanup(server.Close)
	return &house{House: guarded, engine: e, packs: packs, gateway: g, server: server, dir: dir}
}

func authenticate(r *http.Request) (auth.Principal, error) {
	key, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	p, ok := keys[key]
	if !ok {
		return auth.Principal{}, auth.ErrUnauthenticated
	}
	return p, nil
}

// random imports a random model for completions.
func (h *house) random(t *testing.T, shape enginetest.Shape) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "random.gguf")
	if err := enginetest.Write(path, shape); err != nil {
		t.Fatal(err)
	}
	if _, err := h.packs.Import(t.Context(), guardtest.Admin(), pack.Source{Path: path}, pack.Options{}); err != nil {
		t.Fatal(err)
	}
}

// starter imports the starter pack, or skips the test.
func (h *house) starter(t *testing.T) {
	t.Helper()
	path := os.Getenv("CLOISTER_STARTER")
	if path == "" {
		path = filepath.Join("..", "..", "..", "build", "packs", "starter.pack")
	}
	if _, err := os.Stat(path); err != nil {
		t.Skip("the starter pack is not here: make starter, or set CLOISTER_STARTER")
	}
	res, err := h.packs.Import(context.Background(), guardtest.Admin(), pack.Source{Path: path}, pack.Options{AcceptTerms: true})
	if err != nil {
		t.Fatal(err)
	}
	if res.Trust != "built in" {
		t.Errorf("the starter pack is vouched for %q: put its manifest's hash into models/pack/known.go", res.Trust)
	}
}
