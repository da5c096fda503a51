// Package uitest is the data that the pages are looked at and tested with: a
// small bank's installation, held in memory, that answers like the real rooms.
//
// It promises: the same data at the same moment on each run; forms change it as
// the real services would, so that a whole walk works; nothing of the real rooms
// behind it. Only tests import it.
package uitest

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/policy"
	"github.com/cloister-os/cloister/auth/session"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/storetest"
	"github.com/cloister-os/cloister/ui"
	"github.com/cloister-os/cloister/ui/view"
)

// The one person, and the code that a fresh installation asks for.
const (
	User     = "maria.lindqvist"
	Password = "correct horse battery staple"
	Code     = "KQ7M-3FXD-92TB"
	LogKey   = "SHA256:n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg"
	Cert     = "SHA256:7f:3a:91:c4:0e:55:b8:2d:19:6a:e3:4f:80:cb:72:1d:aa:05:9e:63:f1:48:d7:2c:be:90:14:6b:35:f8:c2:07"
)

// Now is when the data is looked at.
var now = time.Date(2026, 11, 23, 10, 15, 30, 0, time.UTC)

// Now is the moment at which the data stands.
func Now() time.Time { return now }

// World is the installation. Make it with Full or Empty.
type World struct {
	mu          sync.Mutex
	setUp       bool
	person      auth.Principal
	tokens      map[string]bool
	wrong       int // setup codes in a row
	sources     []view.Source
	runs        []view.Run // newest first
	asked       map[string]time.Time
	titles      map[string]string
	records     []view.Record // by sequence
	models      []view.Model
	keys        []view.Key
	memories    []view.Memory // newest first
	policies    []view.Policy
	nodes       []view.Node
	directories []view.Directory
	shut        bool // the peer port is closed
	importIt    *view.Import
	stage       time.Duration
	readOnly    string
	accepted    string                 // who accepted the language model's terms
	denied      map[auth.Action]string // what the person may not do, and the policy that says so
}

// Empty is an installation that was started and not yet set up.
func Empty() *World {
	return &World{
		person: auth.Principal{Kind: auth.User, ID: "u_4jx7q2m9ktw0", Name: User, Roles: []auth.Role{auth.Administrator, auth.Auditor}},
		tokens: map[string]bool{}, asked: map[string]time.Time{}, titles: map[string]string{}, denied: map[auth.Action]string{},
		policies: policies(), records: firstRecords(), stage: 300 * time.Millisecond,
	}
}

// Full is an installation in daily use.
func Full() *World {
	w := Empty()
	w.setUp = true
	w.sources, w.runs, w.models, w.keys, w.memories = sources(), runs(), models(), keys(), memories()
	w.records, w.nodes, w.directories = records(), nodes(), directories()
	return w
}

// Deny makes the policy refuse an action from now on.
func (w *World) Deny(a auth.Action, policy string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.denied[a] = policy
}

// SetReadOnly makes the node say that it takes no changes.
func (w *World) SetReadOnly(why string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.readOnly = why
}

// Token signs the person in and returns the session's secret.
func (w *World) Token() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := rand.Text()
	w.tokens[t] = true
	return t
}

// Config is the pages over this world.
func (w *World) Config() ui.Config {
	return ui.Config{
		Sessions: sessions{w}, Sources: sourceRoom{w}, Access: accessRoom{w}, Runs: runRoom{w}, Talks: talkRoom{w}, Memories: memoryRoom{w}, Citations: citeRoom{w},
		Records: recordRoom{w}, Models: modelRoom{w}, Keys: keyRoom{w}, Policies: policyRoom{w}, Nodes: nodeRoom{w}, Directories: directoryRoom{w},
		Prints: view.Fingerprints{Certificate: Cert, LogKey: LogKey},
		Node:   "cloister-1.meridian.example", Version: "0.1.0", URL: "https://localhost:8443",
		Now: Now,
		May: func(_ context.Context, _ auth.Principal, a auth.Action, _ auth.Resource) bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.may(a) == nil
		},
		ReadOnly: func() string {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.readOnly
		},
	}
}

// may is the policy of this world.
func (w *World) may(a auth.Action) error {
	if id := w.denied[a]; id != "" {
		return &auth.DeniedError{Action: a, Policies: []string{id}, Record: uint64(len(w.records))}
	}
	return nil
}

type sessions struct{ *World }

var _ ui.Sessions = sessions{}

func (s sessions) SetupNeeded(context.Context) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.setUp, nil
}

func (s sessions) Setup(_ context.Context, code, user, password string) (session.Session, string, error) {
	s.mu.Lock()
	if code != Code {
		s.wrong++
		defer s.mu.Unlock()
		if s.wrong > 4 {
			return session.Session{}, "", auth.ErrThrottled
		}
		return session.Session{}, "", session.ErrSetupCode
	}
	if len(password) < 12 {
		s.mu.Unlock()
		return session.Session{}, "", fmt.Errorf("%w: it has fewer than 12 characters", session.ErrPassword)
	}
	s.setUp, s.person.Name = true, user
	s.mu.Unlock()
	return s.session(), s.Token(), nil
}

func (s sessions) session() session.Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return session.Session{User: session.User{ID: s.person.ID, Name: s.person.Name, Roles: s.person.Roles}, Created: now, Expires: time.Now().Add(12 * time.Hour)}
}

func (s sessions) Login(_ context.Context, user, password string) (session.Session, string, error) {
	if user != s.session().User.Name || password != Password {
		return session.Session{}, "", auth.ErrUnauthenticated
	}
	return s.session(), s.Token(), nil
}

func (s sessions) Logout(_ context.Context, r *http.Request) error {
	if c, err := r.Cookie("__Host-cloister"); err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.tokens, c.Value)
	}
	return nil
}

func (s sessions) Authenticate(r *http.Request) (auth.Principal, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := r.Cookie("__Host-cloister")
	if err != nil || !s.tokens[c.Value] {
		return auth.Principal{}, auth.ErrUnauthenticated
	}
	return s.person, nil
}

func (s sessions) Middleware(next http.Handler) http.Handler { return next }

type policyRoom struct{ *World }

func (r policyRoom) List(context.Context, auth.Principal) ([]view.Policy, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.policies, r.may(auth.PolicyRead)
}

func (r policyRoom) Get(_ context.Context, _ auth.Principal, id string) (view.Policy, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.policies {
		if p.ID == id {
			return p, r.may(auth.PolicyRead)
		}
	}
	return view.Policy{}, store.ErrNotFound
}

type keyRoom struct{ *World }

func (r keyRoom) List(context.Context, auth.Principal) ([]view.Key, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]view.Key(nil), r.keys...), r.may(auth.KeyManage)
}

func (r keyRoom) Create(_ context.Context, _ auth.Principal, spec ui.KeySpec) (view.Key, string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.may(auth.KeyManage); err != nil {
		return view.Key{}, "", err
	}
	k := view.Key{ID: "9fk2w7c1m4xq8d3t", Name: spec.Name, Scopes: spec.Scopes, Sources: spec.Sources, Created: now, Expires: now.Add(spec.TTL)}
	r.keys = append([]view.Key{k}, r.keys...)
	return k, "cl_" + k.ID + "_Vq3rT8yLk2WnZ6xB9mDf4HsJ7pCgA1eU5oXiNt0RbQw", nil
}

func (r keyRoom) Revoke(_ context.Context, _ auth.Principal, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.may(auth.KeyManage); err != nil {
		return err
	}
	for i, k := range r.keys {
		if k.ID == id {
			r.keys = append(r.keys[:i:i], r.keys[i+1:]...)
			return nil
		}
	}
	return store.ErrNotFound
}

type modelRoom struct{ *World }

func (r modelRoom) List(context.Context, auth.Principal) (view.Models, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return view.Models{List: r.models, Engine: view.Fact{Name: "Engine", Text: "ready"}, Tone: view.OK, Manage: true}, r.may(auth.ModelList)
}

func (r modelRoom) Routes(context.Context, auth.Principal) (map[string][]string, error) {
	return map[string][]string{"all-minilm-l6-v2": {"embedding"}, "gemma3-270m": {"default"}}, nil
}

func (r modelRoom) Licence(_ context.Context, _ auth.Principal, name string) (view.Licence, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.may(auth.ModelList); err != nil {
		return view.Licence{}, err
	}
	l := view.Licence{Model: name, Name: "Apache-2.0", Text: licence, Manage: true}
	if name == "gemma3-270m" {
		l.Name, l.Terms, l.Accepted = "Gemma", true, r.accepted
	}
	return l, nil
}

func (r modelRoom) Accept(_ context.Context, p auth.Principal, _ string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.may(auth.ModelManage); err != nil {
		return err
	}
	r.accepted = p.ID
	for i := range r.models {
		r.models[i].Tone, r.models[i].State = view.OK, "ready"
	}
	return r.may(auth.ModelManage)
}

func (r modelRoom) Import(_ context.Context, _ auth.Principal, path string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.may(auth.ModelManage); err != nil {
		return err
	}
	if path != "/media/stick/starter.pack" {
		return &ui.InputError{Field: "path", Text: "There is no pack at " + path + ". Give the path of a file on the node that ends in .pack."}
	}
	r.importIt = &view.Import{Running: true, Stage: "Checking gemma3-270m.gguf", Done: 121 << 20, Total: 271 << 20}
	return nil
}

func (r modelRoom) Importing(context.Context, auth.Principal) (*view.Import, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.importIt, nil
}

func (r modelRoom) Remove(_ context.Context, _ auth.Principal, name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.may(auth.ModelManage); err != nil {
		return err
	}
	for i, m := range r.models {
		if m.Name == name {
			r.models = append(r.models[:i:i], r.models[i+1:]...)
			return nil
		}
	}
	return store.ErrNotFound
}

// FinishSetup leaves an installation without data but with its administrator.
func (w *World) FinishSetup() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.setUp = true
}

// Only gives the person one role, or none for "", and has the starter policies
// decide what they may do.
func (w *World) Only(role auth.Role) {
	ctx := context.Background()
	set, err := policy.New(ctx, storetest.NewModel(nil), nil)
	if err == nil {
		err = set.Seed(ctx)
	}
	if err != nil {
		panic(err) // they are tested where they live
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.person.Roles = nil
	if role != "" {
		w.person.Roles = []auth.Role{role}
	}
	on := map[auth.Action]auth.Resource{
		auth.SourceRead: auth.Source("payments"), auth.SourceManage: auth.Source("payments"), auth.SourceFetch: auth.Source("payments"),
		auth.ModelInfer: auth.Model("gemma"), auth.ModelEmbed: auth.Model("gemma"), auth.ModelManage: auth.Model("gemma"),
		auth.AuditRead: auth.AuditLog, auth.AuditExport: auth.AuditLog, auth.RunRead: auth.Run("r", w.person.ID),
		auth.MemoryRead: auth.Memory("m", w.person.ID), auth.MemoryWrite: auth.Memory("m", w.person.ID),
	}
	for _, a := range auth.Actions() {
		r, ok := on[a]
		if !ok {
			r = auth.TheSystem
		}
		if d := set.Decide(w.person, a, r, nil); !d.Allow {
			w.denied[a] = d.Policies[0]
		}
	}
}
