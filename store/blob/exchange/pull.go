package exchange

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/cloister-os/cloister/store/blob"
)

// Progress is called with how much of a blob has arrived; it must not wait and
// may be called by several goroutines.
type Progress func(done, total int64)

// Pull brings a blob into a store, in place of one that is damaged, from the
// nodes of a list first and then from any. What an earlier Pull brought is not
// asked for again. ErrNowhere: no node that answers holds it.
func (c *Client) Pull(ctx context.Context, into *blob.Store, h blob.Hash, from []string, progress Progress) error {
	large, err := c.pullSmall(ctx, into, h, from, progress)
	if !large {
		return err
	}
	part, err := into.Partial(h)
	if err != nil {
		return err
	}
	for {
		as, err := c.open(ctx, h, from, blob.DefaultMaxBytes)
		if err != nil {
			return errors.Join(err, dropEmpty(part))
		}
		p := &pull{session: as, part: part, progress: progress}
		if err := p.run(ctx); errors.Is(err, errWrong) {
			continue // with the list of another node
		} else if err != nil {
			return err
		}
		err = part.Finish(ctx, len(as.list.Hashes))
		if err == nil || errors.Is(err, blob.ErrCorrupt) {
			as.verdict(ctx, err == nil)
		}
		if !errors.Is(err, blob.ErrCorrupt) {
			return err
		}
	}
}

// pullSmall is Pull of a blob that is one chunk at most, in one request. It
// reports a larger one.
func (c *Client) pullSmall(ctx context.Context, into *blob.Store, h blob.Hash, from []string, progress Progress) (large bool, err error) {
	var all reasons
	for _, node := range c.trusted(h, from) {
		came := false
		_, alone, err := c.Batch(ctx, node, []blob.Hash{h}, func(h blob.Hash, b []byte) error {
			came = true
			n, err := into.Repair(ctx, h, bytes.NewReader(b))
			if err == nil && progress != nil {
				progress(n, n)
			}
			return err
		})
		switch {
		case came || ctx.Err() != nil:
			return false, err
		case len(alone) > 0:
			return true, nil
		}
		if err != nil {
			all = append(all, err)
		}
	}
	return false, nowhere(h, all)
}

// dropEmpty removes a partial that holds nothing.
func dropEmpty(p *blob.Partial) error {
	if p.Empty() {
		return p.Drop()
	}
	return nil
}

// nowhere is the one sentence for a blob that nobody has.
func nowhere(h blob.Hash, why reasons) error {
	if len(why) > 0 {
		return fmt.Errorf("%w: %s (%w)", ErrNowhere, h, why)
	}
	return fmt.Errorf("%w: %s", ErrNowhere, h)
}

// pull is one blob on its way into a store.
type pull struct {
	*session
	part     *blob.Partial
	progress Progress

	mu     sync.Mutex
	done   int64
	failed bool
}

// run brings every chunk that is not there yet. When one cannot be had, those
// that are under way still arrive, and stay for the next time.
func (p *pull) run(ctx context.Context) error {
	var group errgroup.Group
	group.SetLimit(maxChunks)
	for i, want := range p.list.Hashes {
		if p.stopped() || ctx.Err() != nil {
			break
		}
		group.Go(func() error {
			if p.part.Has(i, want) {
				p.arrived(i)
				return nil
			}
			return p.bring(ctx, i)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

func (p *pull) stopped() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed
}

// bring brings one chunk, when there is room for it in memory.
func (p *pull) bring(ctx context.Context, i int) error {
	select {
	case p.client.chunks <- struct{}{}:
		defer func() { <-p.client.chunks }()
	case <-ctx.Done():
		return ctx.Err()
	}
	b, err := p.chunk(ctx, i)
	if err == nil {
		err = p.part.Put(i, b)
	}
	if err == nil {
		p.arrived(i)
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed = true
	return err
}

func (p *pull) arrived(i int) {
	start, end := p.list.Range(i)
	p.mu.Lock()
	p.done += end - start
	done := p.done
	p.mu.Unlock()
	if p.progress != nil {
		p.progress(done, p.list.Size)
	}
}
