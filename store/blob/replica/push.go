package replica

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cloister-os/cloister/store/blob"
	"github.com/cloister-os/cloister/store/blob/exchange"
)

// Bounds of pushing.
const (
	pushers      = 3
	pushAtOnce   = 64      // blobs of one request
	pushBytes    = 4 << 20 // of their bytes, but for the last
	maxQueued    = 1 << 16 // blobs that wait for nobody; those beyond are only pulled
	maxSecure    = 1 << 16 // blobs remembered as held elsewhere
	secureFor    = 10 * time.Minute
	hedgeAfter   = time.Second
	pushAgain    = 100 * time.Millisecond
	pushAgainMax = 2 * time.Second
	pushTries    = 5 // of a blob that nobody waits for
)

// pusher is what has to be held by another node before it may be named.
type pusher struct {
	wake chan struct{}

	mu     sync.Mutex
	queue  []exchange.Item
	state  map[blob.Hash]*pushed
	secure int // of state
}

// pushed is one blob. done is closed when another node holds it; since is when
// that was.
type pushed struct {
	done    chan struct{}
	since   time.Time
	waiters int
	tries   int
}

func newPusher() *pusher {
	return &pusher{wake: make(chan struct{}, 1), state: map[blob.Hash]*pushed{}}
}

func (p *pusher) waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.state) - p.secure
}

// add begins the push of a blob, or finds it under way or done.
func (p *pusher) add(item exchange.Item, must bool) *pushed {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.state[item.Hash]
	if s != nil && !s.since.IsZero() && time.Since(s.since) > secureFor {
		p.secure--
		s = nil
	}
	if s == nil {
		if !must && len(p.queue) >= maxQueued {
			return nil
		}
		s = &pushed{done: make(chan struct{})}
		p.state[item.Hash] = s
		p.queue = append(p.queue, item)
		p.signal()
	}
	if must {
		s.waiters++
	}
	return s
}

// leave says that somebody waits no longer.
func (p *pusher) leave(s *pushed) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.waiters--
}

func (p *pusher) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// take removes the next batch from the queue: one large blob, or many small ones.
func (p *pusher) take() (batch []exchange.Item) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var bytes int64
	for len(p.queue) > 0 && len(batch) < pushAtOnce && bytes < pushBytes {
		next := p.queue[0]
		if next.Size > blob.ChunkBytes && len(batch) > 0 {
			break
		}
		p.queue = p.queue[1:]
		batch = append(batch, next)
		bytes += next.Size
	}
	if len(p.queue) > 0 {
		p.signal() // for another pusher
	}
	return batch
}

// held closes what another node has taken.
func (p *pusher) held(list []blob.Hash) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.secure > maxSecure {
		for h, s := range p.state {
			if !s.since.IsZero() {
				delete(p.state, h)
			}
		}
		p.secure = 0
	}
	for _, h := range list {
		if s := p.state[h]; s != nil && s.since.IsZero() {
			s.since = time.Now()
			p.secure++
			close(s.done)
		}
	}
}

// again puts back what no node has taken, unless nobody waits for it any more.
func (p *pusher) again(batch []exchange.Item) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, item := range batch {
		s := p.state[item.Hash]
		if s == nil || !s.since.IsZero() {
			continue
		}
		if s.tries++; s.waiters <= 0 && s.tries >= pushTries {
			delete(p.state, item.Hash)
			continue
		}
		p.queue = append(p.queue, item)
	}
	p.signal()
}

// Stored implements blob.Remote: another node gets the blob at once, so that it
// need not be waited for long when it is named.
func (r *Replica) Stored(h blob.Hash, size int64) {
	if r.alone() {
		return
	}
	r.held.add(h, true)
	if r.cfg.Cluster.Voters() > 1 {
		r.push.add(exchange.Item{Hash: h, Size: size}, false)
	}
}

// Secure implements blob.Remote.
func (r *Replica) Secure(ctx context.Context, hashes []blob.Hash) error {
	if r.cfg.Cluster.Voters() <= 1 {
		return nil
	}
	waits := make([]*pushed, 0, len(hashes))
	defer func() {
		for _, s := range waits {
			r.push.leave(s)
		}
	}()
	for _, h := range hashes {
		size, err := r.cfg.Blobs.Size(h)
		if err != nil {
			return err
		}
		waits = append(waits, r.push.add(exchange.Item{Hash: h, Size: size}, true))
	}
	for _, s := range waits {
		select {
		case <-s.done:
		case <-ctx.Done():
			return fmt.Errorf("no second node has taken the blob yet: see that one more node runs, with cloister node list: %w", ctx.Err())
		}
	}
	return nil
}

// runPusher gives blobs to other nodes, as many at once as wait.
func (r *Replica) runPusher(ctx context.Context) {
	backoff := pushAgain
	for ctx.Err() == nil {
		batch := r.push.take()
		if len(batch) == 0 {
			select {
			case <-r.push.wake:
			case <-ctx.Done():
			}
			continue
		}
		held, err := r.pushBatch(ctx, batch)
		r.push.held(held)
		r.counts.pushed.Add(int64(len(held)))
		if len(held) == len(batch) {
			backoff = pushAgain
			continue
		}
		if err != nil && ctx.Err() == nil {
			r.log.Debug("Blobs could not be given to another node yet.", "count", len(batch), "error", err)
		}
		pause(ctx, backoff)
		backoff = min(2*backoff, pushAgainMax)
		r.push.again(batch)
	}
}

// pushBatch gives a batch to one node, and to the next one as well when the first
// fails or takes longer than hedgeAfter.
func (r *Replica) pushBatch(ctx context.Context, batch []exchange.Item) ([]blob.Hash, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	nodes := r.cfg.Client.Order(r.cfg.Client.Others())
	results := make(chan pushResult, len(nodes))
	hedge := time.NewTicker(hedgeAfter)
	defer hedge.Stop()
	var all error
	asked, answered := 0, 0
	for {
		if asked == answered && asked == len(nodes) {
			return nil, all
		}
		if asked == answered {
			go r.pushTo(ctx, nodes[asked], batch, results)
			asked++
		}
		select {
		case res := <-results:
			answered++
			if len(res.held) > 0 {
				return res.held, nil
			}
			all = errors.Join(all, res.err)
		case <-hedge.C:
			if asked < len(nodes) {
				go r.pushTo(ctx, nodes[asked], batch, results)
				asked++
			}
		}
	}
}

type pushResult struct {
	held []blob.Hash
	err  error
}

func (r *Replica) pushTo(ctx context.Context, node string, batch []exchange.Item, out chan<- pushResult) {
	var res pushResult
	if first := batch[0]; first.Size > blob.ChunkBytes {
		if res.err = r.cfg.Client.Hold(ctx, node, first.Hash); res.err == nil {
			res.held = []blob.Hash{first.Hash}
		}
	} else {
		res.held, res.err = r.cfg.Client.Push(ctx, node, r.cfg.Blobs, batch)
	}
	out <- res
}
