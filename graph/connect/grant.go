package connect

import (
	"context"
	"errors"
	"fmt"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/store"
)

// Grantable refuses to let somebody give an API key a source that they may not
// read themselves: else whoever makes keys would read what no audience lets them.
// A name that no source has is nobody's to refuse.
func (s *Service) Grantable(ctx context.Context, p auth.Principal, names []string) error {
	if s.cfg.Door.Decide(ctx, guard.Request{Principal: p, Action: auth.KeyManage, Resource: auth.TheSystem}) != nil {
		return nil // they make no key at all, and learn nothing here of what there is
	}
	for _, name := range names {
		src, err := s.source(ctx, name)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err == nil {
			err = graph.MayRead(ctx, s.cfg.Door, p, src)
		}
		if errors.Is(err, auth.ErrDenied) && p.Root().Kind == auth.User {
			return fmt.Errorf("you may not read source %q yourself, so you cannot let a key read it: somebody of its audience can, or change the audience first: %w", name, store.ErrInvalid)
		}
		if err != nil && !errors.Is(err, auth.ErrDenied) { // a key that makes keys is bounded by its own sources
			return err
		}
	}
	return nil
}
