package browser

import (
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/ui/uitest"
)

// screen is one page in one state.
type screen struct {
	name, path string
	status     int64
	prepare    func(*uitest.World)
	then       []chromedp.Action // what is done on the page before it is looked at
	out        bool              // looked at without a session
	empty      bool              // in an installation without data
}

func screens() []screen {
	fill := func(fields ...string) []chromedp.Action {
		var do []chromedp.Action
		for i := 0; i+1 < len(fields); i += 2 {
			do = append(do, chromedp.SetValue(fields[i], fields[i+1], chromedp.ByQuery))
		}
		return append(do, submit(fields[0]))
	}
	return []screen{
		{name: "setup", path: "/setup", out: true, empty: true},
		{name: "setup-wrong", path: "/setup", out: true, empty: true, then: fill("#code", "WRONG", "#user", "maria", "#password", uitest.Password, "#repeat", uitest.Password)},
		{name: "sign-in", path: "/sign-in", out: true},
		{name: "sign-in-wrong", path: "/sign-in", out: true, then: fill("#user", "maria", "#password", "wrong")},
		{name: "home", path: "/"},
		{name: "home-empty", path: "/", empty: true},
		{name: "sources", path: "/sources"},
		{name: "sources-empty", path: "/sources", empty: true},
		{name: "source-add", path: "/sources/add"},
		{name: "source-add-wrong", path: "/sources/add", then: fill("#path", "/nowhere", "#name", "ledger")},
		{name: "source", path: "/sources/handbook"},
		{name: "source-syncing", path: "/sources/runbooks"},
		{name: "source-failed", path: "/sources/core-banking-interfaces"},
		{name: "source-remove", path: "/sources/handbook/remove"},
		{name: "access", path: "/access"},
		{name: "access-empty", path: "/access", empty: true},
		{name: "access-group", path: "/access?reader=meridian%2F0e6bd2a5-6d0c-4a3a-9c52-2f7b1d9a5b11"},
		{name: "access-source", path: "/access/handbook"},
		{name: "access-nobody", path: "/access/runbooks"},
		{name: "access-unnamed", path: "/access/core-banking-interfaces"},
		{name: "access-wrong", path: "/access/handbook", then: []chromedp.Action{chromedp.SetValue("#audience", "finance", chromedp.ByQuery), submit("#audience"), chromedp.WaitVisible(".notice.bad", chromedp.ByQuery)}},
		{name: "home-auditor", path: "/", prepare: only(auth.Auditor)},
		{name: "home-operator", path: "/", prepare: only(auth.Operator)},
		{name: "home-user", path: "/", prepare: only(auth.Asker)},
		{name: "home-nobody", path: "/", prepare: only("")},
		{name: "sources-none", path: "/sources", empty: true, prepare: only(auth.Asker)},
		{name: "audit-time", path: "/audit?result=deny&from=2026-11-20T00:00&to=2026-11-30T00:00"},
		{name: "model-remove", path: "/models/gemma3-270m/remove"},
		{name: "key-revoke", path: "/keys/3hq8zk5n0v7w2c9d/revoke"},
		{name: "ask", path: "/ask"},
		{name: "ask-empty", path: "/ask", empty: true},
		{name: "conversation", path: "/ask/01K9QZ3T7M0VXRB4E6WJ2H8NDA"},
		{name: "conversation-rename", path: "/ask/01K9QZ3T7M0VXRB4E6WJ2H8NDA/rename"},
		{name: "conversation-delete", path: "/ask/01K9QZ3T7M0VXRB4E6WJ2H8NDA/delete"},
		{name: "conversation-none", path: "/ask?title=nothing+of+the+kind"},
		{name: "answer", path: "/ask/01K9QYV2C8D1JH5S0K7XWBTN3Q"},
		{name: "answer-closest", path: "/ask/01K9QX0M4S6P2Y9FGTZC1R7DKE"},
		{name: "answer-unknown", path: "/ask/01K9QV7H2W3N8B5JX6Q4A9TMZR"},
		{name: "answer-failed", path: "/ask/01K9QT1Z9E5C7R3VKD0M8XHWPB"},
		{name: "answer-memory", path: "/ask/01K9QZ9R4M5T0V7XB2E8WJ6HND"},
		{name: "answer-kept", path: "/ask/01K9QZ9R4M5T0V7XB2E8WJ6HNC"},
		{name: "answer-beside", path: "/ask/01K9QZ9R4M5T0V7XB2E8WJ6HNB"},
		{name: "answer-forgotten", path: "/ask/01K9Q00000000000000000000A"},
		{name: "memory", path: "/memory"},
		{name: "memory-empty", path: "/memory", empty: true},
		{name: "memory-none", path: "/memory?q=nothing"},
		{name: "memory-wrong", path: "/memory", then: fill("#text", "when do we release?")},
		{name: "memory-why", path: "/memory/m4day2"},
		{name: "memory-edit", path: "/memory/m4day2/edit"},
		{name: "memory-forget", path: "/memory/m4day2/forget"},
		{name: "memory-forget-all", path: "/memory/forget"},
		{name: "cite", path: "/ask/01K9QYV2C8D1JH5S0K7XWBTN3Q", then: []chromedp.Action{chromedp.Click("#cite-1 h3 a", chromedp.ByQuery), chromedp.WaitVisible("#cited", chromedp.ByQuery)}},
		{name: "cite-commit", path: "/ask/01K9QZ3T7M0VXRB4E6WJ2H8NDA", then: []chromedp.Action{chromedp.Click("#cite-1 h3 a", chromedp.ByQuery), chromedp.WaitVisible("#cited", chromedp.ByQuery)}},
		{name: "audit", path: "/audit"},
		{name: "audit-refusals", path: "/audit?kind=refusal"},
		{name: "audit-none", path: "/audit?actor=nobody"},
		{name: "record", path: "/audit/236"},
		{name: "audit-export", path: "/audit/export"},
		{name: "models", path: "/models"},
		{name: "models-empty", path: "/models", empty: true},
		{name: "models-importing", path: "/models", then: fill("#path", "/media/stick/starter.pack")},
		{name: "licence", path: "/models/all-minilm-l6-v2/licence"},
		{name: "licence-terms", path: "/models/gemma3-270m/licence"},
		{name: "keys", path: "/keys"},
		{name: "keys-empty", path: "/keys", empty: true},
		{name: "key-new", path: "/keys/new"},
		{name: "key-made", path: "/keys/new", then: fill("#name", "release-notes-bot")},
		{name: "policies", path: "/policies"},
		{name: "policy", path: "/policies/runbooks-for-operators"},
		{name: "nodes", path: "/nodes"},
		{name: "nodes-alone", path: "/nodes", empty: true},
		{name: "nodes-shut", path: "/nodes", empty: true, prepare: func(w *uitest.World) { w.ShutPeerPort() }},
		{name: "node-invited", path: "/nodes", then: []chromedp.Action{submit("form[action='/nodes/invite'] button"), chromedp.WaitVisible("#command", chromedp.ByQuery)}},
		{name: "node-lead", path: "/nodes/cloister-2/lead"},
		{name: "node-remove", path: "/nodes/cloister-1/remove"},
		{name: "directories", path: "/directories"},
		{name: "directories-empty", path: "/directories", empty: true},
		{name: "directory-add", path: "/directories/add"},
		{name: "directory-add-wrong", path: "/directories/add", then: withCA(fill, "wrong")},
		{name: "directory-add-tested", path: "/directories/add", then: withCA(fill, "right")},
		{name: "directory-test", path: "/directories/corp/test", then: fill("#person", "alindqvist")},
		{name: "directory-groups", path: "/directories/corp/groups", then: fill("#search", "a")},
		{name: "directory-groups-own", path: "/directories/corp/groups", then: append(fill("#search", "a"), chromedp.SetValue("select[name=role]", "auditor", chromedp.ByQuery), submit("select[name=role]"), chromedp.WaitVisible(".notice.bad", chromedp.ByQuery))},
		{name: "directory-groups-none", path: "/directories/corp/groups", then: fill("#search", "nosuch")},
		{name: "directory-remove", path: "/directories/corp/remove"},
		{name: "account", path: "/account"},
		{name: "not-found", path: "/nothing/here", status: 404},
		{name: "denied", path: "/keys", status: 403, prepare: func(w *uitest.World) { w.Deny(auth.KeyManage, "keys-only-for-administrators") }},
		{name: "read-only", path: "/sources", prepare: func(w *uitest.World) {
			w.SetReadOnly("The disk has less than 1 GiB left. Free some space and it goes on by itself.")
		}},
	}
}

// only makes the person somebody with one role, or none, under the starter
// policies.
func only(role auth.Role) func(*uitest.World) {
	return func(w *uitest.World) { w.Only(role) }
}

// withCA fills in the form that joins a directory, and has it tested.
func withCA(fill func(...string) []chromedp.Action, password string) []chromedp.Action {
	return append([]chromedp.Action{chromedp.SetValue("#ca", "-----BEGIN CERTIFICATE-----", chromedp.ByQuery)},
		fill("#name", "corp", "#servers", "ldaps://dc1.meridian.example", "#bind", "CN=cloister,DC=meridian,DC=example", "#password", password, "#base", "DC=meridian,DC=example")...)
}

// TestEveryPage looks at each page in both themes and at two widths.
func TestEveryPage(t *testing.T) {
	for _, s := range screens() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			lookAt(t, s)
		})
	}
}

func lookAt(t *testing.T, s screen) {
	w := uitest.Full()
	if s.empty {
		w = uitest.Empty()
		if !strings.HasPrefix(s.name, "setup") {
			w.FinishSetup()
		}
	}
	if s.prepare != nil {
		s.prepare(w)
	}
	c := tab(t, serve(t, w))
	if !s.out {
		c.signIn(t, w)
	}
	status := s.status
	if status == 0 {
		status = 200
	}
	for _, l := range looks {
		c.set(t, l)
		c.at(t, s.path, status)
		c.run(t, s.then...)
		c.check(t, s.name, l)
	}
}

// TestRightToLeft mirrors a few pages: nothing may stick out, and the navigation
// stands at the other side.
func TestRightToLeft(t *testing.T) {
	w := uitest.Full()
	s := serve(t, w)
	c := tab(t, s)
	c.signIn(t, w)
	for _, l := range []look{{"light", 1280}, {"light", 320}} {
		c.set(t, l)
		for _, path := range []string{"/", "/ask/01K9QYV2C8D1JH5S0K7XWBTN3Q", "/audit", "/sources/handbook"} {
			c.at(t, path, 200)
			c.run(t, chromedp.Evaluate(`document.documentElement.dir = "rtl"`, nil))
			c.check(t, "rtl"+strings.ReplaceAll(path, "/", "-"), l)
			var left float64
			c.run(t, chromedp.Evaluate(`document.querySelector(".brand").getBoundingClientRect().left`, &left))
			if left < float64(l.width)/4 {
				t.Errorf("%s at %d: the brand stands at %.0f, on the left", path, l.width, left)
			}
		}
	}
}

// TestForcedColours looks at pages in a high-contrast mode: what colour alone
// carries elsewhere must still be there.
func TestForcedColours(t *testing.T) {
	w := uitest.Full()
	s := serve(t, w)
	c := tab(t, s)
	c.signIn(t, w)
	c.run(t, emulation.SetDeviceMetricsOverride(1280, 800, 1, false), emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "forced-colors", Value: "active"}}))
	for name, path := range map[string]string{"home": "/", "answer": "/ask/01K9QX0M4S6P2Y9FGTZC1R7DKE", "export": "/audit/export"} {
		c.at(t, path, 200)
		var width string
		c.run(t, chromedp.Evaluate(`getComputedStyle(document.querySelector(".btn")).borderTopWidth`, &width))
		if width == "0px" {
			t.Errorf("%s: a button has no border", path)
		}
		c.picture(t, "forced-"+name)
	}
}
