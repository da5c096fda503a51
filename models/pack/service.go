package pack

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"os"
	"strings"
	"unicode"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/models"
	"github.com/cloister-os/cloister/models/registry"
	"github.com/cloister-os/cloister/store"
)

// Config is what the service is made of. Store, Guard, Engine and Temp are
// required.
type Config struct {
	Store         store.Store
	Guard         guard.Door
	Engine        models.Engine
	Fleet         Fleet                        // the other nodes; nil = there are none
	Temp          string                       // folder for uploads of single files
	Trusted       map[string]ed25519.PublicKey // whose signatures count, by name
	RequireSigned bool                         // refuse what nobody vouches for
	Logger        *slog.Logger                 // nil = slog.Default()
}

// Fleet is what an import asks of the other nodes; *fleet.Fleet does it.
type Fleet interface {
	// Importing keeps the model of a name as it is on this node until done is called.
	Importing(name string) (done func())
	// Share returns when another node holds the model that this one has made.
	Share(ctx context.Context, m registry.Model, progress func(done int64)) error
}

// alone is the Fleet of a node without others.
type alone struct{}

func (alone) Importing(string) func()                                  { return func() {} }
func (alone) Share(context.Context, registry.Model, func(int64)) error { return nil }

// Service imports, lists and removes models, for a principal and through the
// guard. It is safe for concurrent use; imports run one at a time.
type Service struct {
	config   Config
	registry *registry.Registry
	one      chan struct{} // holds a token while an import runs
}

// New returns a service.
func New(c Config) (*Service, error) {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Fleet == nil {
		c.Fleet = alone{}
	}
	if err := os.MkdirAll(c.Temp, 0o700); err != nil {
		return nil, err
	}
	return &Service{config: c, registry: registry.New(c.Store), one: make(chan struct{}, 1)}, nil
}

// List lists the models.
func (s *Service) List(ctx context.Context, p auth.Principal) (list []registry.Model, err error) {
	err = s.config.Guard.Read(ctx, guard.Request{Principal: p, Action: auth.ModelList, Resource: auth.TheSystem},
		func(ctx context.Context, _ *guard.Permit) (guard.Outcome, error) {
			var err error
			list, err = s.models(ctx)
			return outcome(err, map[string]int64{"rows": int64(len(list))}), err
		})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// models are the models with how each node stands with them.
func (s *Service) models(ctx context.Context) ([]registry.Model, error) {
	list, err := s.registry.Models(ctx)
	for i := range list {
		if err == nil {
			list[i].Nodes, err = s.registry.Standings(ctx, list[i].Name)
		}
	}
	return list, err
}

// Routes lists the routes.
func (s *Service) Routes(ctx context.Context, p auth.Principal) (list []registry.Route, err error) {
	err = s.config.Guard.Read(ctx, guard.Request{Principal: p, Action: auth.ModelList, Resource: auth.TheSystem},
		func(ctx context.Context, _ *guard.Permit) (guard.Outcome, error) {
			var err error
			list, err = s.registry.Routes(ctx)
			return outcome(err, map[string]int64{"rows": int64(len(list))}), err
		})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// Licence returns a model and the text of its licence, to be shown before the
// terms are accepted.
func (s *Service) Licence(ctx context.Context, p auth.Principal, name string) (m registry.Model, text string, err error) {
	err = s.config.Guard.Read(ctx, guard.Request{Principal: p, Action: auth.ModelList, Resource: auth.TheSystem},
		func(ctx context.Context, _ *guard.Permit) (guard.Outcome, error) {
			var err1, err2 error
			m, err1 = s.registry.Get(ctx, name)
			text, err2 = s.registry.LicenceText(ctx, name)
			err := errors.Join(err1, err2)
			if err1 != nil {
				err = err1
			}
			return outcome(err, nil), err
		})
	if err != nil {
		return registry.Model{}, "", err
	}
	return m, text, nil
}

// Accept accepts the terms of a model's licence for the installation.
func (s *Service) Accept(ctx context.Context, p auth.Principal, name string) error {
	return s.manage(ctx, p, name, "accept", func(ctx context.Context, _ *guard.Permit) (map[string]int64, error) {
		return nil, s.registry.Accept(ctx, name, p.ID)
	})
}

// Remove takes a model out of the registry and off this node's disk; the other
// nodes follow the registry.
func (s *Service) Remove(ctx context.Context, p auth.Principal, name string) error {
	return s.manage(ctx, p, name, "remove", func(ctx context.Context, permit *guard.Permit) (map[string]int64, error) {
		if err := s.registry.Remove(ctx, name); err != nil {
			return nil, err
		}
		err := s.config.Engine.Delete(ctx, permit, name)
		if errors.Is(err, models.ErrNoModel) {
			err = nil // another node held it
		}
		return nil, err
	})
}

// manage does one act on a model through the guard.
func (s *Service) manage(ctx context.Context, p auth.Principal, name, what string, act func(context.Context, *guard.Permit) (map[string]int64, error)) error {
	req := guard.Request{Principal: p, Action: auth.ModelManage, Resource: auth.Model(name), Within: importWithin, Detail: map[string]any{"what": what}}
	return s.config.Guard.Do(ctx, req, func(ctx context.Context, permit *guard.Permit) (guard.Outcome, error) {
		usage, err := act(ctx, permit)
		return outcome(err, usage), err
	})
}

// outcome turns an error into the record's words. The texts of this room's
// errors hold names and sizes, never content.
func outcome(err error, usage map[string]int64) guard.Outcome {
	if err != nil {
		return guard.Outcome{Status: "failed", Error: printable(err.Error()), Usage: usage}
	}
	return guard.Outcome{Status: "ok", Usage: usage}
}

// printable makes a text from outside safe for one line.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '�'
	}, s)
	if len(s) > 300 {
		s = strings.ToValidUTF8(s[:300], "") + "…"
	}
	return s
}
