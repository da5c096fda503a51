package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/cloister-os/cloister/agents/run"
	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/node/api/wire"
)

func rawRequest(ctx huma.Context) *http.Request {
	r, _ := humago.Unwrap(ctx)
	return r
}

type askInput struct {
	Accept string `header:"Accept" doc:"text/event-stream: the run's events as they happen"`
	Key    string `header:"Idempotency-Key" maxLength:"200" doc:"The same key asks once, however often it is sent and through whichever node"`
	Last   string `header:"Last-Event-ID" maxLength:"20" doc:"With the key of an earlier sending: only events with a greater number"`
	Body   wire.Question
}

type runInput struct {
	ID string `path:"id" maxLength:"64"`
}

type eventsInput struct {
	ID   string `path:"id" maxLength:"64"`
	From uint64 `query:"from" doc:"Only events with a greater number"`
	Last string `header:"Last-Event-ID" maxLength:"20" doc:"As from: what a browser sends when it connects again"`
}

func (a *API) askRoutes() {
	ask := operation(http.MethodPost, "/api/v1/ask", "ask", "Ask a question: the final answer as JSON, or the run's events when text/event-stream is accepted")
	ask.Responses = answerResponse(a.huma)
	handle(a, ask, a.ask)
	get := operation(http.MethodGet, "/api/v1/runs/{id}", "get-run", "A run that the caller started")
	handle(a, get, func(ctx context.Context, p auth.Principal, in *runInput) (*body[wire.Run], error) {
		r, err := a.cfg.Runs.Get(ctx, p, run.ID(in.ID))
		if err != nil {
			return nil, err
		}
		return &body[wire.Run]{wireRun(r)}, nil
	})
	list := operation(http.MethodGet, "/api/v1/runs", "list-runs", "The caller's own runs, newest first")
	handle(a, list, func(ctx context.Context, p auth.Principal, in *struct {
		Before string `query:"before" maxLength:"64" doc:"Only runs started before this one"`
		Limit  int    `query:"limit" minimum:"1" maximum:"100" default:"20"`
	}) (*body[[]wire.Run], error) {
		runs, err := a.cfg.Runs.List(ctx, p, run.ID(in.Before), in.Limit)
		if err != nil {
			return nil, err
		}
		out := make([]wire.Run, 0, len(runs))
		for _, r := range runs {
			out = append(out, wireRun(r))
		}
		return &body[[]wire.Run]{out}, nil
	})
	events := operation(http.MethodGet, "/api/v1/runs/{id}/events", "run-events", "A run's events, from any number on (server-sent events)")
	handle(a, events, func(ctx context.Context, p auth.Principal, in *eventsInput) (*huma.StreamResponse, error) {
		from, err := after(in.Last, in.From)
		if err != nil {
			return nil, err
		}
		return a.stream(ctx, a.runEvents(ctx, p, run.ID(in.ID), from))
	})
	stop := operation(http.MethodDelete, "/api/v1/runs/{id}", "stop-run", "Stop a run; only whoever started it may")
	handle(a, stop, func(ctx context.Context, p auth.Principal, in *runInput) (*none, error) {
		return nil, a.cfg.Runs.Cancel(ctx, p, run.ID(in.ID))
	})
}

// after is the number of the event after which to go on: what a browser, or a
// client that connects again, has seen.
func after(last string, from uint64) (uint64, error) {
	if last == "" {
		return from, nil
	}
	n, err := strconv.ParseUint(last, 10, 63)
	if err != nil {
		return 0, problem(http.StatusBadRequest, "Last-Event-ID is not a number.", "")
	}
	return n, nil
}

func (a *API) ask(ctx context.Context, p auth.Principal, in *askInput) (*huma.StreamResponse, error) {
	from, err := after(in.Last, 0)
	if err != nil {
		return nil, err
	}
	id, _, err := a.cfg.Ask(ctx, p, in.Key, run.ID(in.Body.Conversation), in.Body.Question)
	if err != nil {
		return nil, err
	}
	if strings.Contains(in.Accept, "text/event-stream") {
		return a.stream(ctx, a.runEvents(ctx, p, id, from))
	}
	answer, err := a.await(ctx, p, id)
	if err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		hc.SetHeader("Content-Type", "application/json")
		hc.SetStatus(http.StatusOK)
		_, _ = hc.BodyWriter().Write(answer) // the client may have gone
	}}, nil
}

// await waits for a run's last event and returns the answer as JSON.
func (a *API) await(ctx context.Context, p auth.Principal, id run.ID) ([]byte, error) {
	for ev, err := range a.cfg.Runs.Events(ctx, p, id, 0) {
		if err != nil {
			return nil, err
		}
		switch ev.Kind {
		case run.KindFinal:
			return completed(ev, id)
		case run.KindCancelled:
			return nil, problem(http.StatusConflict, "The run was stopped.", "")
		case run.KindFailed:
			return nil, failed(ev, id)
		}
	}
	return nil, errors.New("a run's events ended without a last one")
}

func failed(ev run.Event, id run.ID) error {
	var why struct{ Error string }
	if err := json.Unmarshal(ev.Data, &why); err != nil {
		return err
	}
	return problem(http.StatusInternalServerError, "The run failed.", fmt.Sprintf("Run %s: %s.", id, strings.TrimSuffix(why.Error, ".")))
}

// completed is the answer of a final event, with the run's id, conversation and
// cost.
func completed(ev run.Event, id run.ID) ([]byte, error) {
	var answer map[string]json.RawMessage
	if err := json.Unmarshal(ev.Data, &answer); err != nil {
		return nil, fmt.Errorf("result of run %s: %w", id, err)
	}
	answer["run"], _ = json.Marshal(string(id))
	answer["conversation"], _ = json.Marshal(string(ev.Conversation))
	answer["cost_nano_usd"], _ = json.Marshal(ev.Cost)
	return json.Marshal(answer)
}

// runEvents yields a run's events as messages. The final one is the complete answer.
func (a *API) runEvents(ctx context.Context, p auth.Principal, id run.ID, from uint64) iter.Seq2[message, error] {
	return func(yield func(message, error) bool) {
		for ev, err := range a.cfg.Runs.Events(ctx, p, id, from) {
			if err != nil {
				yield(message{}, err)
				return
			}
			out := wire.Event{N: ev.N, Kind: ev.Kind, Step: ev.Step, Time: ev.Time, Data: ev.Data}
			if ev.Kind == run.KindFinal {
				if out.Data, err = completed(ev, id); err != nil {
					yield(message{}, err)
					return
				}
			}
			if !yield(message{id: ev.N, kind: ev.Kind, data: out}, nil) {
				return
			}
		}
	}
}

func wireRun(r run.Run) wire.Run {
	out := wire.Run{
		ID: string(r.ID), Conversation: string(r.Conversation), Question: question(r), Agent: r.Agent, Version: r.Version, State: string(r.State), Step: r.Step,
		Started: r.Started, Error: r.Error, CostNanoUSD: r.Cost, Result: r.Result,
	}
	if !r.Ended.IsZero() {
		out.Ended = &r.Ended
	}
	return out
}

// question is what a run was asked, "" when it was started with something else.
func question(r run.Run) string {
	var in struct {
		Text string `json:"text"`
	}
	if r.Input(&in) != nil {
		return ""
	}
	return in.Text
}

func answerResponse(api huma.API) map[string]*huma.Response {
	schema := huma.SchemaFromType(api.OpenAPI().Components.Schemas, typeOf[wire.Answer]())
	events := huma.SchemaFromType(api.OpenAPI().Components.Schemas, typeOf[wire.Event]())
	return map[string]*huma.Response{"200": {Description: "The answer", Content: map[string]*huma.MediaType{
		"application/json": {Schema: schema}, "text/event-stream": {Schema: events},
	}}}
}
