package laws

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/cloister-os/cloister"

// topLevel is all that may stand at the top of the repository, beside dotfiles.
var topLevel = []string{
	"cmd", "node", "store", "graph", "agents", "models", "auth", "ui", "packaging", "test",
	"go.mod", "go.sum", "Makefile", "README.md", "LICENSE",
}

// layers is the one direction of imports: a room may import rooms of a lower
// layer and its own; rooms of one layer do not know each other, but for node,
// which assembles everything below cmd.
var layers = map[string]int{
	"store": 0, "auth": 1, "graph": 2, "models": 2, "agents": 3, "ui": 4, "node": 5, "packaging": 5, "cmd": 6,
}

// owners says which packages alone may import a library.
var owners = map[string][]string{
	"github.com/dgraph-io/badger/":       {"store"},
	"github.com/go-ldap/ldap":            {"auth/directory"},
	"github.com/hashicorp/raft":          {"store"},
	"github.com/blevesearch/":            {"graph/search"},
	"github.com/ollama/ollama":           {"models/engine"},
	"github.com/cedar-policy/cedar-go":   {"auth/policy"},
	"github.com/go-git/go-git":           {"graph/connect/transport/git"},
	"github.com/spf13/viper":             {"node/config"},
	"github.com/spf13/cobra":             {"cmd/cloister"},
	"github.com/a-h/templ":               {"ui"},
	"github.com/danielgtaylor/huma":      {"node/api"},
	"github.com/yuin/goldmark":           {"graph/extract"},
	"golang.org/x/crypto/argon2":         {"auth/session"},
	"github.com/hanwen/go-fuse":          {"store/storetest"},
	"github.com/chromedp/":               {"test"},
	"github.com/anishathalye/porcupine":  {"store", "test"},
	"github.com/rogpeppe/go-internal":    {"cmd", "test"},
	module + "/store/storetest":          {},
	module + "/store/consensus":          {"node", "store", "test"},
	module + "/auth/guard/guardtest":     {},
	module + "/models/engine/enginetest": {},
}

type pkg struct {
	ImportPath   string
	Dir          string
	Doc          string
	GoFiles      []string
	CgoFiles     []string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

func (p pkg) room() string { return strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/") }

// testOnly reports a package that exists for tests alone.
func (p pkg) testOnly() bool {
	r := p.room()
	return strings.HasPrefix(r, "test/") || strings.Contains(r, "storetest") || strings.HasSuffix(r, "test")
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Doc,GoFiles,CgoFiles,Imports,TestImports,XTestImports", module+"/...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var ps []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var p pkg
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		ps = append(ps, p)
	}
	if len(ps) < 20 {
		t.Fatalf("go list found only %d packages: this test would prove nothing", len(ps))
	}
	return ps
}

func TestTopLevelIsFixed(t *testing.T) {
	out, err := exec.Command("git", "-C", "../..", "ls-files", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range strings.Fields(string(out)) {
		top, _, _ := strings.Cut(f, "/")
		if !strings.HasPrefix(top, ".") && !slices.Contains(topLevel, top) {
			t.Errorf("%q is not one of the house's names: find its room in %v", top, topLevel)
		}
	}
}

func TestEveryPackageSaysWhatItPromises(t *testing.T) {
	for _, p := range packages(t) {
		if len(p.GoFiles)+len(p.CgoFiles) > 0 && len(strings.Fields(p.Doc)) < 4 {
			t.Errorf("%s has no package comment that says what it promises", p.ImportPath)
		}
	}
}

func TestImportsRunOneWay(t *testing.T) {
	checked := 0
	for _, p := range packages(t) {
		for _, imp := range p.Imports {
			room, ok := strings.CutPrefix(imp, module+"/")
			if !ok {
				continue
			}
			checked++
			if why := wrongArrow(p, room); why != "" {
				t.Errorf("%s imports %s: %s", p.room(), room, why)
			}
		}
	}
	if checked < 30 {
		t.Fatalf("only %d arrows seen: this test would prove nothing", checked)
	}
}

func wrongArrow(from pkg, to string) string {
	a, _, _ := strings.Cut(from.room(), "/")
	b, _, _ := strings.Cut(to, "/")
	if a == "test" {
		return ""
	}
	if b == "test" {
		return "nothing imports test"
	}
	if a != b && layers[b] >= layers[a] {
		return "imports run store ← auth ← {graph, models} ← agents ← ui ← node ← cmd"
	}
	if strings.HasPrefix(from.room(), "auth/audit/proof") && a == b && to != "auth/audit/proof" {
		return "the verifier's proof stands alone"
	}
	if strings.HasPrefix(from.room(), "cmd/cloister-verify") && to != "auth/audit/proof" {
		return "the verifier imports auth/audit/proof alone"
	}
	return ""
}

func TestLibrariesHaveOneOwner(t *testing.T) {
	for _, p := range packages(t) {
		for _, imp := range p.Imports {
			for lib, rooms := range owners {
				if !strings.HasPrefix(imp, lib) || p.testOnly() {
					continue
				}
				owned := slices.ContainsFunc(rooms, func(r string) bool {
					return p.room() == r || strings.HasPrefix(p.room(), r+"/")
				})
				if !owned {
					t.Errorf("%s imports %s, which only %v may", p.room(), imp, rooms)
				}
			}
		}
	}
}

// TestWhatStandsBehindTheDoorIsOpenedOnlyByTheNode keeps the constructors of
// effects (the engine, the connectors' transports, the file and network
// openers) out of reach of everything but the assembly and their own room.
func TestWhatStandsBehindTheDoorIsOpenedOnlyByTheNode(t *testing.T) {
	doors := map[string][]string{
		"models/engine":           {"models", "node", "cmd/cloister"},
		"graph/connect/transport": {"graph/connect", "node"},
		"auth/seal":               {"auth", "node"},
		"net/smtp":                {},
		"os/exec":                 {"models/engine", "packaging"},
		"plugin":                  {},
	}
	for _, p := range packages(t) {
		if p.testOnly() {
			continue
		}
		for _, imp := range p.Imports {
			for door, rooms := range doors {
				room := strings.TrimPrefix(imp, module+"/")
				if room != door && !strings.HasPrefix(room, door+"/") {
					continue
				}
				if !slices.ContainsFunc(rooms, func(r string) bool { return p.room() == r || strings.HasPrefix(p.room(), r+"/") }) {
					t.Errorf("%s reaches round the guard: it imports %s, which only %v may", p.room(), room, rooms)
				}
			}
		}
	}
}

// TestNothingDialsButThroughTheGuard lists every place outside tests that could
// open a connection; a new one must be argued for here.
func TestNothingDialsButThroughTheGuard(t *testing.T) {
	usedBy(t, []string{"cmd/cloister", "models/engine", "node", "store/consensus", "packaging", "auth/directory"}, "what leaves the node goes through the guard",
		"net.Dial", "http.Get(", "http.Post(", "http.DefaultClient", "http.DefaultTransport", "tls.Dial", "net.Dialer", "http.Client{", "http.Transport{")
}

// TestProcessorsAreCountedInOnePlace: there are more threads than processors, so
// GOMAXPROCS is no bound for work.
func TestProcessorsAreCountedInOnePlace(t *testing.T) {
	usedBy(t, []string{"store/threads"}, "ask threads.Processors", "runtime.GOMAXPROCS")
}

// usedBy fails where other rooms than the allowed ones, and those in them, use a word.
func usedBy(t *testing.T, allowed []string, why string, words ...string) {
	t.Helper()
	for _, p := range packages(t) {
		if p.testOnly() || slices.ContainsFunc(allowed, func(r string) bool { return p.room() == r || strings.HasPrefix(p.room(), r+"/") }) {
			continue
		}
		for _, f := range p.GoFiles {
			b, err := os.ReadFile(filepath.Join(p.Dir, f))
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range words {
				if strings.Contains(string(b), w) {
					t.Errorf("%s/%s uses %s: %s", p.room(), f, w, why)
				}
			}
		}
	}
}
