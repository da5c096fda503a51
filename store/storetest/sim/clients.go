package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/consensus"
)

// history is what clients did and were told.
type history struct {
	mu    sync.Mutex // guards all below
	ops   []*op
	acked store.Version // the newest that was acknowledged to anybody
}

// op is one call of a client.
type op struct {
	id         string
	begin, end time.Time
	tx         *store.Tx // nil for a read
	res        store.Result
	err        error
	unknown    bool          // it may have happened, whatever the last answer says
	known      store.Version // of a read: what was acknowledged before it began
	fresh      bool
	version    store.Version // of a read
	key        store.Key
	item       store.Item // what was read, ErrNotFound in err
}

func (h *history) add(o *op) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, o)
	if o.tx != nil && o.err == nil {
		h.acked = max(h.acked, o.res.Version)
	}
}

func (h *history) newest() store.Version {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.acked
}

// client is one caller.
type client struct {
	*cluster
	rnd  *rand.Rand
	name string
	n    int
}

// run calls until the run ends.
func (c *client) run() {
	for c.ctx.Err() == nil {
		n := c.nodes[c.rnd.IntN(len(c.nodes))]
		if live := n.present(); live != nil {
			c.n++
			if c.rnd.IntN(3) == 0 {
				c.read(live, n.id)
			} else {
				c.write(live, n.id)
			}
		}
		time.Sleep(time.Duration(c.rnd.IntN(60)) * time.Millisecond)
	}
}

// write applies a transaction, and sends it again for as long as its outcome is
// unknown and it has the patience.
func (c *client) write(live *consensus.Node, at string) {
	o := &op{id: fmt.Sprintf("%s-%d", c.name, c.n), begin: time.Now()}
	o.tx = store.NewTx()
	o.tx.Append(calls, []byte(o.id))
	addOps(o.tx, someTx(c.rnd, o.id, c.seen(live)).Ops())
	c.Logf("%s at %s: %s", o.id, at, kinds(o.tx))
	for range 4 {
		ctx, cancel := context.WithTimeout(c.ctx, time.Duration(50+c.rnd.IntN(5000))*time.Millisecond)
		if c.rnd.IntN(2) == 0 {
			o.res, o.err = live.Apply(ctx, o.tx)
		} else {
			o.res, o.err = live.Submit(ctx, o.tx, store.Class(c.rnd.IntN(2))).Wait(c.ctx)
			o.unknown = o.unknown || c.ctx.Err() != nil && errors.Is(o.err, c.ctx.Err()) // it goes on
		}
		cancel()
		o.unknown = o.unknown || errors.Is(o.err, store.ErrUnknown)
		if !errors.Is(o.err, store.ErrUnknown) || c.rnd.IntN(4) == 0 {
			break
		}
		time.Sleep(time.Duration(c.rnd.IntN(1000)) * time.Millisecond)
	}
	o.end = time.Now()
	c.Logf("%s: %d %v %v %v", o.id, o.res.Version, o.res.Seqs, o.res.Sums, o.err)
	c.hist.add(o)
	if o.err == nil {
		if v := live.Applied(); v < o.res.Version {
			c.Failf("%s was acknowledged at %d by a node that shows %d", o.id, o.res.Version, v)
		}
	}
}

// seen tells a key's version as a node shows it.
func (c *client) seen(live *consensus.Node) func(store.Key) store.Version {
	return func(k store.Key) (v store.Version) {
		ctx, cancel := context.WithTimeout(c.ctx, 100*time.Millisecond)
		defer cancel()
		_ = live.View(ctx, store.Local, func(s store.Snapshot) error {
			item, err := s.Get(k)
			v = item.Version
			return err
		})
		return v
	}
}

func kinds(tx *store.Tx) string {
	out := ""
	for _, o := range tx.Ops() {
		out += fmt.Sprintf("%d %s ", o.Kind, o.Key)
	}
	return out
}

// read reads a key, mostly linearizably.
func (c *client) read(live *consensus.Node, at string) {
	o := &op{id: fmt.Sprintf("%s-%d", c.name, c.n), fresh: c.rnd.IntN(4) > 0, key: someKey(c.rnd)}
	o.known, o.begin = c.hist.newest(), time.Now()
	how := store.Local
	if o.fresh {
		how = store.Fresh
	}
	ctx, cancel := context.WithTimeout(c.ctx, 5*time.Second)
	defer cancel()
	o.err = live.View(ctx, how, func(s store.Snapshot) error {
		o.version = s.Version()
		var err error
		o.item, err = s.Get(o.key)
		return err
	})
	o.end = time.Now()
	c.Logf("%s at %s: read %s (fresh %v): %d at %d %v", o.id, at, o.key, o.fresh, o.item.Version, o.version, o.err)
	c.hist.add(o)
}
