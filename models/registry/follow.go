package registry

import (
	"context"
	"errors"

	"github.com/cloister-os/cloister/store"
)

// Follow calls f now and whenever a route has changed, until the context ends,
// whose error it returns.
func (r *Registry) Follow(ctx context.Context, f func()) error {
	return r.follow(ctx, routes.Prefix(), f)
}

func (r *Registry) follow(ctx context.Context, prefix store.Key, f func()) error {
	from := r.store.Applied()
	f()
	for ctx.Err() == nil {
		for change, err := range r.store.Watch(ctx, prefix, from) {
			if errors.Is(err, store.ErrCompacted) {
				break
			}
			if err != nil {
				return err
			}
			from = change.Version
			f()
		}
		from = r.store.Applied()
		f()
	}
	return ctx.Err()
}
