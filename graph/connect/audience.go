package connect

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/store"
)

// SetAudience says anew who may read a source. It counts from the next read on:
// on this node at once, on the others within a second. Whoever manages a source
// may do so, also one that they cannot read; who was added and who was taken out
// is on record. An unknown source is store.ErrNotFound.
func (s *Service) SetAudience(ctx context.Context, p auth.Principal, name string, audience []string) (graph.Source, error) {
	audience, err := graph.CheckAudience(audience)
	if err != nil {
		return graph.Source{}, err
	}
	var src graph.Source
	_, err = s.cfg.Store.Update(ctx, func(u *store.Update) error {
		if err := guard.OnceOf(ctx).Claim(u, nil); err != nil {
			return err
		}
		item, err := u.Get(graph.SpaceSource.Key(name))
		if err == nil {
			src, err = graph.DecodeSource(item.Value)
		}
		if err != nil {
			return unseen(name, err)
		}
		permit, err := s.cfg.Door.Begin(ctx, u.Tx, audienceRequest(p, src, audience))
		if err != nil {
			return err
		}
		if src.Removing {
			return fmt.Errorf("source %q: %w", name, ErrRemoved)
		}
		src.Audience = audience
		if err := graph.PutSource(u.Tx, src, item.Value); err != nil {
			return err
		}
		return s.cfg.Door.Finish(u.Tx, permit, guard.Outcome{Status: guard.StatusOK})
	})
	var before *guard.DoneError
	if errors.As(err, &before) {
		return s.source(ctx, name)
	}
	if err != nil {
		return graph.Source{}, err
	}
	return src, nil
}

func audienceRequest(p auth.Principal, src graph.Source, audience []string) guard.Request {
	r := request(p, auth.SourceManage, src, "audience")
	r.Args = map[string]any{"audience": audience}
	r.Detail["added"], r.Detail["removed"] = without(audience, src.Audience), without(src.Audience, audience)
	return r
}

// without is what of a list is not in another.
func without(list, other []string) []string {
	out := []string{}
	for _, x := range list {
		if !slices.Contains(other, x) {
			out = append(out, x)
		}
	}
	return out
}
