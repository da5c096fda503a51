package replica

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/cloister-os/cloister/store/blob"
)

// scrubEvery is how often all blobs are read to find damage, at most: a slow pace
// over many blobs takes longer.
const scrubEvery = 7 * 24 * time.Hour

// scrubAfter leaves a node that has just started to what is more urgent.
const scrubAfter = 5 * time.Minute

// runScrub reads every blob of this node at a bounded rate, for ever. It begins
// anywhere, so that a node that is often restarted gets to all of them as well.
func (r *Replica) runScrub(ctx context.Context) {
	if r.cfg.ScrubBytes < 0 {
		return
	}
	var first blob.Hash
	first[0] = byte(rand.Uint32())
	pause(ctx, scrubAfter)
	for ctx.Err() == nil {
		began := r.cfg.Now()
		if err := r.Scrub(ctx, first); err != nil && ctx.Err() == nil {
			r.log.Warn("The search for damaged blobs was interrupted; it begins again later.", "error", err)
		}
		first = blob.Hash{}
		pause(ctx, max(time.Minute, scrubEvery-r.cfg.Now().Sub(began)))
	}
}

// Scrub reads every blob from a name on and repairs those that are damaged.
func (r *Replica) Scrub(ctx context.Context, from blob.Hash) error {
	for info, err := range r.cfg.Blobs.List() {
		if err != nil {
			return err
		}
		if compare(info.Hash, from) < 0 {
			continue
		}
		if err := r.check(ctx, info.Hash); err != nil {
			return err
		}
	}
	return nil
}

// check verifies one blob and repairs it. Only the context's end is an error.
func (r *Replica) check(ctx context.Context, h blob.Hash) error {
	_, err := r.cfg.Blobs.Verify(h, func(n int) error { return r.pace(ctx, n) })
	switch {
	case errors.Is(err, blob.ErrCorrupt):
		_ = r.Fetch(ctx, h, true) // it says itself how that went; the next scrub tries again
	case err != nil && ctx.Err() == nil && !errors.Is(err, blob.ErrNotFound):
		r.log.Error("A blob cannot be read; it will be tried again.", "blob", h, "error", err)
	}
	return ctx.Err()
}

// pace waits for as long as n bytes take at the configured rate.
func (r *Replica) pace(ctx context.Context, n int) error {
	r.counts.scrubbed.Add(int64(n))
	if r.cfg.ScrubBytes > 0 {
		pause(ctx, time.Duration(n)*time.Second/time.Duration(r.cfg.ScrubBytes))
	}
	return ctx.Err()
}

// Doubt says that a blob of this node may be damaged; it is looked at soon.
func (r *Replica) Doubt(h blob.Hash) {
	select {
	case r.doubted <- h:
	default: // the scrub gets to it
	}
}

func (r *Replica) runDoubts(ctx context.Context) {
	for {
		select {
		case h := <-r.doubted:
			if r.check(ctx, h) != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}
