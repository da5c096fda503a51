package api

import (
	"context"
	"net/http"
	"strings"

	"github.com/cloister-os/cloister/agents/run"
	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/graph/search/lex"
	"github.com/cloister-os/cloister/node/api/wire"
)

// Remains is what is left of a conversation that was deleted.
const Remains = "The audit record says that questions were asked and that they were deleted; it holds no word of them. " +
	"Versions of the past and backups that were made before keep them until they are cut off or taken away."

type conversationInput struct {
	ID     string `path:"id" maxLength:"64"`
	Before int    `query:"before" minimum:"0" doc:"Only turns before this number, counted from 1; 0 = the newest"`
	Limit  int    `query:"limit" minimum:"1" maximum:"100" default:"100" doc:"Turns"`
}

func (a *API) conversationRoutes() {
	list := operation(http.MethodGet, "/api/v1/conversations", "list-conversations", "The caller's own conversations, the one with the newest question first")
	handle(a, list, a.conversations)
	get := operation(http.MethodGet, "/api/v1/conversations/{id}", "get-conversation", "A conversation of the caller's with its turns")
	handle(a, get, func(ctx context.Context, p auth.Principal, in *conversationInput) (*body[wire.Talk], error) {
		c, runs, err := a.cfg.Runs.Conversation(ctx, p, run.ID(in.ID), in.Before, in.Limit)
		if err != nil {
			return nil, err
		}
		out := wire.Talk{Conversation: wireConversation(c), Runs: make([]wire.Run, 0, len(runs))}
		for _, r := range runs {
			out.Runs = append(out.Runs, wireRun(r))
		}
		return &body[wire.Talk]{out}, nil
	})
	rename := operation(http.MethodPatch, "/api/v1/conversations/{id}", "rename-conversation", "Give a conversation another title")
	rename.DefaultStatus = http.StatusNoContent
	handle(a, rename, func(ctx context.Context, p auth.Principal, in *struct {
		ID   string `path:"id" maxLength:"64"`
		Body wire.Title
	}) (*none, error) {
		return nil, a.cfg.Runs.Rename(ctx, p, run.ID(in.ID), in.Body.Title)
	})
	remove := operation(http.MethodDelete, "/api/v1/conversations/{id}", "delete-conversation", "Delete a conversation with its questions and answers; one that is being answered is stopped")
	remove.DefaultStatus = http.StatusOK
	handle(a, remove, func(ctx context.Context, p auth.Principal, in *struct {
		ID string `path:"id" maxLength:"64"`
	}) (*body[wire.Forgotten], error) {
		n, err := a.cfg.Runs.Delete(ctx, p, run.ID(in.ID))
		if err != nil {
			return nil, err
		}
		return &body[wire.Forgotten]{wire.Forgotten{Turns: n, Remains: Remains}}, nil
	})
}

func (a *API) conversations(ctx context.Context, p auth.Principal, in *struct {
	Before string `query:"before" maxLength:"64" doc:"As the page before said in next"`
	Limit  int    `query:"limit" minimum:"1" maximum:"100" default:"20"`
	Title  string `query:"title" maxLength:"200" doc:"Only those with these words in their title"`
}) (*body[wire.Conversations], error) {
	list, next, err := a.cfg.Runs.Conversations(ctx, p, run.ID(in.Before), in.Limit, titled(in.Title))
	if err != nil {
		return nil, err
	}
	out := wire.Conversations{Conversations: make([]wire.Conversation, 0, len(list)), Next: string(next)}
	for _, c := range list {
		out.Conversations = append(out.Conversations, wireConversation(c))
	}
	return &body[wire.Conversations]{out}, nil
}

// titled keeps the conversations whose title holds a text, whatever its case.
func titled(text string) func(run.Conversation) bool {
	want := lex.Fold(strings.TrimSpace(text))
	if want == "" {
		return nil
	}
	return func(c run.Conversation) bool { return strings.Contains(lex.Fold(titleOf(c)), want) }
}

// titleOf is what a conversation is called: its title, else its first question.
func titleOf(c run.Conversation) string {
	if c.Title != "" {
		return c.Title
	}
	if q := run.ShortTitle(question(c.First)); q != "" {
		return q
	}
	return "A conversation whose first question has been forgotten"
}

func wireConversation(c run.Conversation) wire.Conversation {
	state := string(c.Last.State)
	if state == "" {
		state = "forgotten"
	}
	return wire.Conversation{ID: string(c.ID), Title: titleOf(c), Created: c.Created, Updated: c.Updated, Turns: c.Turns, State: state}
}
