package guard

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cloister-os/cloister/store"
)

// Bounds of the batch of outcomes.
const (
	batchDelay = 20 * time.Millisecond // well below the 50 ms that are promised
	batchSize  = 64                    // outcomes of one transaction
	batchQueue = 1024                  // outcomes that wait; whoever comes next waits too

	outcomeOps   = 48       // more than one outcome ever adds
	outcomeBytes = 24 << 10 // a leaf and its counters
)

// batch collects the outcomes of reads, so that a read costs one transaction of
// its own and not two.
type batch struct {
	guard *Guard
	slots chan struct{} // one for each outcome that waits or is being written

	mu      sync.Mutex // guards all below
	waiting []ended
	timer   *time.Timer
	closed  bool

	writing sync.WaitGroup
}

// ended is an act that has ended and whose outcome waits.
type ended struct {
	permit  *Permit
	outcome Outcome
}

func newBatch(g *Guard) *batch { return &batch{guard: g, slots: make(chan struct{}, batchQueue)} }

// add queues an outcome. It waits while the queue is full.
func (b *batch) add(ctx context.Context, p *Permit, out Outcome) error {
	select {
	case b.slots <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("the outcome of %s could not be recorded in time: %w", p.request.Action, ctx.Err())
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting = append(b.waiting, ended{p, out})
	switch {
	case b.closed || len(b.waiting) >= batchSize:
		b.start()
	case b.timer == nil:
		b.timer = time.AfterFunc(batchDelay, func() {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.start()
		})
	}
	return nil
}

// start writes what waits; b.mu is held.
func (b *batch) start() {
	if b.timer != nil {
		b.timer.Stop()
		b.timer = nil
	}
	list := b.waiting
	b.waiting = nil
	if len(list) == 0 {
		return
	}
	b.writing.Add(1)
	go func() {
		defer b.writing.Done()
		b.write(list)
		for range list {
			<-b.slots
		}
	}()
}

// write puts the outcomes into as few transactions as hold them.
func (b *batch) write(list []ended) {
	ctx, cancel := context.WithTimeout(context.Background(), recordWithin)
	defer cancel()
	for len(list) > 0 {
		n, err := b.writeSome(ctx, list)
		if err != nil && !errors.Is(err, store.ErrUnknown) {
			// One of them spoils the transaction: each gets its own.
			for _, e := range list[:n] {
				_ = b.guard.writeOutcome(ctx, e.permit, e.outcome) // it logs; nobody waits for it
			}
		}
		list = list[n:]
	}
}

// writeSome writes as many as one transaction holds, at least one, and says how
// many those were.
func (b *batch) writeSome(ctx context.Context, list []ended) (n int, err error) {
	err = b.guard.retry(ctx, func() (*store.Tx, error) {
		tx := store.NewTx()
		for n = 0; n < len(list) && (n == 0 || tx.Fits(outcomeOps, outcomeBytes)); n++ {
			if err := b.guard.finish(tx, list[n].permit, list[n].outcome); err != nil {
				n++
				for _, e := range list[:n] {
					e.permit.ended(tx, err)
				}
				return nil, err
			}
		}
		return tx, nil
	})
	return n, err
}

func (b *batch) close() error {
	b.mu.Lock()
	b.closed = true
	b.start()
	b.mu.Unlock()
	b.writing.Wait()
	return nil
}
