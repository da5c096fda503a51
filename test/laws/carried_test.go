package laws

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestOnlyTheFleetTakesAnotherNodesWord keeps the permits that stand for another
// node's decision to the one place that knows, by the connection, that a member of
// the cluster asks.
func TestOnlyTheFleetTakesAnotherNodesWord(t *testing.T) {
	seen := 0
	for _, p := range packages(t) {
		if p.testOnly() || p.room() == "auth/guard" {
			continue
		}
		for _, f := range p.GoFiles {
			b, err := os.ReadFile(filepath.Join(p.Dir, f))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(b), ".Carried") {
				continue
			}
			seen++
			if place := p.room() + "/" + f; !slices.Contains([]string{"models/fleet/fleet.go", "models/fleet/serve.go", "node/models.go"}, place) {
				t.Errorf("%s makes permits of its own: only models/fleet may, for what another node's guard let through", place)
			}
		}
	}
	if seen == 0 {
		t.Error("nobody uses Carried: this test proves nothing")
	}
}
