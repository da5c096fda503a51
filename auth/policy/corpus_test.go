package policy

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/schema"
	exptypes "github.com/cedar-policy/cedar-go/x/exp/types"
)

// corpusTest is one file of Cedar's own corpus, which the module of cedar-go
// carries.
type corpusTest struct {
	Schema   string `json:"schema"`
	Policies string `json:"policies"`
	Entities string `json:"entities"`
	Requests []struct {
		Desc      string           `json:"description"`
		Principal cedar.EntityUID  `json:"principal"`
		Action    cedar.EntityUID  `json:"action"`
		Resource  cedar.EntityUID  `json:"resource"`
		Context   cedar.Record     `json:"context"`
		Decision  cedar.Decision   `json:"decision"`
		Reasons   []cedar.PolicyID `json:"reason"`
		Errors    []cedar.PolicyID `json:"errors"`
	} `json:"requests"`
}

// corpus reads the archive into memory.
func corpus(t *testing.T) map[string][]byte {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/cedar-policy/cedar-go").Output()
	if err != nil {
		t.Fatalf("find the module of cedar-go: %v", err)
	}
	f, err := os.Open(filepath.Join(strings.TrimSpace(string(dir)), "corpus-tests.tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	zip, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for archive := tar.NewReader(zip); ; {
		h, err := archive.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[h.Name], err = io.ReadAll(archive); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTheIndexDecidesLikeThePlainAuthorizer runs Cedar's corpus through the
// index: decision, reasons and errors must be the corpus's and the plain
// authorizer's. Every fifth file is taken; CEDAR_CORPUS=all takes them all.
func TestTheIndexDecidesLikeThePlainAuthorizer(t *testing.T) {
	files := corpus(t)
	var tests []string
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if strings.HasSuffix(name, ".json") && !strings.HasSuffix(name, ".entities.json") {
			tests = append(tests, name)
		}
	}
	if len(tests) < 7000 {
		t.Fatalf("the corpus has only %d files", len(tests))
	}
	step := 5
	if os.Getenv("CEDAR_CORPUS") == "all" {
		step = 1
	}
	var decided tally
	for i := 0; i < len(tests); i += step {
		decided.run(t, files, tests[i])
	}
	t.Logf("%d requests of %d files: %d allowed, %d with errors; the index evaluated %d of %d policies",
		decided.requests, (len(tests)+step-1)/step, decided.allowed, decided.failed, decided.evaluated, decided.policies)
	if decided.allowed == 0 || decided.failed == 0 || decided.evaluated == decided.policies {
		t.Error("the corpus shows nothing")
	}
}

type tally struct{ requests, allowed, failed, evaluated, policies int }

func (n *tally) run(t *testing.T, files map[string][]byte, name string) {
	t.Helper()
	var test corpusTest
	if err := json.Unmarshal(files[name], &test); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	set, err := cedar.NewPolicySetFromBytes("policy.cedar", files[test.Policies])
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	entities := corpusEntities(t, files[test.Schema], files[test.Entities])
	x := newIndex(set.All())
	for _, r := range test.Requests {
		req := cedar.Request{Principal: r.Principal, Action: r.Action, Resource: r.Resource, Context: r.Context}
		got := asVerdict(x.authorize(entities, req))
		plain := asVerdict(cedar.Authorize(set, entities, req))
		want := verdict{r.Decision, sortedIDs(r.Reasons), sortedIDs(r.Errors)}
		if !got.equal(plain) || !got.equal(want) {
			t.Errorf("%s, %s: the index says %+v, the plain authorizer %+v, the corpus %+v", name, r.Desc, got, plain, want)
		}
		n.requests++
		n.policies += len(slices.Collect(maps.Keys(maps.Collect(set.All()))))
		n.evaluated += len(x.candidates(entities, req))
		if got.decision == cedar.Allow {
			n.allowed++
		}
		if len(got.errors) > 0 {
			n.failed++
		}
	}
}

func corpusEntities(t *testing.T, schemaText, entitiesJSON []byte) types.EntityMap {
	t.Helper()
	var s schema.Schema
	if err := s.UnmarshalCedar(schemaText); err != nil {
		t.Fatal(err)
	}
	resolved, err := s.Resolve()
	if err != nil {
		t.Fatal(err)
	}
	var entities exptypes.EntityMap
	if err := entities.UnmarshalJSONWithSchema(bytes.Clone(entitiesJSON), resolved); err != nil {
		t.Fatal(err)
	}
	return types.EntityMap(entities)
}

type verdict struct {
	decision cedar.Decision
	reasons  []cedar.PolicyID
	errors   []cedar.PolicyID
}

func asVerdict(d cedar.Decision, diag cedar.Diagnostic) verdict {
	v := verdict{decision: d}
	for _, r := range diag.Reasons {
		v.reasons = append(v.reasons, r.PolicyID)
	}
	for _, e := range diag.Errors {
		v.errors = append(v.errors, e.PolicyID)
	}
	v.reasons, v.errors = sortedIDs(v.reasons), sortedIDs(v.errors)
	return v
}

func (v verdict) equal(o verdict) bool {
	return v.decision == o.decision && slices.Equal(v.reasons, o.reasons) && slices.Equal(v.errors, o.errors)
}

func sortedIDs(ids []cedar.PolicyID) []cedar.PolicyID { return slices.Sorted(slices.Values(ids)) }
