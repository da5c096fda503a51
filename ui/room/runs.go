package room

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/cloister-os/cloister/agents/library"
	"github.com/cloister-os/cloister/agents/run"
	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/answer"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/ui"
	"github.com/cloister-os/cloister/ui/view"
)

type runs struct{ *Rooms }

var _ ui.Runs = runs{}

// Ask implements ui.Runs.
func (s runs) Ask(ctx context.Context, p auth.Principal, once, talk, question string) (string, error) {
	if len(question) > answer.MaxQuestionBytes {
		return "", &ui.InputError{Text: fmt.Sprintf("The question is too long: at most %d bytes.", answer.MaxQuestionBytes)}
	}
	_, conversation, err := s.cfg.Ask(ctx, p, once, run.ID(talk), question)
	if errors.Is(err, store.ErrInvalid) {
		return "", forPerson("", err)
	}
	return string(conversation), told(err)
}

// Stop implements ui.Runs.
func (s runs) Stop(ctx context.Context, p auth.Principal, id string) error {
	return told(s.cfg.Runs.Cancel(ctx, p, run.ID(id)))
}

// told translates the run room's errors into the store's kinds.
func told(err error) error {
	switch {
	case errors.Is(err, run.ErrNotFound):
		return store.ErrNotFound
	case errors.Is(err, run.ErrBusy), errors.Is(err, run.ErrStopping):
		return store.ErrBusy
	}
	for _, kind := range []error{run.ErrTurn, run.ErrFull, run.ErrMany, run.ErrEnded} {
		if errors.Is(err, kind) {
			return &ui.InputError{Text: ui.Sentence(kind)}
		}
	}
	return err
}

// get is a run as a page shows it.
func (s runs) get(ctx context.Context, p auth.Principal, id string) (view.Run, error) {
	got, err := s.cfg.Runs.Get(ctx, p, run.ID(id))
	if err != nil {
		return view.Run{}, told(err)
	}
	return s.shown(ctx, p, got)
}

func (s runs) shown(ctx context.Context, p auth.Principal, got run.Run) (view.Run, error) {
	v, err := show(got)
	if err == nil && v.Answer != nil {
		s.outcomes.put(v.ID, v.Answer.Outcome)
		err = s.freshen(ctx, p, v.Answer)
	}
	return v, err
}

// outcomes remembers how runs ended, which never changes.
type outcomes struct {
	mu    sync.Mutex
	known map[string]view.Outcome
}

const maxOutcomes = 10_000

func (o *outcomes) get(id string) (view.Outcome, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	out, ok := o.known[id]
	return out, ok
}

func (o *outcomes) put(id string, out view.Outcome) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.known == nil || len(o.known) >= maxOutcomes {
		o.known = map[string]view.Outcome{}
	}
	o.known[id] = out
}

// outcome is how a run that the principal may list ended, without the answer.
func (s runs) outcome(ctx context.Context, p auth.Principal, id string) (*view.Answer, error) {
	if out, ok := s.outcomes.get(id); ok {
		return &view.Answer{Outcome: out}, nil
	}
	got, err := s.cfg.Runs.Get(ctx, p, run.ID(id))
	if err != nil {
		return nil, told(err)
	}
	v, err := show(got)
	if err != nil || v.Answer == nil {
		return nil, err
	}
	s.outcomes.put(id, v.Answer.Outcome)
	return &view.Answer{Outcome: v.Answer.Outcome}, nil
}

// Watch implements ui.Runs.
func (s runs) Watch(ctx context.Context, p auth.Principal, id string) iter.Seq2[view.Run, error] {
	return func(yield func(view.Run, error) bool) {
		v, err := s.get(ctx, p, id)
		if !yield(v, err) || err != nil || !v.Running {
			return
		}
		for ev, err := range s.cfg.Runs.Events(ctx, p, run.ID(id), 0) {
			if err == nil && ev.Last() {
				v, err = s.get(ctx, p, id)
			} else if ev.Kind == run.KindStage {
				v.Stages = stagesAt(ev.Step, view.Live)
			} else if err == nil {
				continue
			}
			if !yield(v, told(err)) || err != nil {
				return
			}
		}
	}
}

// steps are those of the agent that answers.
var steps = []struct{ step, name string }{
	{"recall", "Recall"}, {"understand", "Understand"}, {"gather", "Gather"}, {"compose", "Compose"}, {"verify", "Verify"}, {"cite", "Cite"},
}

// stagesAt is how far a run is: before the step all is done, after it nothing.
func stagesAt(step string, tone view.Tone) []view.Stage {
	at := slices.IndexFunc(steps, func(x struct{ step, name string }) bool { return x.step == step })
	out := make([]view.Stage, len(steps))
	for i, x := range steps {
		out[i] = view.Stage{Name: x.name, Tone: view.Calm}
		switch {
		case i < at:
			out[i].Tone = view.OK
		case i == at:
			out[i].Tone = tone
		}
	}
	return out
}

func show(got run.Run) (view.Run, error) {
	var q library.Question
	if err := got.Input(&q); err != nil {
		return view.Run{}, fmt.Errorf("question of run %s: %w", got.ID, err)
	}
	v := view.Run{ID: string(got.ID), Talk: string(got.Conversation), Question: q.Text, Memory: q.Memory, Running: got.State == run.Running, Asked: got.Started, Cost: got.Cost}
	if !got.Ended.IsZero() {
		v.Took = got.Ended.Sub(got.Started)
	}
	switch got.State {
	case run.Running:
		v.Stages = stagesAt(got.Step, view.Live)
	case run.Failed:
		v.Failed = ui.Sentence(errors.New(got.Error))
		v.Stages = stagesAt(got.Step, view.Bad)
	case run.Cancelled:
		v.Failed, v.Stopped = "You stopped it before it had an answer.", true
	default:
		v.Stages = stagesAt("", view.OK)
		for i := range v.Stages {
			v.Stages[i].Tone = view.OK
		}
	}
	if len(got.Result) > 0 {
		var a struct {
			answer.Answer
			Memories []library.Told `json:"memories"`
		}
		if err := json.Unmarshal(got.Result, &a); err != nil {
			return v, fmt.Errorf("answer of run %s: %w", got.ID, err)
		}
		v.Answer = showAnswer(a.Answer, v.ID)
		for _, m := range a.Memories {
			v.Answer.Memories = append(v.Answer.Memories, view.Told{ID: m.ID, Role: string(m.Role), Sentence: m.Sentence, Words: m.Words, Replaces: m.Replaces, Forgotten: m.Forgotten, Created: m.Created, Run: m.Run})
		}
	}
	return v, nil
}

func showAnswer(a answer.Answer, id string) *view.Answer {
	out := &view.Answer{Outcome: view.Outcome(a.Outcome), Understood: a.Understood, Unclear: a.Unclear != ""}
	for _, r := range a.Resolved {
		out.Resolved = append(out.Resolved, view.Fact{Name: r.Words, Text: r.Means})
	}
	for i, c := range a.Citations {
		out.Citations = append(out.Citations, showCitation(i+1, c, id))
	}
	for _, f := range a.Freshness {
		out.Freshness = append(out.Freshness, view.Fresh{Source: f.Source, AsOf: f.AsOf})
	}
	switch a.Outcome {
	case answer.Stated:
		out.Spans = spans(a.Answer)
		if n := len(out.Citations); n > 0 && n <= 9 && len(out.Spans) > 0 {
			last := &out.Spans[len(out.Spans)-1]
			for i := range n {
				last.Cites = append(last.Cites, i+1)
			}
		}
	case answer.Closest:
		out.Note, _, _ = strings.Cut(a.Answer, "\n") // the passages themselves stand below
	default:
		out.Note = strings.TrimSpace(strings.TrimPrefix(a.Answer, "The sources do not say."))
	}
	return out
}

// spans splits an answer's text at its bold marks.
func spans(text string) []view.Span {
	var out []view.Span
	parts := strings.Split(text, "**")
	for i, part := range parts {
		bold := i%2 == 1
		if bold && i == len(parts)-1 { // a mark without its end is text
			part, bold = "**"+part, false
		}
		if part != "" {
			out = append(out, view.Span{Text: part, Strong: bold})
		}
	}
	return out
}

func showCitation(n int, c answer.Citation, id string) view.Citation {
	kind, native := parts(c.Record)
	v := view.Citation{
		N: n, Kind: kind, Source: c.Source, Title: c.Title, URI: native, Text: c.Text, Version: uint64(c.Version), SHA256: c.SHA256,
		URL: ui.CiteURL(ui.Cite{Source: c.Source, Record: c.Record, Version: uint64(c.Version), Start: int64(c.Start), End: int64(c.End), SHA256: c.SHA256}, id),
	}
	if v.Title == "" {
		v.Title = c.Record
	}
	v.Raw = v.Kind != graph.StreamDocument
	return v
}

// parts are the stream of a record and what a person knows it by there.
func parts(record string) (kind, native string) {
	id, err := graph.ParseRecordID(record)
	if err != nil {
		return "", record
	}
	if id.Stream == graph.StreamCommit && len(id.Native) > 12 {
		return id.Stream, id.Native[:12]
	}
	return id.Stream, id.Native
}

// freshen adds how each source stands now to how fresh it was.
func (s runs) freshen(ctx context.Context, p auth.Principal, a *view.Answer) error {
	list, err := s.cfg.Sources.List(ctx, p)
	if err != nil {
		return err
	}
	for i := range a.Freshness {
		f := &a.Freshness[i]
		f.Tone, f.State = view.Calm, "removed since"
		for _, st := range list {
			if st.Name != f.Source {
				continue
			}
			switch {
			case st.Progress.Running:
				f.Tone, f.State = view.Live, "syncing"
			case st.Progress.Error != "":
				f.Tone, f.State = view.Bad, "last sync failed"
			default:
				f.Tone, f.State = view.OK, "up to date"
			}
		}
	}
	return nil
}
