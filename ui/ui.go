// Package ui is the browser's way into Cloister: server-rendered pages, forms
// that work without script, and event streams that keep a page current.
//
// It promises: no page is served to somebody who is not signed in, but setup and
// sign-in; whatever a page shows came through the guard under that person's
// name; a strict content security policy without inline script or style; no
// request to another origin; every form works without script. It holds no state.
//
// It may import store, auth, graph, models and agents, and nothing of node. What
// it needs of them it declares here, so that pages can be looked at and tested
// with data alone (ui/uitest); ui/room joins it to the real services.
package ui

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/ui/asset"
	"github.com/cloister-os/cloister/ui/view"
)

// Config is what the pages need. All services are required.
type Config struct {
	Sessions    Sessions
	Sources     Sources
	Access      Access
	Runs        Runs
	Talks       Talks
	Memories    Memories
	Citations   Citations
	Records     Records
	Models      Models
	Keys        Keys
	Policies    Policies
	Nodes       Nodes
	Directories Directories

	Prints   view.Fingerprints // of this installation
	Node     string            // this node's name
	Version  string            // of the program
	URL      string            // where programs reach this node, such as "https://localhost:8443"
	ReadOnly func() string     // why writes are refused, "" = they are not; nil = never
	SetUp    func()            // told once that setup is complete; may be nil
	// May says, without a record, whether policy lets somebody do something, so
	// that what cannot be done is not offered; nil = everything is offered.
	May    func(ctx context.Context, p auth.Principal, a auth.Action, on auth.Resource) bool
	Now    func() time.Time // time.Now when nil
	Logger *slog.Logger     // slog.Default() when nil
}

func (c Config) valid() error {
	if c.Sessions == nil || c.Sources == nil || c.Access == nil || c.Runs == nil || c.Talks == nil || c.Memories == nil || c.Citations == nil ||
		c.Records == nil || c.Models == nil || c.Keys == nil || c.Policies == nil || c.Nodes == nil || c.Directories == nil {
		return errors.New("ui: all services must be given")
	}
	return nil
}

// pages serves all screens.
type pages struct {
	Config
	assets  *asset.Set
	isSet   atomic.Bool   // setup is known to be done
	streams chan struct{} // one token for each open event stream
}

// New returns the handler of all pages and their assets. Mount it at "/".
func New(cfg Config) (http.Handler, error) {
	if err := cfg.valid(); err != nil {
		return nil, err
	}
	if cfg.ReadOnly == nil {
		cfg.ReadOnly = func() string { return "" }
	}
	if cfg.May == nil {
		cfg.May = func(context.Context, auth.Principal, auth.Action, auth.Resource) bool { return true }
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	assets, err := asset.New()
	if err != nil {
		return nil, err
	}
	u := &pages{Config: cfg, assets: assets, streams: make(chan struct{}, maxStreams)}
	mux := http.NewServeMux()
	mux.Handle("GET "+asset.Prefix, assets)
	mux.Handle("/", cfg.Sessions.Middleware(u.routes()))
	return secure(mux), nil
}

func (u *pages) routes() http.Handler {
	mux := http.NewServeMux()
	open := func(pattern string, h handler) { mux.Handle(pattern, u.page(h)) }
	closed := func(pattern string, h handler) { mux.Handle(pattern, u.page(u.signedIn(h))) }

	open("GET /setup", u.setupForm)
	open("POST /setup", u.setup)
	open("GET /sign-in", u.signInForm)
	open("POST /sign-in", u.signIn)
	open("POST /sign-out", u.signOut)
	open("POST /theme", u.theme)

	closed("GET /{$}", u.home)
	closed("GET /sources", u.sources)
	closed("GET /sources/add", u.sourceForm)
	closed("POST /sources/add", u.sourceAdd)
	closed("GET /sources/{name}", u.source)
	closed("POST /sources/{name}/sync", u.sourceSync)
	closed("GET /sources/{name}/progress", u.sourceProgress)
	closed("GET /sources/{name}/remove", u.sourceRemoveForm)
	closed("POST /sources/{name}/remove", u.sourceRemove)
	closed("GET /access", u.access)
	closed("GET /access/{name}", u.accessForm)
	closed("POST /access/{name}", u.accessSave)
	closed("GET /ask", u.askForm)
	closed("POST /ask", u.ask)
	closed("GET /ask/{run}", u.talk)
	closed("POST /ask/{run}/stop", u.stop)
	closed("GET /ask/{run}/rename", u.renameForm)
	closed("POST /ask/{run}/rename", u.rename)
	closed("GET /ask/{run}/delete", u.deleteForm)
	closed("POST /ask/{run}/delete", u.delete)
	closed("GET /ask/{run}/events", u.runEvents)
	closed("GET /cite", u.cite)
	closed("GET /memory", u.memories)
	closed("POST /memory", u.memoryAdd)
	closed("GET /memory/forget", u.memoryForgetAllForm)
	closed("POST /memory/forget", u.memoryForgetAll)
	closed("GET /memory/{id}", u.memory)
	closed("GET /memory/{id}/edit", u.memoryEditForm)
	closed("POST /memory/{id}/edit", u.memoryEdit)
	closed("GET /memory/{id}/forget", u.memoryForgetForm)
	closed("POST /memory/{id}/forget", u.memoryForget)
	closed("POST /memory/{id}/undo", u.memoryUndo)
	closed("GET /audit", u.audit)
	closed("GET /audit/{seq}", u.record)
	closed("GET /audit/export", u.exportForm)
	closed("POST /audit/export", u.export)
	closed("GET /models", u.models)
	closed("POST /models/import", u.modelImport)
	closed("GET /models/import/progress", u.modelProgress)
	closed("GET /models/{name}/licence", u.licence)
	closed("POST /models/{name}/accept", u.licenceAccept)
	closed("GET /models/{name}/remove", u.modelConfirm)
	closed("POST /models/{name}/remove", u.modelRemove)
	closed("GET /keys", u.keys)
	closed("GET /keys/new", u.keyForm)
	closed("POST /keys/new", u.keyCreate)
	closed("GET /keys/{id}/revoke", u.keyConfirm)
	closed("POST /keys/{id}/revoke", u.keyRevoke)
	closed("GET /policies", u.policies)
	closed("GET /policies/{id...}", u.policy)
	closed("GET /directories", u.directories)
	closed("GET /directories/add", u.directoryForm)
	closed("POST /directories/add", u.directoryAdd)
	closed("GET /directories/{name}/test", u.directoryTestForm)
	closed("POST /directories/{name}/test", u.directoryTest)
	closed("GET /directories/{name}/groups", u.directoryGroupsForm)
	closed("POST /directories/{name}/groups", u.directoryGroups)
	closed("POST /directories/{name}/grant", u.directoryGrant)
	closed("POST /directories/{name}/revoke", u.directoryRevoke)
	closed("GET /directories/{name}/remove", u.directoryRemoveForm)
	closed("POST /directories/{name}/remove", u.directoryRemove)
	closed("GET /nodes", u.nodes)
	closed("POST /nodes/invite", u.nodeInvite)
	closed("GET /nodes/{name}/lead", u.nodeLeadForm)
	closed("POST /nodes/{name}/lead", u.nodeLead)
	closed("GET /nodes/{name}/remove", u.nodeRemoveForm)
	closed("POST /nodes/{name}/remove", u.nodeRemove)
	closed("GET /account", u.account)
	closed("POST /account", u.accountSave)
	closed("/", u.nowhere)
	return mux
}

// policyHeader is the content security policy of every page.
const policyHeader = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " +
	"font-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// secure sets the headers that hold for every response.
func secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policyHeader)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=(), payment=(), usb=()")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}
