package exchange

import (
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
	part, err := into.Partial(h)
	if err != nil {
		return err
	}
	for {
		list, giver, err := c.anyList(ctx, h, from, blob.DefaultMaxBytes)
		if err != nil {
			return errors.Join(err, dropEmpty(part))
		}
		p := &pull{client: c, hash: h, list: list, from: from, part: part, progress: progress}
		if err := p.run(ctx); err != nil {
			return err
		}
		err = part.Finish(ctx, len(list.Hashes))
		if !errors.Is(err, blob.ErrCorrupt) {
			return err
		}
		// Every chunk is as listed and the whole is not the blob: the list lied.
		c.distrust(ctx, giver, h)
	}
}

// dropEmpty removes a partial that holds nothing.
func dropEmpty(p *blob.Partial) error {
	if p.Empty() {
		return p.Drop()
	}
	return nil
}

// anyList asks one node after the other for a blob's chunks.
func (c *Client) anyList(ctx context.Context, h blob.Hash, from []string, max int64) (list blob.Chunks, giver string, err error) {
	var all error
	for _, node := range c.trusted(h, from) {
		list, err := c.list(ctx, node, h, max)
		if err == nil {
			return list, node, nil
		}
		if ctx.Err() != nil {
			return list, "", ctx.Err()
		}
		if !errors.Is(err, errNotHeld) {
			all = errors.Join(all, err)
		}
	}
	return list, "", nowhere(h, all)
}

// nowhere is the one sentence for a blob that nobody has.
func nowhere(h blob.Hash, why error) error {
	if why != nil {
		return fmt.Errorf("%w: %s (%w)", ErrNowhere, h, why)
	}
	return fmt.Errorf("%w: %s", ErrNowhere, h)
}

// pull is one blob on its way into a store.
type pull struct {
	client   *Client
	hash     blob.Hash
	list     blob.Chunks
	from     []string
	part     *blob.Partial
	progress Progress

	mu   sync.Mutex
	done int64
}

// run brings every chunk that is not there yet.
func (p *pull) run(ctx context.Context) error {
	group, within := errgroup.WithContext(ctx)
	group.SetLimit(maxChunks)
	for i, want := range p.list.Hashes {
		if within.Err() != nil {
			break
		}
		group.Go(func() error {
			if p.part.Has(i, want) {
				p.arrived(i)
				return nil
			}
			return p.bring(within, i)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// bring brings one chunk, when there is room for it in memory.
func (p *pull) bring(ctx context.Context, i int) error {
	select {
	case p.client.chunks <- struct{}{}:
		defer func() { <-p.client.chunks }()
	case <-ctx.Done():
		return ctx.Err()
	}
	b, err := p.client.anyChunk(ctx, p.hash, p.list, i, p.from)
	if err == nil {
		err = p.part.Put(i, b)
	}
	if err == nil {
		p.arrived(i)
	}
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

// anyChunk asks one node after the other for a chunk, beginning with another one
// for each chunk, and returns it verified.
func (c *Client) anyChunk(ctx context.Context, h blob.Hash, list blob.Chunks, i int, from []string) ([]byte, error) {
	var all error
	nodes := c.trusted(h, from)
	for k := range nodes {
		b, err := c.chunk(ctx, nodes[(k+i)%len(nodes)], h, list, i)
		if err == nil {
			return b, nil
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		all = errors.Join(all, err)
	}
	return nil, nowhere(h, all)
}
