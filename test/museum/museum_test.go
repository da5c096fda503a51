package museum

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"testing"
)

// TestEveryExhibitIsGuarded: the test that each exhibit names is there.
func TestEveryExhibitIsGuarded(t *testing.T) {
	for _, e := range Exhibits() {
		if e.Fault == "" || e.FoundBy == "" {
			t.Errorf("%s: an exhibit says what went wrong and who found it", e.Test)
		}
		if !hasTest(t, filepath.Join("..", "..", e.Package), e.Test) {
			t.Errorf("%s has no %s, which keeps away: %s", e.Package, e.Test, e.Fault)
		}
	}
	if hasTest(t, ".", "TestThatIsNotThere") {
		t.Error("any name is found, so finding one proves nothing")
	}
}

func hasTest(t *testing.T, dir, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		file, err := parser.ParseFile(token.NewFileSet(), f, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == name {
				return true
			}
		}
	}
	return false
}
