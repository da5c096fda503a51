// Package session answers one question: who is this?
//
// It promises: no default password; a first administrator only through a setup
// code that works once; the same answer, in shape and in time, to a wrong name
// and to a wrong password; one canonical form of a user name before throttle,
// policy and audit; secrets are stored as hashes only and never logged; a revoked
// key or a closed session is refused by the very next request.
//
// It may import store, auth, auth/guard and auth/audit.
package session

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/store"
)

// Config is what a Service needs.
type Config struct {
	Store  store.Store      // required
	Door   guard.Door       // required: keys are managed through it
	Node   string           // this node's name, for the audit record
	Now    func() time.Time // time.Now when nil
	Logger *slog.Logger     // slog.Default() when nil
	Idle   time.Duration    // a session unused for this long ends; 12 hours when 0
	Life   time.Duration    // a session this old ends; 7 days when 0
}

// Session is a signed-in browser or shell.
type Session struct {
	User    User
	Created time.Time
	Expires time.Time
}

// User is a local account.
type User struct {
	ID    string
	Name  string // canonical
	Roles []auth.Role
}

// KeySpec is what a new API key should be able to do.
type KeySpec struct {
	Name    string
	Scopes  []string      // of auth.Scopes
	Sources []string      // the sources it may reach; empty = none
	TTL     time.Duration // 0 = 90 days; at most 366 days
}

// Key is an API key without its secret.
type Key struct {
	ID      string
	Name    string
	Scopes  []string
	Sources []string
	Owner   string // id of who created it
	Created time.Time
	Expires time.Time
}

// New returns a Service.
func New(cfg Config) (*Service, error) { return newService(cfg) }

// NewSetupCode makes the one-time setup code, stores its hash and returns it. An
// unused earlier code stops working. After setup it is an error.
func (s *Service) NewSetupCode(ctx context.Context) (string, error) { return s.newSetupCode(ctx) }

// SetupNeeded reports whether no administrator exists yet.
func (s *Service) SetupNeeded(ctx context.Context) (bool, error) { return s.setupNeeded(ctx) }

// Setup creates the first administrator and signs them in. The token is the
// session's secret.
func (s *Service) Setup(ctx context.Context, code, user, password string) (Session, string, error) {
	return s.setup(ctx, code, user, password)
}

// Login signs a local user in. The token goes into a cookie (see SetCookie) or
// after "Authorization: Bearer".
func (s *Service) Login(ctx context.Context, user, password string) (Session, string, error) {
	return s.login(ctx, user, password)
}

// Logout closes the session the request carries; without one it does nothing.
func (s *Service) Logout(ctx context.Context, r *http.Request) error { return s.logout(ctx, r) }

// Authenticate says who makes the request: by "Authorization: Bearer" (API key
// or session token), else by the session cookie. The error matches
// auth.ErrUnauthenticated.
func (s *Service) Authenticate(r *http.Request) (auth.Principal, error) { return s.authenticate(r) }

// Middleware refuses unsafe requests that carry a session cookie and come from
// another site (Origin and Sec-Fetch-Site), and requests with an API key in the
// URL.
func (s *Service) Middleware(next http.Handler) http.Handler { return s.middleware(next) }

// CreateKey makes an API key through the guard and returns its secret, once.
func (s *Service) CreateKey(ctx context.Context, p auth.Principal, spec KeySpec) (Key, string, error) {
	return s.createKey(ctx, p, spec)
}

// ListKeys lists the keys that exist, newest first, through the guard.
func (s *Service) ListKeys(ctx context.Context, p auth.Principal) ([]Key, error) {
	return s.listKeys(ctx, p)
}

// RevokeKey ends a key through the guard; the next request with it is refused.
func (s *Service) RevokeKey(ctx context.Context, p auth.Principal, id string) error {
	return s.revokeKey(ctx, p, id)
}
