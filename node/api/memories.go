package api

import (
	"context"
	"net/http"

	"github.com/cloister-os/cloister/agents/memory"
	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/node/api/wire"
)

type memoryInput struct {
	ID string `path:"id" maxLength:"64"`
}

type toldInput struct {
	Key  string `header:"Idempotency-Key" maxLength:"200" doc:"The same key remembers once, however often it is sent"`
	Body wire.NewMemory
}

func (a *API) memoryRoutes() {
	list := operation(http.MethodGet, "/api/v1/memories", "list-memories", "What the caller told, newest first; nobody else's")
	handle(a, list, func(ctx context.Context, p auth.Principal, _ *none) (*body[[]wire.Memory], error) {
		all, err := a.cfg.Memories.List(ctx, p)
		if err != nil {
			return nil, err
		}
		return &body[[]wire.Memory]{wireMemories(all)}, nil
	})
	add := operation(http.MethodPost, "/api/v1/memories", "add-memory", "Remember a fact, said in one sentence")
	add.DefaultStatus = http.StatusCreated
	handle(a, add, func(ctx context.Context, p auth.Principal, in *toldInput) (*body[wire.Memory], error) {
		m, err := a.cfg.Memories.Add(ctx, p, in.Key, in.Body.Text)
		if err != nil {
			return nil, err
		}
		return &body[wire.Memory]{wireMemory(m)}, nil
	})
	get := operation(http.MethodGet, "/api/v1/memories/{id}", "explain-memory", "Why something is remembered: its evidence, its use, and what was said before")
	handle(a, get, func(ctx context.Context, p auth.Principal, in *memoryInput) (*body[wire.ExplainedMemory], error) {
		m, err := a.cfg.Memories.Get(ctx, p, in.ID)
		if err != nil {
			return nil, err
		}
		return &body[wire.ExplainedMemory]{wire.ExplainedMemory{Memory: wireMemory(m.Memory), Chain: wireMemories(m.Chain)}}, nil
	})
	edit := operation(http.MethodPut, "/api/v1/memories/{id}", "edit-memory", "Put a correction in a memory's place; its answer is the correction")
	handle(a, edit, func(ctx context.Context, p auth.Principal, in *struct {
		ID   string `path:"id" maxLength:"64"`
		Key  string `header:"Idempotency-Key" maxLength:"200" doc:"The same key corrects once, however often it is sent"`
		Body wire.NewMemory
	}) (*body[wire.Memory], error) {
		m, err := a.cfg.Memories.Edit(ctx, p, in.ID, in.Key, in.Body.Text)
		if err != nil {
			return nil, err
		}
		return &body[wire.Memory]{wireMemory(m)}, nil
	})
	a.forgetRoutes()
}

func (a *API) forgetRoutes() {
	forget := operation(http.MethodDelete, "/api/v1/memories/{id}", "forget-memory", "Forget a fact, as it is and as it was: its key is destroyed")
	forget.DefaultStatus = http.StatusOK
	handle(a, forget, func(ctx context.Context, p auth.Principal, in *memoryInput) (*body[wire.ForgottenMemories], error) {
		n, err := a.cfg.Memories.Forget(ctx, p, in.ID)
		if err != nil {
			return nil, err
		}
		return &body[wire.ForgottenMemories]{wire.ForgottenMemories{Forgotten: n}}, nil
	})
	forgetAll := operation(http.MethodDelete, "/api/v1/memories", "forget-memories", "Forget everything that the caller told")
	forgetAll.DefaultStatus = http.StatusOK
	handle(a, forgetAll, func(ctx context.Context, p auth.Principal, _ *none) (*body[wire.ForgottenMemories], error) {
		n, err := a.cfg.Memories.ForgetAll(ctx, p)
		if err != nil {
			return nil, err
		}
		return &body[wire.ForgottenMemories]{wire.ForgottenMemories{Forgotten: n}}, nil
	})
	undo := operation(http.MethodPost, "/api/v1/memories/{id}/undo", "undo-memory", "Forget a memory alone, and put the one whose place it took back in force")
	undo.DefaultStatus = http.StatusNoContent
	handle(a, undo, func(ctx context.Context, p auth.Principal, in *memoryInput) (*none, error) {
		return nil, a.cfg.Memories.Undo(ctx, p, in.ID)
	})
}

func wireMemories(list []memory.Memory) []wire.Memory {
	out := make([]wire.Memory, 0, len(list))
	for _, m := range list {
		out = append(out, wireMemory(m))
	}
	return out
}

func wireMemory(m memory.Memory) wire.Memory {
	return wire.Memory{
		ID: m.ID, Words: m.Words, Subject: m.Subject, Attribute: m.Attribute, Value: m.Value, From: m.From, Until: m.Until,
		Evidence: wire.Evidence{Run: m.Evidence.Run, Said: m.Evidence.Said, Start: m.Evidence.Start, End: m.Evidence.End},
		Created:  m.Created, By: m.By, DerivedFrom: m.DerivedFrom, Supersedes: m.Supersedes, SupersededBy: m.SupersededBy, Superseded: m.Superseded,
		Uses: m.Uses, LastUsed: m.Last,
	}
}
