package replica

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cloister-os/cloister/store/blob"
	"github.com/cloister-os/cloister/store/blob/exchange"
)

// Bounds of pulling.
const (
	pullers      = 2
	pullAtOnce   = 64
	pullBytes    = 4 << 20 // of small blobs in one request
	putsAtOnce   = 8
	maxWants     = 1 << 16 // beyond it the next look at everything finds the rest
	wantAgain    = time.Second
	wantAgainMax = time.Minute
)

// wants are the blobs that this node should hold and does not.
type wants struct {
	wake chan struct{}
	now  func() time.Time

	mu    sync.Mutex
	queue []blob.Hash
	state map[blob.Hash]*want
	bytes int64
}

// want is one blob. from is the node that named it.
type want struct {
	size  int64
	from  string
	taken bool
	tries int
	after time.Time
}

func newWants(now func() time.Time) *wants {
	return &wants{wake: make(chan struct{}, 1), now: now, state: map[blob.Hash]*want{}}
}

func (w *wants) add(h blob.Hash, size int64, from string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state[h] != nil || len(w.state) >= maxWants {
		return
	}
	w.state[h] = &want{size: size, from: from}
	w.bytes += size
	w.queue = append(w.queue, h)
	w.signal()
}

func (w *wants) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *wants) count() (int, int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.state), w.bytes
}

// take removes the next batch, of one namer, from the queue. When none is due it
// says for how long there will be none.
func (w *wants) take() (batch []exchange.Item, from string, wait time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now()
	wait = wantAgainMax
	var bytes int64
	var rest []blob.Hash
	for i, h := range w.queue {
		s := w.state[h]
		if s == nil {
			continue
		}
		if len(batch) == pullAtOnce || bytes >= pullBytes {
			rest = append(rest, w.queue[i:]...)
			break
		}
		if due := s.after.Sub(now); due > 0 {
			wait = min(wait, due)
			rest = append(rest, h)
			continue
		}
		alone := s.size > blob.ChunkBytes
		if len(batch) > 0 && (alone || s.from != from) {
			rest = append(rest, h)
			continue
		}
		s.taken, from = true, s.from
		batch = append(batch, exchange.Item{Hash: h, Size: s.size})
		if bytes += s.size; alone {
			rest = append(rest, w.queue[i+1:]...)
			break
		}
	}
	w.queue = rest
	if len(batch) > 0 && len(rest) > 0 {
		w.signal()
	}
	return batch, from, wait
}

// done takes what is here now, or no longer wanted, out.
func (w *wants) done(h blob.Hash) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s := w.state[h]; s != nil {
		w.bytes -= s.size
		delete(w.state, h)
	}
}

// again puts back what did not come.
func (w *wants) again(batch []exchange.Item) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, item := range batch {
		s := w.state[item.Hash]
		if s == nil || !s.taken {
			continue
		}
		s.taken = false
		s.after = w.now().Add(min(wantAgain<<min(s.tries, 6), wantAgainMax))
		s.tries++
		w.queue = append(w.queue, item.Hash)
	}
}

// runPuller brings what is missing, as many small blobs at once as there are.
func (r *Replica) runPuller(ctx context.Context) {
	for ctx.Err() == nil {
		batch, from, wait := r.wants.take()
		if len(batch) == 0 {
			t := time.NewTimer(wait)
			select {
			case <-r.wants.wake:
			case <-t.C:
			case <-ctx.Done():
			}
			t.Stop()
			continue
		}
		if err := r.pullBatch(ctx, batch, from); err != nil && ctx.Err() == nil {
			r.log.Debug("Blobs did not come from another node yet.", "count", len(batch), "error", err)
		}
		r.wants.again(batch)
	}
}

// pullBatch asks the node that named the blobs, and then the others, for what is
// still missing.
func (r *Replica) pullBatch(ctx context.Context, batch []exchange.Item, from string) (all error) {
	if batch[0].Size > blob.ChunkBytes {
		return r.Fetch(ctx, batch[0].Hash, false)
	}
	left := make([]blob.Hash, 0, len(batch))
	for _, item := range batch {
		if r.cfg.Blobs.Has(item.Hash) { // pushed here meanwhile
			r.arrived(item.Hash, 0)
			continue
		}
		left = append(left, item.Hash)
	}
	for _, node := range r.cfg.Client.Order(append([]string{from}, r.cfg.Client.Others()...)) {
		if len(left) == 0 {
			return nil
		}
		if node == r.cfg.Node || node == "" {
			continue
		}
		alone, err := r.pullFrom(ctx, node, left)
		all = errors.Join(all, err)
		for _, h := range alone {
			all = errors.Join(all, r.Fetch(ctx, h, false))
		}
		left = r.missing(left)
	}
	if len(left) > 0 {
		all = errors.Join(all, fmt.Errorf("%w: %d blobs", exchange.ErrNowhere, len(left)))
	}
	return all
}

func (r *Replica) missing(list []blob.Hash) (out []blob.Hash) {
	for _, h := range list {
		if !r.cfg.Blobs.Has(h) {
			out = append(out, h)
		}
	}
	return out
}

// pullFrom asks one node for small blobs and keeps what comes.
func (r *Replica) pullFrom(ctx context.Context, node string, list []blob.Hash) (alone []blob.Hash, err error) {
	var puts errgroup.Group
	puts.SetLimit(putsAtOnce)
	_, alone, err = r.cfg.Client.Batch(ctx, node, list, func(h blob.Hash, b []byte) error {
		puts.Go(func() error {
			err := r.cfg.Blobs.Receive(ctx, h, b)
			if err == nil {
				r.arrived(h, int64(len(b)))
			}
			return err
		})
		return nil
	})
	return alone, errors.Join(err, puts.Wait())
}

// arrived counts a blob that came, and tells the others.
func (r *Replica) arrived(h blob.Hash, size int64) {
	r.wants.done(h)
	r.held.add(h, true)
	if size > 0 {
		r.counts.pulled.Add(1)
		r.counts.pulledBytes.Add(size)
	}
}

// flight is one blob on its way here, whoever waits for it.
type flight struct {
	done chan struct{}
	err  error // once done is closed
}

// Fetch implements blob.Remote. A blob goes on arriving when the caller leaves.
func (r *Replica) Fetch(ctx context.Context, h blob.Hash, damaged bool) error {
	if damaged {
		r.counts.damaged.Add(1)
	}
	if err := r.bring(ctx, h, nil); err != nil {
		if damaged {
			r.log.Error("A blob on this node's disk is damaged, and no other node has given it yet.", "blob", h, "error", err)
		}
		return err
	}
	if damaged {
		r.counts.repaired.Add(1)
		r.log.Warn("A blob on this node's disk was damaged; it was repaired from another node.", "blob", h)
	}
	return nil
}

// Hold brings a blob here for another node, which holds it.
func (r *Replica) Hold(ctx context.Context, h blob.Hash, from string) error {
	if _, err := r.cfg.Blobs.Verify(h, nil); err == nil {
		r.Received(h)
		return nil
	}
	return r.bring(ctx, h, []string{from})
}

// Received hears of a blob that another node pushed here.
func (r *Replica) Received(h blob.Hash) { r.arrived(h, 0) }

// bring waits for a blob's flight, and begins it when there is none.
func (r *Replica) bring(ctx context.Context, h blob.Hash, from []string) error {
	if r.alone() {
		return fmt.Errorf("%w, for there is no other node: bring it back from a backup", exchange.ErrNowhere)
	}
	select {
	case <-r.ready:
	case <-ctx.Done():
		return ctx.Err()
	}
	r.mu.Lock()
	f := r.flights[h]
	if f == nil {
		f = &flight{done: make(chan struct{})}
		r.flights[h] = f
		go r.fly(r.ctx, f, h, from)
	}
	r.mu.Unlock()
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return fmt.Errorf("blob %s is still on its way from another node: try again in a moment: %w", h, ctx.Err())
	}
}

func (r *Replica) fly(ctx context.Context, f *flight, h blob.Hash, from []string) {
	from = append(from, r.holders(ctx, h)...)
	f.err = r.cfg.Client.Pull(ctx, r.cfg.Blobs, h, from, nil)
	if f.err == nil {
		size, _ := r.cfg.Blobs.Size(h)
		r.arrived(h, max(size, 1))
	}
	r.mu.Lock()
	delete(r.flights, h)
	r.mu.Unlock()
	close(f.done)
}
