package browser

import (
	"archive/zip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// axe-core 4.12.1, as the wheel of this version carries it. It is fetched from
// the package index once, checked against its hash and kept under build/axe.
const (
	axeWheel = "axe-playwright-python==0.1.8"
	axeHash  = "sha256:fdd263c998388f1a8e67cad02677e612d946248bd44d163be5e8650ea31f95f8"
	axeFile  = "axe_playwright_python/axe.min.js"
)

var axeScript = sync.OnceValues(func() (string, error) {
	dir, err := filepath.Abs(filepath.Join("..", "..", "build", "axe"))
	if err != nil {
		return "", err
	}
	kept := filepath.Join(dir, "axe.min.js")
	if b, err := os.ReadFile(kept); err == nil {
		return string(b), nil
	}
	tmp, err := os.MkdirTemp("", "axe")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	list := filepath.Join(tmp, "requirements.txt")
	if err := os.WriteFile(list, []byte(axeWheel+" --hash="+axeHash+"\n"), 0o600); err != nil {
		return "", err
	}
	out, err := exec.Command("python3", "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:", "--require-hashes", "-d", tmp, "-r", list).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("fetch %s: %w: %s", axeWheel, err, out)
	}
	wheels, err := filepath.Glob(filepath.Join(tmp, "*.whl"))
	if err != nil || len(wheels) != 1 {
		return "", fmt.Errorf("fetch %s: found %v (%v)", axeWheel, wheels, err)
	}
	b, err := fromZip(wheels[0], axeFile)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	return string(b), os.WriteFile(kept, b, 0o644)
})

func fromZip(archive, name string) ([]byte, error) {
	z, err := zip.OpenReader(archive)
	if err != nil {
		return nil, err
	}
	defer z.Close()
	f, err := z.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 4<<20))
}

// The rules of WCAG 2.2 A and AA and the best practices; and those of them that
// look at colours, which is all that the dark theme changes of a page.
const (
	allRules    = `["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]`
	colourRules = `["color-contrast", "link-in-text-block"]`
)

// axeRun runs rules on the page.
const axeRun = `axe.run(document, {runOnly: %s, resultTypes: ["violations"]})
	.then((r) => JSON.stringify(r.violations.map((v) => v.id + " (" + v.impact + "): " + v.nodes.map((n) => n.target.join(" ") + " " + (n.any[0]?.message ?? n.all[0]?.message ?? n.none[0]?.message ?? "")).join("; "))))`

// axe lists what violates the accessibility rules. It is injected through the
// debugging protocol, so the page's policy stays as it is.
func (c *chrome) axe(t testing.TB, l look) []string {
	t.Helper()
	script, err := axeScript()
	if err != nil {
		t.Skipf("axe is not here and could not be fetched: %v", err)
	}
	var found string
	rules := allRules
	if l.theme == "dark" {
		rules = colourRules
	}
	c.run(t, chromedp.ActionFunc(func(ctx context.Context) error {
		_, exception, err := runtime.Evaluate(script).Do(ctx)
		if err == nil && exception != nil {
			err = exception
		}
		return err
	}), chromedp.Evaluate(fmt.Sprintf(axeRun, rules), &found, func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }))
	var list []string
	if err := json.Unmarshal([]byte(found), &list); err != nil {
		t.Fatal(err)
	}
	return list
}
