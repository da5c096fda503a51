package api

import (
	"context"
	"errors"
	"iter"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/connect"
	"github.com/cloister-os/cloister/node/api/wire"
)

type sourceInput struct {
	Name string `path:"name" maxLength:"64"`
}

func (a *API) sourceRoutes() {
	list := operation(http.MethodGet, "/api/v1/sources", "list-sources", "The sources that the caller may read, by name")
	handle(a, list, func(ctx context.Context, p auth.Principal, _ *none) (*body[[]wire.Source], error) {
		out := []wire.Source{}
		// A list of nothing is no refusal: what may not be read is not there.
		all, err := a.cfg.Sources.List(ctx, p)
		for _, s := range all {
			out = append(out, WireSource(s))
		}
		return &body[[]wire.Source]{out}, err
	})
	add := operation(http.MethodPost, "/api/v1/sources", "add-source", "Connect a system; its first sync begins at once")
	add.DefaultStatus = http.StatusCreated
	handle(a, add, func(ctx context.Context, p auth.Principal, in *body[wire.NewSource]) (*body[wire.Source], error) {
		b := in.Body
		src, err := a.cfg.Sources.Add(ctx, p, graph.Source{Name: b.Name, Kind: b.Kind, Path: b.Path, Audience: b.Audience, Node: b.Node})
		if err != nil {
			return nil, a.unreadable(err)
		}
		return &body[wire.Source]{WireSource(connect.Status{Source: src})}, nil
	})
	get := operation(http.MethodGet, "/api/v1/sources/{name}", "get-source", "One source, with how its last sync went and how fresh it is")
	handle(a, get, func(ctx context.Context, p auth.Principal, in *sourceInput) (*body[wire.Source], error) {
		s, err := a.source(ctx, p, in.Name)
		if err != nil {
			return nil, err
		}
		return &body[wire.Source]{WireSource(s)}, nil
	})
	remove := operation(http.MethodDelete, "/api/v1/sources/{name}", "remove-source", "Disconnect a system and forget what came from it")
	handle(a, remove, func(ctx context.Context, p auth.Principal, in *sourceInput) (*none, error) {
		return nil, a.refusedFirst(ctx, p, auth.SourceManage, in.Name, a.cfg.Sources.Remove(ctx, p, in.Name))
	})
	sync := operation(http.MethodPost, "/api/v1/sources/{name}/sync", "sync-source", "Begin a sync, or name the one under way")
	handle(a, sync, func(ctx context.Context, p auth.Principal, in *sourceInput) (*body[wire.Job], error) {
		job, err := a.cfg.Sources.Sync(ctx, p, in.Name)
		if err != nil {
			return nil, a.refusedFirst(ctx, p, auth.SourceManage, in.Name, err)
		}
		return &body[wire.Job]{wire.Job{Job: job}}, nil
	})
	progress := operation(http.MethodGet, "/api/v1/sources/{name}/progress", "source-progress", "How the source's sync stands, now and whenever it changes (server-sent events)")
	handle(a, progress, func(ctx context.Context, p auth.Principal, in *sourceInput) (*huma.StreamResponse, error) {
		if _, err := a.source(ctx, p, in.Name); err != nil {
			return nil, err
		}
		return a.stream(ctx, a.syncing(ctx, p, in.Name))
	})
}

// unreadable is the answer to a source that the connector could not read: its
// errors are sentences for whoever connects it.
func (a *API) unreadable(err error) error {
	if kindOf(err) != nil || errors.Is(err, context.Canceled) {
		return err
	}
	return problem(http.StatusUnprocessableEntity, "The source cannot be read.", sentence(err))
}

// source reads one source, on record when it is refused.
func (a *API) source(ctx context.Context, p auth.Principal, name string) (connect.Status, error) {
	s, err := a.cfg.Sources.Get(ctx, p, name)
	if err != nil {
		return s, a.refusedFirst(ctx, p, auth.SourceRead, name, err)
	}
	return s, nil
}

// refusedFirst puts on record what is refused as if it did not exist.
func (a *API) refusedFirst(ctx context.Context, p auth.Principal, action auth.Action, name string, err error) error {
	return connect.RefusedFirst(ctx, a.cfg.Door, p, action, name, err)
}

// syncing yields a source's progress.
func (a *API) syncing(ctx context.Context, p auth.Principal, name string) iter.Seq2[message, error] {
	return func(yield func(message, error) bool) {
		for state, err := range a.cfg.Sources.Progress(ctx, p, name) {
			if !yield(message{kind: "progress", data: wireProgress(state)}, err) || err != nil {
				return
			}
		}
	}
}

// WireSource is a source as clients see it.
func WireSource(s connect.Status) wire.Source {
	return wire.Source{
		Name: s.Name, Kind: s.Kind, Path: s.Path, Audience: s.Audience, Added: s.Added(), AsOf: s.Watermark, Removing: s.Removing,
		Node: s.Node, Away: s.Away, Progress: wireProgress(s.Progress),
	}
}

func wireProgress(p connect.Progress) wire.Progress {
	out := wire.Progress{
		Job: p.Job, Running: p.Running, Stage: p.Stage, Done: p.Done, Total: p.Total, Records: p.Records, Claims: p.Claims,
		Bodies: p.Bodies, Skipped: p.Skipped, Error: p.Error, Started: p.Started, Finished: p.Finished,
	}
	for _, s := range p.Skips {
		out.Skips = append(out.Skips, wire.Skip{What: s.What, Reason: s.Reason})
	}
	return out
}
