package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
)

// rooms is what has been opened, in order, and what runs in the background.
// It is closed in reverse.
type rooms struct {
	log    *slog.Logger
	closes []closing
	fatal  chan error // one error at most: the node cannot go on
}

type closing struct {
	name  string
	close func() error
}

func newRooms(log *slog.Logger) *rooms { return &rooms{log: log, fatal: make(chan error, 1)} }

// opened registers how to close what was just opened.
func (r *rooms) opened(name string, close func() error) {
	r.closes = append(r.closes, closing{name, close})
}

// runs works in the background until the room is closed. An error before that
// ends the node.
func (r *rooms) runs(name string, work func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() {
		if err := work(ctx); err != nil && ctx.Err() == nil {
			r.fail(fmt.Errorf("%s: %w", name, err))
		}
	})
	r.opened(name, func() error {
		cancel()
		ended.Wait()
		return nil
	})
}

// fail says that the node cannot go on. The first error counts.
func (r *rooms) fail(err error) {
	select {
	case r.fatal <- err:
	default:
	}
}

// Close closes everything, the newest first.
func (r *rooms) Close() error {
	var errs []error
	for _, c := range slices.Backward(r.closes) {
		if err := c.close(); err != nil {
			errs = append(errs, fmt.Errorf("close %s: %w", c.name, err))
		}
	}
	r.closes = nil
	return errors.Join(errs...)
}
