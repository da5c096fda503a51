// Package browser walks the pages in a real Chromium: each page in both themes
// and at two widths without an accessibility violation, a policy violation or a
// request to another origin, and the whole way through by keyboard alone.
package browser

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/cloister-os/cloister/ui"
	"github.com/cloister-os/cloister/ui/uitest"
)

// chromium is Debian's Chromium without the windows around the pages, which cost more
// than the pages do.
const chromium = "/usr/bin/chromium-headless-shell"

// site is a running set of pages.
type site struct {
	url  string
	spki string // base64 SHA-256 of the certificate's key
}

// serve starts the pages over a world with TLS.
func serve(t testing.TB, w *uitest.World) site {
	t.Helper()
	h, err := ui.New(w.Config())
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	sum := sha256.Sum256(s.Certificate().RawSubjectPublicKeyInfo)
	at, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return site{url: "https://localhost:" + at.Port(), spki: base64.StdEncoding.EncodeToString(sum[:])}
}

// chromiumBrowser is one Chromium with nothing in it.
type chromiumBrowser struct{ ctx context.Context }

// started is a browser with what ends it.
type started struct {
	browser chromiumBrowser
	stop    func()
}

// one is the browser of all tests whose site is served by httptest, which has one
// certificate: a start costs seconds, a tab of its own profile does not. The first
// test starts it, TestMain ends it.
type one struct {
	mu sync.Mutex
	started
	err error
}

var shared one

// TestMain ends the shared browser after the tests.
func TestMain(m *testing.M) {
	code := m.Run()
	if shared.stop != nil {
		shared.stop()
	}
	os.Exit(code)
}

// tab opens a tab of the shared browser that shares no cookie with others.
func tab(t testing.TB, s site) *chrome {
	t.Helper()
	haveChromium(t)
	shared.mu.Lock()
	if shared.stop == nil && shared.err == nil {
		shared.started, shared.err = begin(s.spki)
	}
	b, err := shared.browser, shared.err
	shared.mu.Unlock()
	if err != nil {
		t.Fatalf("start chromium: %v", err)
	}
	return b.tab(t, s)
}

func haveChromium(t testing.TB) {
	t.Helper()
	if _, err := os.Stat(chromium); err != nil {
		t.Skipf("there is no %s: install the package chromium-headless-shell to run the browser tests", chromium)
	}
}

// launch starts a browser of its own that trusts a site's certificate, or skips
// where there is no browser.
func launch(t testing.TB, spki string) chromiumBrowser {
	t.Helper()
	haveChromium(t)
	s, err := begin(spki)
	if err != nil {
		t.Fatalf("start chromium: %v", err)
	}
	t.Cleanup(s.stop)
	return s.browser
}

func begin(spki string) (started, error) {
	dir, err := os.MkdirTemp("", "cloister-chromium")
	if err != nil {
		return started{}, err
	}
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(chromium), chromedp.UserDataDir(dir),
		chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck, chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("disable-default-apps", true), chromedp.Flag("disable-extensions", true),
		chromedp.Flag("disable-features", "Translate,OptimizationHints,MediaRouter"), chromedp.Flag("hide-scrollbars", true),
		chromedp.Flag("ignore-certificate-errors-spki-list", spki), chromedp.Flag("force-color-profile", "srgb"),
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("password-store", "basic"), chromedp.Flag("lang", "en-GB"),
		chromedp.WSURLReadTimeout(60 * time.Second),
	}
	alloc, stop := chromedp.NewExecAllocator(context.Background(), options...)
	quiet := func(string, ...any) {} // the protocol's newer values are not errors of ours
	ctx, cancel := chromedp.NewContext(alloc, chromedp.WithErrorf(quiet), chromedp.WithLogf(quiet))
	end := func() {
		_ = chromedp.Cancel(ctx) // waits for the browser to end
		cancel()
		stop()
		_ = os.RemoveAll(dir) // a late child may still write; the folder is temporary
	}
	if err := chromedp.Run(ctx); err != nil { // a deadline here would be the browser's own
		end()
		return started{}, err
	}
	return started{chromiumBrowser{ctx}, end}, nil
}

// chrome is one tab of its own profile. It collects what must not happen.
type chrome struct {
	ctx  context.Context
	site site

	mu      sync.Mutex
	foreign []string // requests to other origins
	broken  []string // exceptions in scripts
}

// tab opens a tab that shares no cookie with others.
func (b chromiumBrowser) tab(t testing.TB, s site) *chrome {
	t.Helper()
	ctx, cancel := chromedp.NewContext(b.ctx, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	if err := chromedp.Run(ctx); err != nil {
		t.Fatalf("open a tab: %v", err)
	}
	c := &chrome{ctx: ctx, site: s}
	chromedp.ListenTarget(ctx, c.listen)
	// A tab in the background takes keys like the one in front.
	c.run(t, network.Enable(), emulation.SetFocusEmulationEnabled(true), chromedp.ActionFunc(func(ctx context.Context) error {
		_, err := page.AddScriptToEvaluateOnNewDocument(watchCSP).Do(ctx)
		return err
	}))
	return c
}

// watchCSP notes each violation of the content security policy.
const watchCSP = `window.cspViolations = [];
document.addEventListener("securitypolicyviolation", (e) => window.cspViolations.push(e.violatedDirective + " " + e.blockedURI + " " + e.sample));`

func (c *chrome) listen(ev any) {
	if e, ok := ev.(*network.EventRequestWillBeSent); ok {
		u := e.Request.URL
		if !strings.HasPrefix(u, c.site.url+"/") && !strings.HasPrefix(u, "data:") && u != "about:blank" {
			c.mu.Lock()
			c.foreign = append(c.foreign, u)
			c.mu.Unlock()
		}
	}
	if e, ok := ev.(*runtime.EventExceptionThrown); ok {
		c.mu.Lock()
		c.broken = append(c.broken, e.ExceptionDetails.Error())
		c.mu.Unlock()
	}
}

// run does the actions, or fails the test after a minute and a half.
func (c *chrome) run(t testing.TB, actions ...chromedp.Action) {
	t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, 90*time.Second)
	defer cancel()
	if err := chromedp.Run(ctx, actions...); err != nil {
		var at string
		_ = chromedp.Run(c.ctx, chromedp.Location(&at))
		t.Fatalf("at %s: %v", at, err)
	}
}

// signIn gives the browser a session of the world's person.
func (c *chrome) signIn(t testing.TB, w *uitest.World) {
	t.Helper()
	c.run(t, network.SetCookie("__Host-cloister", w.Token()).WithURL(c.site.url+"/").WithPath("/").WithSecure(true).WithHTTPOnly(true).WithSameSite(network.CookieSameSiteLax))
}

// look is how a page is looked at.
type look struct {
	theme string // "light" or "dark"
	width int64
}

var looks = []look{{"light", 1280}, {"dark", 1280}, {"light", 320}, {"dark", 320}}

func (l look) String() string { return fmt.Sprintf("%s-%d", l.theme, l.width) }

func (c *chrome) set(t testing.TB, l look) {
	t.Helper()
	c.run(t,
		emulation.SetDeviceMetricsOverride(l.width, 800, 1, l.width < 600),
		emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: l.theme}, {Name: "prefers-reduced-motion", Value: "reduce"},
		}),
	)
}

// check looks at the page that stands: axe, policy, origin, overflow; and keeps
// a picture of it.
func (c *chrome) check(t *testing.T, name string, l look) {
	t.Helper()
	c.picture(t, name+"-"+l.String())
	var csp []string
	var wide string
	c.run(t, chromedp.Evaluate(`window.cspViolations`, &csp), chromedp.Evaluate(tooWide, &wide))
	for _, v := range csp {
		t.Errorf("%s: policy violation: %s", name, v)
	}
	if wide != "" {
		t.Errorf("%s: wider than the screen: %s", name, wide)
	}
	for _, v := range c.axe(t, l) {
		t.Errorf("%s: %s", name, v)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, u := range c.foreign {
		t.Errorf("%s: a request left for %s", name, u)
	}
	for _, b := range c.broken {
		t.Errorf("%s: a script failed: %s", name, b)
	}
	c.foreign, c.broken = nil, nil
}

// tooWide names the first element that makes the page scroll sideways.
const tooWide = `(() => {
	const w = document.documentElement.clientWidth;
	if (document.documentElement.scrollWidth <= w) return "";
	for (const e of document.querySelectorAll("main *")) {
		if (e.getBoundingClientRect().right > w + 1 && !e.closest(".scroll")) return e.tagName + "." + e.className + " " + e.textContent.slice(0, 40);
	}
	return "something";
})()`

// picture writes a screenshot of the whole page to build/screenshots.
func (c *chrome) picture(t testing.TB, name string) {
	t.Helper()
	var png []byte
	c.run(t, chromedp.ActionFunc(func(ctx context.Context) (err error) {
		_, _, _, _, _, size, err := page.GetLayoutMetrics().Do(ctx)
		if err != nil {
			return err
		}
		clip := &page.Viewport{Width: size.Width, Height: min(size.Height, 4000), Scale: 1}
		png, err = page.CaptureScreenshot().WithCaptureBeyondViewport(true).WithOptimizeForSpeed(true).WithClip(clip).Do(ctx)
		return err
	}))
	dir := filepath.Join("..", "..", "build", "screenshots")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
		t.Fatal(err)
	}
}

// at opens an address of the site and fails on an answer that was not wanted.
func (c *chrome) at(t testing.TB, path string, want int64) {
	t.Helper()
	if strings.Contains(path, "#") {
		c.load(t, "about:blank") // a fragment of the page that is open would load nothing
	}
	c.load(t, c.site.url+path)
	var status int64
	c.run(t, chromedp.Evaluate(`performance.getEntriesByType("navigation")[0].responseStatus`, &status))
	if status != want {
		t.Fatalf("open %s: %d %s, not %d", path, status, http.StatusText(int(status)), want)
	}
}

// load leaves the page and returns once another is there. It asks the page itself:
// what Chromium tells beside may come in an order in which chromedp finds no answer
// to its request.
func (c *chrome) load(t testing.TB, address string) {
	t.Helper()
	c.run(t, chromedp.Evaluate(`void (window.left = true)`, nil), chromedp.ActionFunc(func(ctx context.Context) error {
		_, _, failed, err := page.Navigate(address).Do(ctx)
		if failed != "" {
			return fmt.Errorf("open %s: %s", address, failed)
		}
		return err
	}))
	if !c.until(`!window.left && document.readyState === "complete"`) {
		t.Fatalf("%s never comes", address)
	}
}
