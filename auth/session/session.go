// Package session answers one question: who is this?
//
// It promises: no default password; a first administrator only through a setup
// code that works once; the same answer, in shape and in work done, to a wrong
// name and to a wrong password; one canonical form of a user name before
// throttle, policy and audit; attempts are counted before they are tried, so that
// no number of connections guesses faster; secrets are stored as hashes only and
// never logged; a revoked key or a closed session is refused by the very next
// request, and on every other node within a second.
//
// Who signs in is a local account of exactly the name that was typed; else
// whoever the directory has by it (see people.Service.Whose). A local account's
// password never reaches a directory.
//
// It may import store, auth, auth/guard, auth/audit, auth/people and
// auth/directory.
package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/audit"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/auth/people"
	"github.com/cloister-os/cloister/store"
)

// The defaults of Config.
const (
	defaultIdle = 12 * time.Hour
	defaultLife = 7 * 24 * time.Hour
)

// cleanEvery is how often Run removes what is over.
const cleanEvery = 10 * time.Minute

// Config is what a Service needs.
type Config struct {
	Store  store.Store      // required
	Door   guard.Door       // required: keys are managed through it
	Node   string           // this node's name, for the record
	Now    func() time.Time // time.Now when nil; nodes that share a store give a store.Clock
	Logger *slog.Logger     // slog.Default() when nil
	Idle   time.Duration    // a session unused for this long ends; 12 hours when 0
	Life   time.Duration    // a session this old ends; 7 days when 0
	// Recent returns once Local views may be acted on: guard.Guard.Recent. nil =
	// they always may.
	Recent func(context.Context) error
	// Sealer keeps the secrets of keys that were made by a request that may be sent
	// again; nil = such requests are refused.
	Sealer audit.Sealer
	// People are those of the directories; nil = none is joined.
	People *people.Service
	// Leads says whether this node cleans up, and asks the directories, for all;
	// nil = always.
	Leads func() bool
	// Refuse writes the answer to a request that Middleware refuses; an RFC 9457
	// problem when nil. err is safe to show.
	Refuse func(w http.ResponseWriter, r *http.Request, status int, err error)
}

// Service knows users, sessions and keys. It is safe for concurrent use.
type Service struct {
	store  store.Store
	door   guard.Door
	node   string
	now    func() time.Time
	logger *slog.Logger
	idle   time.Duration
	life   time.Duration
	recent func(context.Context) error
	leads  func() bool
	sealer audit.Sealer
	refuse func(w http.ResponseWriter, r *http.Request, status int, err error)
	hasher *hasher
	people *people.Service

	wrongWait time.Duration // see wrongWait
}

// New returns a Service.
func New(c Config) (*Service, error) {
	if c.Store == nil || c.Door == nil {
		return nil, errors.New("sessions need a store and the guard")
	}
	s := &Service{store: c.Store, door: c.Door, node: c.Node, now: c.Now, logger: c.Logger, idle: c.Idle, life: c.Life, recent: c.Recent, leads: c.Leads, sealer: c.Sealer, refuse: c.Refuse, people: c.People, wrongWait: wrongWait}
	if s.now == nil {
		s.now = time.Now
	}
	if s.logger == nil {
		s.logger = slog.Default()
	}
	if s.idle <= 0 {
		s.idle = defaultIdle
	}
	if s.life <= 0 {
		s.life = defaultLife
	}
	if s.recent == nil {
		s.recent = func(context.Context) error { return nil }
	}
	if s.leads == nil {
		s.leads = func() bool { return true }
	}
	if s.refuse == nil {
		s.refuse = problem
	}
	s.hasher = newHasher(defaultCost())
	return s, nil
}

// Session is a signed-in browser or shell.
type Session struct {
	User    User
	Created time.Time
	Expires time.Time // at the latest
}

// User is a local account, or somebody of a directory.
type User struct {
	ID     string // see people.ID for those of directories
	Name   string // canonical; of directories: for display
	Roles  []auth.Role
	Groups []string // see auth.Principal
}

// Principal is who the user is to policy.
func (u User) Principal() auth.Principal {
	return auth.Principal{Kind: auth.User, ID: u.ID, Name: u.Name, Roles: u.Roles, Groups: u.Groups}
}

// nobody is the actor of what happens before anyone is known.
const nobody auth.Kind = "Nobody"

// The events on record, beside the intents and outcomes of key.manage.
const (
	eventSetup       auth.Action = "session.setup"
	eventSetupFailed auth.Action = "session.setup-failed"
	eventCode        auth.Action = "session.setup-code"
	eventLogin       auth.Action = "session.login"
	eventLoginFailed auth.Action = "session.login-failed"
	eventLogout      auth.Action = "session.logout"
	eventEnded       auth.Action = "session.ended" // the directory ended the person's sessions
)

// event adds an event to the transaction. What was typed is never part of one: a
// password is easily typed into the field for the name.
func (s *Service) event(tx *store.Tx, action auth.Action, who audit.Actor, userID string, detail map[string]any) error {
	rec := audit.Record{Kind: audit.Event, Actor: who, Action: action, Resource: audit.Resource{Type: "System", ID: auth.TheSystem.ID}, Detail: detail, Node: s.node}
	if userID != "" {
		rec.Resource = audit.Resource{Type: string(auth.User), ID: userID}
	}
	return audit.Append(tx, rec)
}

// Run removes sessions and throttles that are over, and keeps up with the
// directories, on the node that leads, until the context ends.
func (s *Service) Run(ctx context.Context) error {
	if s.people != nil {
		following := make(chan struct{})
		go func() {
			defer close(following)
			s.follow(ctx)
		}()
		defer func() { <-following }()
	}
	tick := time.NewTicker(cleanEvery)
	defer tick.Stop()
	for {
		if !s.leads() {
			// whoever leads does it
		} else if err := s.Clean(ctx); err != nil && ctx.Err() == nil {
			s.logger.Warn("Sessions that are over could not be removed yet.", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Clean removes, once, sessions and throttles that are over.
func (s *Service) Clean(ctx context.Context) error {
	now := s.now()
	over := func(item store.Item) bool {
		var row sessionRow
		return decode(item.Value, &row) != nil || !now.Before(s.expires(row))
	}
	if err := s.clean(ctx, sessions.Prefix(), over); err != nil {
		return fmt.Errorf("remove old sessions: %w", err)
	}
	over = func(item store.Item) bool {
		var row throttleRow
		return decode(item.Value, &row) != nil || now.Sub(time.Unix(row.Last, 0)) > forgetAfter
	}
	if err := s.clean(ctx, throttles.Prefix(), over); err != nil {
		return fmt.Errorf("remove old throttles: %w", err)
	}
	if s.people == nil {
		return nil
	}
	return s.people.Clean(ctx)
}

// clean deletes what is over, unless it changes in the meantime.
func (s *Service) clean(ctx context.Context, prefix store.Key, over func(store.Item) bool) error {
	var found []store.Item
	err := s.store.View(ctx, store.Local, func(snap store.Snapshot) error {
		for item, err := range snap.Scan(prefix, "") {
			if err != nil {
				return err
			}
			if over(item) {
				found = append(found, item)
			}
		}
		return nil
	})
	for i := 0; i < len(found) && err == nil; i++ {
		tx := store.NewTx()
		tx.Check(found[i].Key, found[i].Version)
		tx.Delete(found[i].Key)
		if _, err = s.store.Submit(ctx, tx, store.Bulk).Wait(ctx); errors.Is(err, store.ErrConflict) {
			err = nil
		}
	}
	return err
}
