package room

import (
	"context"
	"strings"

	"github.com/cloister-os/cloister/agents/run"
	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/graph/answer"
	"github.com/cloister-os/cloister/graph/search/lex"
	"github.com/cloister-os/cloister/ui"
	"github.com/cloister-os/cloister/ui/view"
)

type talks struct{ *Rooms }

var _ ui.Talks = talks{}

// turnsOnPage is how many turns of a conversation are shown at once.
const turnsOnPage = 20

// List implements ui.Talks.
func (s talks) List(ctx context.Context, p auth.Principal, title, before string, limit int) ([]view.Talk, string, error) {
	var filter func(run.Conversation) bool
	if want := lex.Fold(title); want != "" {
		filter = func(c run.Conversation) bool { return strings.Contains(lex.Fold(titleOf(c)), want) }
	}
	list, older, err := s.cfg.Runs.Conversations(ctx, p, run.ID(before), limit, filter)
	if err != nil {
		return nil, "", told(err)
	}
	var out []view.Talk
	for _, c := range list {
		t, err := talkOf(c)
		if err == nil && c.Last.State == run.Done {
			t.Last.Answer, err = runs(s).outcome(ctx, p, t.Last.ID)
		}
		if err != nil {
			return nil, "", err
		}
		out = append(out, t)
	}
	return out, string(older), nil
}

// Get implements ui.Talks.
func (s talks) Get(ctx context.Context, p auth.Principal, id string, before int) (view.Talk, error) {
	c, list, err := s.cfg.Runs.Conversation(ctx, p, run.ID(id), before, turnsOnPage)
	if err != nil {
		return view.Talk{}, told(err)
	}
	t, err := talkOf(c)
	if err != nil {
		return t, err
	}
	last := c.Turns
	if before > 0 {
		last = min(before-1, c.Turns)
	}
	t.Before = max(1, last-turnsOnPage+1)
	for i, got := range list {
		v, err := runs(s).shown(ctx, p, got)
		if err != nil {
			return t, err
		}
		v.Earlier = i < len(list)-1
		t.Runs = append(t.Runs, v)
	}
	return t, nil
}

// Rename implements ui.Talks.
func (s talks) Rename(ctx context.Context, p auth.Principal, id, title string) error {
	return told(s.cfg.Runs.Rename(ctx, p, run.ID(id), title))
}

// Delete implements ui.Talks.
func (s talks) Delete(ctx context.Context, p auth.Principal, id string) error {
	_, err := s.cfg.Runs.Delete(ctx, p, run.ID(id))
	return told(err)
}

// talkOf is a conversation without its turns.
func talkOf(c run.Conversation) (view.Talk, error) {
	t := view.Talk{ID: string(c.ID), Title: titleOf(c), Turns: c.Turns, Updated: c.Updated}
	if c.Last.State == "" {
		return t, nil
	}
	var err error
	t.Last, err = show(c.Last)
	return t, err
}

// titleOf is what a conversation is called: its title, else its first question.
func titleOf(c run.Conversation) string {
	var q answer.Question
	if c.Title == "" && c.First.State != "" && c.First.Input(&q) == nil {
		return run.ShortTitle(q.Text)
	}
	if c.Title == "" {
		return "A conversation whose first question has been forgotten"
	}
	return c.Title
}
