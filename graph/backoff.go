package graph

import (
	"context"
	"time"
)

// backoff waits longer each time, up to a second.
type backoff struct {
	next time.Duration
}

func newBackoff() *backoff { return &backoff{next: 5 * time.Millisecond} }

func (b *backoff) wait(ctx context.Context) error {
	t := time.NewTimer(b.next)
	defer t.Stop()
	b.next = min(2*b.next, time.Second)
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
