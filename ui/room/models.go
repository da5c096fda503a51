package room

import (
	"context"
	"sync"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/models/pack"
	"github.com/cloister-os/cloister/models/registry"
	"github.com/cloister-os/cloister/ui"
	"github.com/cloister-os/cloister/ui/view"
)

type models struct{ *Rooms }

var _ ui.Models = models{}

// List implements ui.Models.
func (s models) List(ctx context.Context, p auth.Principal) (view.Models, error) {
	list, err := s.cfg.Packs.List(ctx, p)
	if err != nil {
		return view.Models{}, err
	}
	ready, reason := s.cfg.Engine()
	out := view.Models{Manage: s.may(ctx, p, auth.ModelManage, auth.Model("")), Engine: view.Fact{Name: "Engine", Text: "ready"}, Tone: view.OK}
	if !ready {
		out.Engine.Text, out.Tone = reason, view.Warn
		if reason == "starting" {
			out.Tone = view.Live
		}
	}
	for _, m := range list {
		out.List = append(out.List, showModel(m, ready))
	}
	return out, nil
}

// Routes implements ui.Models.
func (s models) Routes(ctx context.Context, p auth.Principal) (map[string][]string, error) {
	list, err := s.cfg.Packs.Routes(ctx, p)
	if err != nil {
		return nil, err
	}
	out := map[string][]string{}
	for _, r := range list {
		out[r.Model] = append(out[r.Model], r.Name)
	}
	return out, nil
}

func showModel(m registry.Model, ready bool) view.Model {
	v := view.Model{Name: m.Name, Kind: string(m.Kind), Bytes: m.Bytes, Digest: m.Digest, Licence: m.Licence, Tone: view.OK, State: "ready"}
	if v.Licence == "" {
		v.Licence = "not stated"
	}
	switch {
	case !m.Usable():
		v.Tone, v.State = view.Warn, "terms not accepted"
	case !ready:
		v.Tone, v.State = view.Warn, "waiting for the engine"
	}
	return v
}

// Licence implements ui.Models.
func (s models) Licence(ctx context.Context, p auth.Principal, name string) (view.Licence, error) {
	m, text, err := s.cfg.Packs.Licence(ctx, p, name)
	if err != nil {
		return view.Licence{}, unknown(err)
	}
	return view.Licence{
		Model: m.Name, Name: m.Licence, Text: text, Terms: m.Terms, Accepted: m.Accepted, Manage: s.may(ctx, p, auth.ModelManage, auth.Model(m.Name)),
	}, nil
}

// Accept implements ui.Models.
func (s models) Accept(ctx context.Context, p auth.Principal, name string) error {
	return unknown(s.cfg.Packs.Accept(ctx, p, name))
}

// Remove implements ui.Models.
func (s models) Remove(ctx context.Context, p auth.Principal, name string) error {
	return unknown(s.cfg.Packs.Remove(ctx, p, name))
}

// importShown is for how long the end of an import is shown.
const importShown = 10 * time.Minute

// importing is the newest import that was begun on a page.
type importing struct {
	mu    sync.Mutex
	state *view.Import
}

func (i *importing) set(f func(*view.Import)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	next := *i.state
	f(&next)
	i.state = &next
}

// Import implements ui.Models. The import goes on when the page is left.
func (s models) Import(ctx context.Context, p auth.Principal, path string) error {
	if !s.may(ctx, p, auth.ModelManage, auth.Model("")) {
		_, err := s.cfg.Packs.Import(ctx, p, pack.Source{Path: path}, pack.Options{}) // refused, and the refusal recorded
		return err
	}
	s.packs.mu.Lock()
	if s.packs.state != nil && s.packs.state.Running {
		s.packs.mu.Unlock()
		return &ui.InputError{Field: "path", Text: "An import is under way. Wait for its end."}
	}
	s.packs.state = &view.Import{Running: true, Stage: "Importing " + path}
	s.packs.mu.Unlock()
	s.works.Go(func() {
		_, err := s.cfg.Packs.Import(s.ctx, p, pack.Source{Path: path}, pack.Options{Progress: func(done, total int64) {
			s.packs.set(func(i *view.Import) { i.Done, i.Total = done, total })
		}})
		s.packs.set(func(i *view.Import) {
			i.Running, i.Ended = false, time.Now()
			if err != nil {
				i.Error = ui.Sentence(err)
			}
		})
	})
	return nil
}

// Importing implements ui.Models.
func (s models) Importing(ctx context.Context, p auth.Principal) (*view.Import, error) {
	if !s.may(ctx, p, auth.ModelManage, auth.Model("")) {
		return nil, nil
	}
	s.packs.mu.Lock()
	defer s.packs.mu.Unlock()
	if i := s.packs.state; i != nil && !i.Running && time.Since(i.Ended) > importShown {
		s.packs.state = nil
	}
	return s.packs.state, nil
}
