package browser

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/cloister-os/cloister/ui/uitest"
)

// submit sends the form of a field and waits for the page that answers.
func submit(field string) chromedp.Action {
	return chromedp.ActionFunc(func(ctx context.Context) error {
		_, err := chromedp.RunResponse(ctx, chromedp.Evaluate(fmt.Sprintf(`document.querySelector(%q).form.requestSubmit()`, field), nil))
		return err
	})
}

// TestWholeWalkByKeyboard goes from the setup code to the evidence without a
// pointer, and without ever setting focus but by keys.
func TestWholeWalkByKeyboard(t *testing.T) {
	t.Parallel()
	w := uitest.Empty()
	s := serve(t, w)
	c := tab(t, s)
	files := c.keepFiles(t)
	c.set(t, look{"light", 1280})

	c.at(t, "/", 200) // leads to setup; its first field has the focus
	c.typeInto(t, "code", uitest.Code)
	c.typeInto(t, "user", uitest.User)
	c.typeInto(t, "password", uitest.Password)
	c.typeInto(t, "repeat", uitest.Password)
	c.enter(t, "/")

	c.tabTo(t, "Sign out")
	c.enter(t, "/sign-in?bye")
	c.typeInto(t, "user", uitest.User)
	c.typeInto(t, "password", uitest.Password)
	c.enter(t, "/")

	c.tabTo(t, "Add source")
	c.enter(t, "/sources/add")
	c.tabTo(t, "Git repository") // the group's chosen option
	c.press(t, kb.ArrowDown)
	if got := c.focused(t); got != "Folder of documents" {
		t.Fatalf("the arrow key leads to %q", got)
	}
	c.press(t, kb.ArrowUp)
	c.typeInto(t, "path", "/srv/git/payments.git")
	c.typeInto(t, "name", "payments")
	c.enter(t, "/sources/payments")
	c.see(t, "up to date")
	c.see(t, "400") // the stream brought the end of the sync

	c.press(t, "g")
	c.press(t, "a")
	c.arrive(t, "/ask")
	c.typeInto(t, "question", "How long are settlement files kept?")
	c.press(t, kb.Enter)
	c.see(t, "Settlement files are kept for seven years, counted from the value date.")
	c.tabTo(t, "Retention of payment records")
	c.enter(t, "/cite?")
	c.see(t, "The bytes are the ones that were cited")
	if got := c.text(t, "#cited"); got != "Settlement files are kept for seven years, counted from the value date." {
		t.Errorf("the mark holds %q", got)
	}

	c.tabTo(t, "Audit log")
	c.enter(t, "/audit")
	c.tabTo(t, "Export")
	c.enter(t, "/audit/export")
	c.tabTo(t, "Download the bundle")
	c.press(t, kb.Enter)
	if name := filepath.Base(files.wait(t)); name != "cloister-audit.bundle" {
		t.Errorf("the download is called %q", name)
	}
}

// TestSkipLink leads past the navigation with two keys.
func TestSkipLink(t *testing.T) {
	t.Parallel()
	w := uitest.Full()
	s := serve(t, w)
	c := tab(t, s)
	c.signIn(t, w)
	c.at(t, "/sources", 200)
	c.press(t, kb.Tab)
	if got := c.focused(t); got != "Skip to content" {
		t.Fatalf("the first stop is %q", got)
	}
	c.press(t, kb.Enter)
	c.press(t, kb.Tab)
	if got := c.focused(t); got != "Add source" {
		t.Errorf("after the skip link the next stop is %q", got)
	}
}

// TestMenuOnSmallScreens: the navigation opens by key and closes by Escape.
func TestMenuOnSmallScreens(t *testing.T) {
	t.Parallel()
	w := uitest.Full()
	s := serve(t, w)
	c := tab(t, s)
	c.signIn(t, w)
	for _, theme := range []string{"light", "dark"} {
		l := look{theme, 320}
		c.set(t, l)
		c.at(t, "/models", 200)
		c.tabTo(t, "Menu")
		c.press(t, kb.Enter)
		c.tabTo(t, "Sources")
		c.check(t, "menu", l)
		c.press(t, kb.Escape)
		if got := c.focused(t); got != "Menu" {
			t.Errorf("Escape leads to %q", got)
		}
	}
	c.press(t, kb.Enter)
	c.tabTo(t, "Sources")
	c.enter(t, "/sources")
}

// TestShortcutsCanBeTurnedOff: a single key does nothing for who does not want it.
func TestShortcutsCanBeTurnedOff(t *testing.T) {
	t.Parallel()
	w := uitest.Full()
	s := serve(t, w)
	c := tab(t, s)
	c.signIn(t, w)
	c.at(t, "/account", 200)
	c.press(t, "?")
	c.see(t, "Turn single-key shortcuts off under")
	c.press(t, kb.Escape)
	c.tabTo(t, "Single-key shortcuts")
	c.press(t, " ")
	c.tabTo(t, "Save")
	c.enter(t, "/account?saved")
	c.press(t, "g")
	c.press(t, "h")
	c.press(t, "?")
	var open bool
	var at string
	c.run(t, chromedp.Evaluate(`document.getElementById("keys").open`, &open), chromedp.Location(&at))
	if open || !strings.HasSuffix(at, "/account?saved") {
		t.Errorf("shortcuts are off, yet the keys did something (dialog %v, at %s)", open, at)
	}
}

// TestThemeIsKept: the chosen theme beats the system's and survives a page load.
func TestThemeIsKept(t *testing.T) {
	t.Parallel()
	w := uitest.Full()
	s := serve(t, w)
	c := tab(t, s)
	c.signIn(t, w)
	c.set(t, look{"light", 1280})
	c.at(t, "/sources", 200)
	const background = `getComputedStyle(document.documentElement).backgroundColor`
	var before string
	c.run(t, chromedp.Evaluate(background, &before))
	c.tabTo(t, "Dark theme")
	c.press(t, kb.Enter)
	if !c.until(background + fmt.Sprintf(" !== %q", before)) {
		t.Fatal("the choice changed nothing on the page")
	}
	if !c.until(`fetch("/account").then((r) => r.text()).then((s) => window.kept = s.includes('data-theme="dark"')) && window.kept === true`) {
		t.Fatal("the choice is not kept")
	}
	var kept string
	c.at(t, "/sources", 200)
	c.run(t, chromedp.Evaluate(background, &kept))
	if kept == before {
		t.Errorf("after a page load the background is %s again", kept)
	}
}

func (c *chrome) press(t testing.TB, key string) {
	t.Helper()
	c.run(t, chromedp.KeyEvent(key))
}

// focused is the accessible name of what has the focus, or "#id" for a field.
func (c *chrome) focused(t testing.TB) string {
	t.Helper()
	var name string
	c.run(t, chromedp.Evaluate(focusedName, &name))
	return name
}

const focusedName = `(() => {
	const e = document.activeElement;
	if (!e || e === document.body) return "";
	if (e.matches("input[type=radio], input[type=checkbox]")) return e.closest("label").querySelector(".strong").textContent.trim();
	if (e.matches("input, select, textarea")) return "#" + e.id;
	return (e.getAttribute("aria-label") ?? e.innerText ?? "").trim() || e.textContent.trim();
})()`

// tabTo presses Tab until what it wants has the focus.
func (c *chrome) tabTo(t testing.TB, name string) {
	t.Helper()
	var seen []string
	for range 120 {
		at := c.focused(t)
		if at == name {
			return
		}
		seen = append(seen, at)
		c.press(t, kb.Tab)
	}
	t.Fatalf("%q cannot be reached by Tab; the stops were %q", name, seen)
}

// typeInto goes to a field and fills it.
func (c *chrome) typeInto(t testing.TB, id, text string) {
	t.Helper()
	c.tabTo(t, "#"+id)
	c.run(t, chromedp.KeyEvent(text))
}

// enter presses Enter and waits for the address that it leads to.
func (c *chrome) enter(t testing.TB, want string) {
	t.Helper()
	c.press(t, kb.Enter)
	c.arrive(t, want)
}

func (c *chrome) arrive(t testing.TB, want string) {
	t.Helper()
	expr := fmt.Sprintf(`document.readyState === "complete" && (location.pathname + location.search === %q || %q.endsWith("?") && (location.pathname + "?") === %q)`, want, want, want)
	if !c.until(expr) {
		var at string
		c.run(t, chromedp.Location(&at))
		c.picture(t, "lost")
		t.Fatalf("did not come to %s but stayed at %s", want, at)
	}
}

// see waits until the page says something.
func (c *chrome) see(t testing.TB, text string) {
	t.Helper()
	if !c.until(fmt.Sprintf(`document.body.innerText.includes(%q)`, text)) {
		c.picture(t, "unseen")
		t.Fatalf("the page never said %q", text)
	}
}

// until asks the page again and again whether something holds, over page loads
// too, for at most half a minute.
func (c *chrome) until(expr string) bool {
	ctx, cancel := context.WithTimeout(c.ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		var holds bool
		if err := chromedp.Run(ctx, chromedp.Evaluate(expr, &holds)); err == nil && holds {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
}

func (c *chrome) text(t testing.TB, selector string) (s string) {
	t.Helper()
	c.run(t, chromedp.Evaluate(fmt.Sprintf(`document.querySelector(%q).textContent`, selector), &s))
	return s
}

// TestWithoutScript: signing in, asking and reading the answer need no script;
// the page of a run loads itself again until the run has ended.
func TestWithoutScript(t *testing.T) {
	t.Parallel()
	w := uitest.Full()
	s := serve(t, w)
	c := tab(t, s)
	c.set(t, look{"light", 1280})
	c.run(t, emulation.SetScriptExecutionDisabled(true))
	c.at(t, "/sign-in", 200)
	c.typeInto(t, "user", uitest.User)
	c.typeInto(t, "password", uitest.Password)
	c.enter(t, "/")
	c.typeInto(t, "question", "How long are settlement files kept?")
	c.press(t, kb.Enter)
	c.see(t, "Settlement files are kept for seven years, counted from the value date.")
	c.tabTo(t, "Dark theme")
	c.press(t, kb.Enter)
	if !c.until(`document.documentElement.dataset.theme === "dark"`) {
		t.Error("the theme form does nothing without script")
	}
	var shown bool
	c.at(t, "/audit/export", 200)
	c.run(t, chromedp.Evaluate(`[...document.querySelectorAll("[data-copy]")].some((b) => !b.hidden)`, &shown))
	if shown {
		t.Error("a copy button is shown that cannot work")
	}
}
