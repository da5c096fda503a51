package room

import (
	"context"
	"errors"
	"iter"
	"strings"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/connect"
	"github.com/cloister-os/cloister/ui"
	"github.com/cloister-os/cloister/ui/view"
)

type sources struct{ *Rooms }

var _ ui.Sources = sources{}

// List implements ui.Sources.
func (s sources) List(ctx context.Context, p auth.Principal) ([]view.Source, error) {
	list, err := s.cfg.Sources.List(ctx, p)
	if err != nil {
		return nil, err
	}
	out := make([]view.Source, 0, len(list))
	for _, st := range list {
		v, err := s.show(ctx, st)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

// Get implements ui.Sources.
func (s sources) Get(ctx context.Context, p auth.Principal, name string) (view.Source, error) {
	st, err := s.cfg.Sources.Get(ctx, p, name)
	if err != nil {
		return view.Source{}, connect.RefusedFirst(ctx, s.cfg.Door, p, auth.SourceRead, name, err)
	}
	return s.show(ctx, st)
}

// Add implements ui.Sources.
func (s sources) Add(ctx context.Context, p auth.Principal, kind, name, path string, audience []string) error {
	if err := graph.CheckSourceName(name); err != nil {
		return forPerson("name", err)
	}
	_, err := s.cfg.Sources.Add(ctx, p, graph.Source{Name: name, Kind: kind, Path: path, Audience: audience})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, connect.ErrExists):
		return &ui.InputError{Field: "name", Text: "There is a source of that name already."}
	default:
		return forPerson("path", err)
	}
}

// Remove implements ui.Sources.
func (s sources) Remove(ctx context.Context, p auth.Principal, name string) error {
	return connect.RefusedFirst(ctx, s.cfg.Door, p, auth.SourceManage, name, s.cfg.Sources.Remove(ctx, p, name))
}

// Sync implements ui.Sources.
func (s sources) Sync(ctx context.Context, p auth.Principal, name string) error {
	_, err := s.cfg.Sources.Sync(ctx, p, name)
	return connect.RefusedFirst(ctx, s.cfg.Door, p, auth.SourceManage, name, err)
}

// Watch implements ui.Sources.
func (s sources) Watch(ctx context.Context, p auth.Principal, name string) iter.Seq2[view.Source, error] {
	return func(yield func(view.Source, error) bool) {
		for progress, err := range s.cfg.Sources.Progress(ctx, p, name) {
			if err != nil {
				yield(view.Source{}, err)
				return
			}
			st, err := s.cfg.Sources.Get(ctx, p, name)
			if err != nil {
				yield(view.Source{}, err)
				return
			}
			st.Progress = progress
			v, err := s.show(ctx, st)
			if !yield(v, err) || err != nil {
				return
			}
		}
	}
}

func (s sources) show(ctx context.Context, st connect.Status) (view.Source, error) {
	v := view.Source{Name: st.Name, Kind: st.Kind, Path: st.Path, Audience: st.Audience, AsOf: st.Watermark, Node: st.Node, Away: st.Away}
	g := st.Progress
	switch {
	case !st.Away.IsZero():
		v.Tone, v.State = view.Warn, "its node is away"
	case st.Removing:
		v.Tone, v.State = view.Warn, "being removed"
	case g.Running:
		v.Tone, v.State = view.Live, "syncing"
	case g.Error != "":
		v.Tone, v.State = view.Bad, "failed"
	case st.Watermark.IsZero():
		v.Tone, v.State = view.Calm, "not read yet"
	default:
		v.Tone, v.State = view.OK, "up to date"
	}
	if g.Job != "" {
		v.Sync = syncOf(g)
	}
	if g.Running {
		return v, nil // counting what is being written would count it again and again
	}
	d, err := s.digests.of(ctx, s.cfg.Store, st.Name, st.Watermark)
	v.Counts, v.Try = d.counts, d.try
	return v, err
}

func syncOf(g connect.Progress) *view.Sync {
	y := &view.Sync{
		Running: g.Running, Stage: title(g.Stage), Done: g.Done, Total: g.Total, Started: g.Started, Ended: g.Finished,
		Written: g.Records, Claims: g.Claims, Bodies: g.Bodies, Skips: g.Skipped,
	}
	if g.Error != "" {
		y.Error = ui.Sentence(errors.New(g.Error))
	}
	if !g.Finished.IsZero() {
		y.Took = g.Finished.Sub(g.Started)
	}
	for _, x := range g.Skips {
		y.Skipped = append(y.Skipped, view.Skipped{Item: x.What, Why: x.Reason})
	}
	return y
}

func title(s string) string {
	if s == "" {
		return "Starting"
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
