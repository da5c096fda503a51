package room

import (
	"context"
	"errors"

	"github.com/cloister-os/cloister/agents/memory"
	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/ui"
	"github.com/cloister-os/cloister/ui/view"
)

type memories struct{ *Rooms }

var _ ui.Memories = memories{}

// List implements ui.Memories.
func (s memories) List(ctx context.Context, p auth.Principal) ([]view.Memory, error) {
	list, err := s.cfg.Memories.List(ctx, p)
	return s.show(list), err
}

// Get implements ui.Memories.
func (s memories) Get(ctx context.Context, p auth.Principal, id string) (view.Memory, []view.Memory, error) {
	m, err := s.cfg.Memories.Get(ctx, p, id)
	if err != nil {
		return view.Memory{}, nil, err
	}
	return s.one(m.Memory), s.show(m.Chain), nil
}

// Add implements ui.Memories.
func (s memories) Add(ctx context.Context, p auth.Principal, once, text string) error {
	_, err := s.cfg.Memories.Add(ctx, p, once, text)
	return typed(err)
}

// Edit implements ui.Memories.
func (s memories) Edit(ctx context.Context, p auth.Principal, id, once, text string) (string, error) {
	m, err := s.cfg.Memories.Edit(ctx, p, id, once, text)
	return m.ID, typed(err)
}

// typed turns what is wrong with a text into what its field shows.
func typed(err error) error {
	if errors.Is(err, store.ErrInvalid) {
		return forPerson("text", err)
	}
	return err
}

// Forget implements ui.Memories.
func (s memories) Forget(ctx context.Context, p auth.Principal, id string) error {
	_, err := s.cfg.Memories.Forget(ctx, p, id)
	return err
}

// ForgetAll implements ui.Memories.
func (s memories) ForgetAll(ctx context.Context, p auth.Principal) error {
	_, err := s.cfg.Memories.ForgetAll(ctx, p)
	return err
}

// Undo implements ui.Memories.
func (s memories) Undo(ctx context.Context, p auth.Principal, id string) error {
	return s.cfg.Memories.Undo(ctx, p, id)
}

func (s memories) show(list []memory.Memory) []view.Memory {
	out := make([]view.Memory, 0, len(list))
	for _, m := range list {
		out = append(out, s.one(m))
	}
	return out
}

func (s memories) one(m memory.Memory) view.Memory {
	e := m.Evidence
	return view.Memory{
		ID: m.ID, Words: m.Words, From: m.From, Until: m.Until, Created: m.Created, Run: e.Run, Before: e.Said[:e.Start], After: e.Said[e.End:],
		Corrects: m.DerivedFrom != "", Current: m.Current(), Superseded: m.Superseded, Uses: m.Uses, Last: m.Last,
	}
}
